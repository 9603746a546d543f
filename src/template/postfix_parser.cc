// What follows a primary expression in parser.h: attributes, items, calls, filters and tests.
#include "template/filters.h"
#include "template/parser.h"

namespace sluice::jinja {

ExpressionPtr Parser::ParsePostfix(ExpressionPtr node) {
  while (!failed()) {
    if (AtOperator(".") || AtOperator("[")) {
      node = ParseSubscript(std::move(node));
    } else if (AtOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      break;
    }
  }
  return node;
}

ExpressionPtr Parser::ParseFilters(ExpressionPtr node) {
  while (!failed()) {
    if (AtOperator("|")) {
      node = ParseFilterChain(std::move(node), false);
    } else if (SkipName("is")) {
      node = ParseTest(std::move(node));
    } else if (AtOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      break;
    }
  }
  return node;
}

const std::string* Parser::ParseDottedName() {
  std::string name = *ExpectName();
  while (!failed() && SkipOperator(".")) name.append(".").append(*ExpectName());
  return &template_->names[template_->Intern(name)];
}

ExpressionPtr Parser::ParseFilterChain(ExpressionPtr node, bool first_without_pipe) {
  while (!failed() && (first_without_pipe || SkipOperator("|"))) {
    first_without_pipe = false;
    ExpressionPtr filter = NewExpression(ExpressionKind::kFilter);
    filter->text = ParseDottedName();
    filter->builtin = FindFilter(*filter->text);
    filter->children.push_back(std::move(node));
    if (SkipOperator("(")) filter->arguments = ParseArguments();
    node = Seal(std::move(filter));
  }
  return node;
}

ExpressionPtr Parser::ParseTest(ExpressionPtr node) {
  ExpressionPtr test = NewExpression(ExpressionKind::kTest);
  test->negated = SkipName("not");
  test->text = ParseDottedName();
  test->builtin = FindTest(*test->text);
  test->children.push_back(std::move(node));
  if (SkipOperator("(")) {
    test->arguments = ParseArguments();
    return Seal(std::move(test));
  }
  const bool starts_argument = At(TokenKind::kName) || At(TokenKind::kString) ||
                               At(TokenKind::kInteger) || At(TokenKind::kFloat) ||
                               AtOperator("[") || AtOperator("{");
  if (starts_argument && !AtName("else") && !AtName("or") && !AtName("and")) {
    if (AtName("is")) Fail("tests cannot be chained with 'is'");
    test->arguments = std::make_unique<Arguments>();
    test->arguments->positional.push_back(ParsePostfix(ParsePrimary()));
  }
  return Seal(std::move(test));
}

ExpressionPtr Parser::ParseSubscript(ExpressionPtr node) {
  if (SkipOperator("[")) {
    ExpressionPtr item = ParseSubscriptKey(std::move(node));
    ExpectOperator("]");
    return item;
  }
  Next();
  if (At(TokenKind::kInteger)) return Make(ExpressionKind::kItem, std::move(node), ParseNumber());
  ExpressionPtr attribute = NewExpression(ExpressionKind::kAttribute);
  attribute->text = ExpectName();
  attribute->children.push_back(std::move(node));
  return Seal(std::move(attribute));
}

ExpressionPtr Parser::ParseSubscriptKey(ExpressionPtr node) {
  ExpressionPtr first = AtOperator(":") ? nullptr : ParseExpression();
  if (!SkipOperator(":")) {
    if (!AtOperator(",")) return Make(ExpressionKind::kItem, std::move(node), std::move(first));
    ExpressionPtr tuple = Make(ExpressionKind::kTuple, std::move(first));
    while (!failed() && SkipOperator(",")) tuple->children.push_back(ParseExpression());
    return Make(ExpressionKind::kItem, std::move(node), Seal(std::move(tuple)));
  }
  const auto bound = [this]() -> ExpressionPtr {
    if (AtOperator(":") || AtOperator("]")) return nullptr;
    return ParseExpression();
  };
  ExpressionPtr stop = bound();
  ExpressionPtr step = SkipOperator(":") ? bound() : nullptr;
  return Make(ExpressionKind::kSlice, std::move(node), std::move(first), std::move(stop),
              std::move(step));
}

ExpressionPtr Parser::ParseCall(ExpressionPtr node) {
  ExpressionPtr call = NewExpression(ExpressionKind::kCall);
  Next();
  call->children.push_back(std::move(node));
  call->arguments = ParseArguments();
  return Seal(std::move(call));
}

std::unique_ptr<Arguments> Parser::ParseArguments() {
  auto arguments = std::make_unique<Arguments>();
  while (!failed() && !AtOperator(")")) {
    ParseArgument(*arguments);
    if (!AtOperator(")")) ExpectOperator(",");
  }
  ExpectOperator(")");
  return arguments;
}

void Parser::ParseArgument(Arguments& arguments) {
  if (SkipOperator("**")) {
    if (arguments.double_star != nullptr) return Fail("a call has two ** arguments");
    arguments.double_star = ParseExpression();
  } else if (SkipOperator("*")) {
    if (arguments.star != nullptr || arguments.double_star != nullptr)
      return Fail("a call has a misplaced * argument");
    arguments.star = ParseExpression();
  } else if (At(TokenKind::kName) && Ahead().kind == TokenKind::kOperator && Ahead().text == "=") {
    if (arguments.double_star != nullptr) return Fail("a keyword argument follows a ** argument");
    const std::string* name = ExpectName();
    Next();
    arguments.keywords.emplace_back(name, ParseExpression());
  } else {
    if (arguments.star != nullptr || arguments.double_star != nullptr ||
        !arguments.keywords.empty()) {
      return Fail("a positional argument follows a keyword argument");
    }
    arguments.positional.push_back(ParseExpression());
  }
}

}  // namespace sluice::jinja
