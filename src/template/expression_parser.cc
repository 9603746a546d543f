// The expressions of parser.h.
#include <fmt/format.h>

#include <charconv>

#include "template/parser.h"

namespace sluice::jinja {
namespace {

struct OperatorName {
  std::string_view text;
  ArithmeticOp op;
};
constexpr OperatorName kSumOperators[] = {{"+", ArithmeticOp::kAdd}, {"-", ArithmeticOp::kSub}};
constexpr OperatorName kProductOperators[] = {{"*", ArithmeticOp::kMul},
                                              {"/", ArithmeticOp::kDiv},
                                              {"//", ArithmeticOp::kFloorDiv},
                                              {"%", ArithmeticOp::kMod}};
constexpr OperatorName kPowerOperators[] = {{"**", ArithmeticOp::kPow}};

template <size_t kSize>
const OperatorName* Match(const OperatorName (&table)[kSize], const Token& token) {
  if (token.kind != TokenKind::kOperator) return nullptr;
  for (const OperatorName& entry : table) {
    if (entry.text == token.text) return &entry;
  }
  return nullptr;
}

struct ComparisonName {
  std::string_view text;
  CompareOp op;
};
constexpr ComparisonName kComparisons[] = {{"==", CompareOp::kEq}, {"!=", CompareOp::kNe},
                                           {"<", CompareOp::kLt},  {"<=", CompareOp::kLe},
                                           {">", CompareOp::kGt},  {">=", CompareOp::kGe}};

const ComparisonName* MatchComparison(const Token& token) {
  if (token.kind != TokenKind::kOperator) return nullptr;
  for (const ComparisonName& entry : kComparisons) {
    if (entry.text == token.text) return &entry;
  }
  return nullptr;
}

// A few tree levels for each level of nesting the parser counts; left-deep chains (a.b.c, x|f|g)
// add to the tree only.
constexpr int32_t kHeightPerDepth = 2;

}  // namespace

ExpressionPtr Parser::NewExpression(ExpressionKind kind) {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = Current().line;
  return node;
}

ExpressionPtr Parser::NewConstant(Value value) {
  ExpressionPtr node = NewExpression(ExpressionKind::kConstant);
  node->constant = value;
  return node;
}

ExpressionPtr Parser::Seal(ExpressionPtr node) {
  int32_t height = 0;
  const auto add = [&height](const ExpressionPtr& child) {
    if (child != nullptr) height = std::max(height, child->height);
  };
  for (const ExpressionPtr& child : node->children) add(child);
  if (node->arguments != nullptr) {
    for (const ExpressionPtr& child : node->arguments->positional) add(child);
    for (const auto& [name, child] : node->arguments->keywords) add(child);
    add(node->arguments->star);
    add(node->arguments->double_star);
  }
  node->height = height + 1;
  if (node->height > kHeightPerDepth * max_depth_)
    Fail(fmt::format("an expression nests deeper than {} levels", max_depth_));
  return node;
}

ExpressionPtr Parser::ParseTuple(bool with_condition, std::string_view end_name,
                                 bool parenthesized) {
  const auto at_end = [&] {
    return At(TokenKind::kVariableEnd) || At(TokenKind::kBlockEnd) || AtOperator(")") ||
           At(TokenKind::kEnd) || (!end_name.empty() && AtName(end_name));
  };
  ExpressionPtr tuple = NewExpression(ExpressionKind::kTuple);
  bool is_tuple = false;
  while (!failed() && !at_end()) {
    tuple->children.push_back(ParseExpression(with_condition));
    if (!SkipOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && tuple->children.size() == 1) return std::move(tuple->children.front());
  if (!is_tuple && !parenthesized) Fail("expected an expression");
  return Seal(std::move(tuple));
}

ExpressionPtr Parser::ParseExpression(bool with_condition) {
  const Level level(*this);
  ExpressionPtr node = ParseOr();
  while (with_condition && !failed() && SkipName("if")) {
    ExpressionPtr condition = ParseOr();
    ExpressionPtr otherwise = SkipName("else") ? ParseExpression() : nullptr;
    node = Make(ExpressionKind::kConditional, std::move(node), std::move(condition),
                std::move(otherwise));
  }
  return node;
}

ExpressionPtr Parser::ParseOr() {
  ExpressionPtr node = ParseAnd();
  if (!AtName("or")) return node;
  ExpressionPtr chain = Make(ExpressionKind::kOr, std::move(node));
  while (!failed() && SkipName("or")) chain->children.push_back(ParseAnd());
  return Seal(std::move(chain));
}

ExpressionPtr Parser::ParseAnd() {
  ExpressionPtr node = ParseNot();
  if (!AtName("and")) return node;
  ExpressionPtr chain = Make(ExpressionKind::kAnd, std::move(node));
  while (!failed() && SkipName("and")) chain->children.push_back(ParseNot());
  return Seal(std::move(chain));
}

ExpressionPtr Parser::ParseNot() {
  if (!AtName("not")) return ParseCompare();
  const Level level(*this);
  Next();
  return Make(ExpressionKind::kNot, ParseNot());
}

ExpressionPtr Parser::ParseCompare() {
  ExpressionPtr node = ParseSum();
  ExpressionPtr chain;
  while (!failed()) {
    CompareOp op = CompareOp::kIn;
    if (const ComparisonName* comparison = MatchComparison(Current())) {
      op = comparison->op;
      Next();
    } else if (AtName("not") && Ahead().kind == TokenKind::kName && Ahead().text == "in") {
      op = CompareOp::kNotIn;
      Next();
      Next();
    } else if (!SkipName("in")) {
      break;
    }
    if (chain == nullptr) chain = Make(ExpressionKind::kCompare, std::move(node));
    chain->comparisons.push_back(op);
    chain->children.push_back(ParseSum());
  }
  return chain == nullptr ? std::move(node) : Seal(std::move(chain));
}

ExpressionPtr Parser::ParseSum() {
  ExpressionPtr node = ParseConcat();
  if (Match(kSumOperators, Current()) == nullptr) return node;
  ExpressionPtr chain = Make(ExpressionKind::kArithmetic, std::move(node));
  while (const OperatorName* entry = Match(kSumOperators, Current())) {
    Next();
    chain->arithmetic.push_back(entry->op);
    chain->children.push_back(ParseConcat());
  }
  return Seal(std::move(chain));
}

ExpressionPtr Parser::ParseConcat() {
  ExpressionPtr node = ParseProduct();
  if (!AtOperator("~")) return node;
  ExpressionPtr chain = Make(ExpressionKind::kConcat, std::move(node));
  while (!failed() && SkipOperator("~")) chain->children.push_back(ParseProduct());
  return Seal(std::move(chain));
}

ExpressionPtr Parser::ParseProduct() {
  ExpressionPtr node = ParsePower();
  if (Match(kProductOperators, Current()) == nullptr) return node;
  ExpressionPtr chain = Make(ExpressionKind::kArithmetic, std::move(node));
  while (const OperatorName* entry = Match(kProductOperators, Current())) {
    Next();
    chain->arithmetic.push_back(entry->op);
    chain->children.push_back(ParsePower());
  }
  return Seal(std::move(chain));
}

ExpressionPtr Parser::ParsePower() {
  ExpressionPtr node = ParseUnary(true);
  if (Match(kPowerOperators, Current()) == nullptr) return node;
  ExpressionPtr chain = Make(ExpressionKind::kArithmetic, std::move(node));
  while (const OperatorName* entry = Match(kPowerOperators, Current())) {
    Next();
    chain->arithmetic.push_back(entry->op);
    chain->children.push_back(ParseUnary(true));
  }
  return Seal(std::move(chain));
}

ExpressionPtr Parser::ParseUnary(bool with_filter) {
  const Level level(*this);
  ExpressionPtr node;
  if (SkipOperator("-")) {
    node = Make(ExpressionKind::kNegative, ParseUnary(false));
  } else if (SkipOperator("+")) {
    node = Make(ExpressionKind::kPositive, ParseUnary(false));
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  return with_filter ? ParseFilters(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::ParsePrimary() {
  switch (Current().kind) {
    case TokenKind::kName:
      return ParseNameOrConstant();
    case TokenKind::kString:
      return ParseStringLiteral();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return ParseNumber();
    default:
      break;
  }
  if (SkipOperator("(")) {
    ExpressionPtr node = ParseTuple(true, "", true);
    ExpectOperator(")");
    return node;
  }
  if (SkipOperator("[")) return ParseList();
  if (SkipOperator("{")) return ParseDict();
  Fail("expected an expression");
  return NewConstant(Value());
}

ExpressionPtr Parser::ParseNameOrConstant() {
  ExpressionPtr node = NewExpression(ExpressionKind::kConstant);
  const Token token = Next();
  const std::string& name = token.text;
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node->constant = Value::Bool(name == "true" || name == "True");
  } else if (name == "none" || name == "None") {
    node->constant = Value::None();
  } else {
    if (name[0] >= '0' && name[0] <= '9') Fail("expected an expression");
    node->kind = ExpressionKind::kName;
    node->name = template_->Intern(name);
    node->text = &template_->names[node->name];
    mentioned_.insert(node->name);
  }
  return node;
}

ExpressionPtr Parser::ParseStringLiteral() {
  std::string text;
  while (At(TokenKind::kString)) text += Next().text;  // neighbours join, as in Python
  template_->literals.emplace_back(std::move(text), Origin::kTemplate);
  return NewConstant(Value::String(&template_->literals.back()));
}

ExpressionPtr Parser::ParseNumber() {
  const Token token = Next();
  const std::string& text = token.text;
  const char* end = text.data() + text.size();
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    if (std::from_chars(text.data(), end, value).ec != std::errc())
      Fail("a number is out of range");
    return NewConstant(Value::Float(value));
  }
  const char letter = text.size() > 2 ? static_cast<char>(text[1] | 0x20) : '\0';
  const int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
  int64_t value = 0;
  const auto result = std::from_chars(text.data() + (base == 10 ? 0 : 2), end, value, base);
  if (result.ec != std::errc() || result.ptr != end) Fail("an integer does not fit 64 bits");
  return NewConstant(Value::Int(value));
}

ExpressionPtr Parser::ParseList() {
  ExpressionPtr node = NewExpression(ExpressionKind::kList);
  while (!failed() && !AtOperator("]")) {
    node->children.push_back(ParseExpression());
    if (!AtOperator("]")) ExpectOperator(",");
  }
  ExpectOperator("]");
  return Seal(std::move(node));
}

ExpressionPtr Parser::ParseDict() {
  ExpressionPtr node = NewExpression(ExpressionKind::kDict);
  while (!failed() && !AtOperator("}")) {
    node->children.push_back(ParseExpression());
    ExpectOperator(":");
    node->children.push_back(ParseExpression());
    if (!AtOperator("}")) ExpectOperator(",");
  }
  ExpectOperator("}");
  return Seal(std::move(node));
}

}  // namespace sluice::jinja
