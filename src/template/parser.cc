#include "template/parser.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status_macros.h"

namespace sluice::jinja {

absl::StatusOr<std::unique_ptr<Template>> ParseTemplate(std::string_view source,
                                                        int32_t max_depth) {
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens), max_depth).Run();
}

NameId Template::Intern(std::string_view name) {
  const auto found = ids.find(name);
  if (found != ids.end()) return found->second;
  const auto id = static_cast<NameId>(names.size());
  names.emplace_back(name);
  ids.emplace(names.back(), id);
  return id;
}

Parser::Parser(std::vector<Token> tokens, int32_t max_depth)
    : tokens_(std::move(tokens)), max_depth_(max_depth), template_(std::make_unique<Template>()) {
  for (const std::string_view name :
       {"loop", "caller", "varargs", "kwargs", "bos_token", "eos_token"})
    template_->Intern(name);
}

absl::StatusOr<std::unique_ptr<Template>> Parser::Run() {
  template_->body = ParseBody({});
  if (failed()) return status_;
  return std::move(template_);
}

void Parser::Fail(std::string_view message) {
  if (!failed()) status_ = SyntaxError(Current().line, message);
}

void Parser::EnterLevel() {
  if (++level_ > max_depth_) Fail(fmt::format("nests deeper than {} levels", max_depth_));
}

const Token& Parser::Current() const { return failed() ? end_ : tokens_[at_]; }

const Token& Parser::Ahead() const {
  return failed() || at_ + 1 >= tokens_.size() ? end_ : tokens_[at_ + 1];
}

Token Parser::Next() {
  if (failed()) return end_;
  Token token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;  // the end token is never passed
  return token;
}

bool Parser::AtName(std::string_view name) const {
  return At(TokenKind::kName) && Current().text == name;
}
bool Parser::AtOperator(std::string_view op) const {
  return At(TokenKind::kOperator) && Current().text == op;
}

bool Parser::SkipName(std::string_view name) {
  const bool here = AtName(name);
  if (here) Next();
  return here;
}

bool Parser::SkipOperator(std::string_view op) {
  const bool here = AtOperator(op);
  if (here) Next();
  return here;
}

void Parser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) Fail(fmt::format("expected '{}'", op));
}

void Parser::ExpectBlockEnd() {
  if (!At(TokenKind::kBlockEnd)) return Fail("expected the end of the block tag");
  Next();
}

const std::string* Parser::ExpectName() {
  if (!At(TokenKind::kName)) Fail("expected a name");
  return &template_->names[template_->Intern(Next().text)];
}

StatementPtr Parser::NewStatement(StatementKind kind) {
  auto node = std::make_unique<Statement>();
  node->kind = kind;
  node->line = Current().line;
  return node;
}

Body Parser::ParseBody(std::initializer_list<std::string_view> end_names) {
  Body body;
  const Level level(*this);
  while (!failed()) {
    switch (Current().kind) {
      case TokenKind::kData: {
        StatementPtr node = NewStatement(StatementKind::kText);
        node->text = TracedString(Next().text, Origin::kTemplate);
        body.push_back(std::move(node));
        break;
      }
      case TokenKind::kVariableBegin: {
        Next();
        StatementPtr node = NewStatement(StatementKind::kPrint);
        node->expression = ParseTuple(true, "", false);
        if (!At(TokenKind::kVariableEnd)) Fail("expected the end of the expression tag");
        Next();
        body.push_back(std::move(node));
        break;
      }
      case TokenKind::kBlockBegin: {
        const Token& word = Ahead();
        if (word.kind == TokenKind::kName &&
            std::find(end_names.begin(), end_names.end(), word.text) != end_names.end()) {
          Next();
          return body;
        }
        Next();
        body.push_back(ParseStatement());
        break;
      }
      default:
        if (end_names.size() > 0) Fail(fmt::format("expected '{}'", *(end_names.end() - 1)));
        return body;
    }
  }
  return body;
}

StatementPtr Parser::ParseStatement() {
  if (!At(TokenKind::kName)) {
    Fail("expected a tag name");
    return nullptr;
  }
  StatementPtr node = NewStatement(StatementKind::kText);
  const std::string word = Next().text;
  if (word == "if") return ParseIf(std::move(node));
  if (word == "for") return ParseFor(std::move(node));
  if (word == "set") return ParseSet(std::move(node));
  if (word == "macro") return ParseMacro(std::move(node));
  if (word == "call") return ParseCallBlock(std::move(node));
  if (word == "filter") return ParseFilterBlock(std::move(node));
  if (word == "with") return ParseWith(std::move(node));
  if (word == "generation") return ParseScopeBlock(std::move(node), "endgeneration");
  if (word == "block") return ParseScopeBlock(std::move(node), "endblock");
  if (word == "print") {
    node->kind =
        StatementKind::kPrint;  // several expressions are printed without blanks, as ~ joins them
    ExpressionPtr list = Make(ExpressionKind::kConcat, ParseExpression());
    while (!failed() && SkipOperator(",")) list->children.push_back(ParseExpression());
    node->expression = Seal(std::move(list));
  } else if (word == "break" || word == "continue") {
    if (loops_ == 0) Fail(fmt::format("'{}' outside of a loop", word));
    node->kind = word == "break" ? StatementKind::kBreak : StatementKind::kContinue;
  } else {
    Fail(fmt::format("unknown or unsupported tag '{}'", word));
  }
  ExpectBlockEnd();
  return node;
}

void Parser::EndBlock(std::string_view end_name) {
  if (!SkipName(end_name)) Fail(fmt::format("expected '{}'", end_name));
  ExpectBlockEnd();
}

StatementPtr Parser::ParseIf(StatementPtr node) {
  node->kind = StatementKind::kIf;
  node->branches.push_back({ParseTuple(false, "", false), {}});
  ExpectBlockEnd();
  while (!failed()) {
    node->branches.back().body = ParseBody({"elif", "else", "endif"});
    if (SkipName("elif")) {
      node->branches.push_back({ParseTuple(false, "", false), {}});
      ExpectBlockEnd();
    } else if (SkipName("else")) {
      ExpectBlockEnd();
      node->branches.push_back({nullptr, ParseBody({"endif"})});
      break;
    } else {
      break;
    }
  }
  EndBlock("endif");
  return node;
}

StatementPtr Parser::ParseFor(StatementPtr node) {
  node->kind = StatementKind::kFor;
  node->target = ParseTarget(false, true);
  if (!SkipName("in")) Fail("expected 'in'");
  node->expression = ParseTuple(false, "recursive", false);
  if (SkipName("if")) node->condition = ParseExpression();
  node->recursive = SkipName("recursive");
  ExpectBlockEnd();
  ++loops_;
  node->body = ParseBody({"else", "endfor"});
  --loops_;
  if (SkipName("else")) {
    ExpectBlockEnd();
    node->otherwise = ParseBody({"endfor"});
  }
  EndBlock("endfor");
  return node;
}

StatementPtr Parser::ParseSet(StatementPtr node) {
  node->target = ParseTarget(true, false);
  if (SkipOperator("=")) {
    node->kind = StatementKind::kSet;
    node->expression = ParseTuple(true, "", false);
    ExpectBlockEnd();
    return node;
  }
  node->kind = StatementKind::kSetBlock;
  if (AtOperator("|")) node->expression = ParseFilterChain(nullptr, false);
  ExpectBlockEnd();
  node->body = ParseBody({"endset"});
  EndBlock("endset");
  return node;
}

void Parser::ParseMacroSignature(Macro& macro) {
  ExpectOperator("(");
  while (!failed() && !AtOperator(")")) {
    if (!macro.parameters.empty()) ExpectOperator(",");
    Macro::Parameter parameter;
    parameter.text = ExpectName();
    parameter.name = template_->Intern(*parameter.text);
    if (SkipOperator("=")) {
      parameter.fallback = ParseExpression();
    } else if (!macro.parameters.empty() && macro.parameters.back().fallback != nullptr) {
      Fail("a parameter without a default follows one with a default");
    }
    macro.parameters.push_back(std::move(parameter));
  }
  ExpectOperator(")");
}

void Parser::ParseMacroBody(Macro& macro, std::string_view end_name) {
  const int32_t outer_loops = std::exchange(loops_, 0);
  std::set<NameId> outer_mentioned;
  outer_mentioned.swap(mentioned_);
  macro.body = ParseBody({end_name});
  macro.uses_caller = mentioned_.contains(kCallerName);
  macro.uses_varargs = mentioned_.contains(kVarargsName);
  macro.uses_kwargs = mentioned_.contains(kKwargsName);
  mentioned_.swap(outer_mentioned);
  loops_ = outer_loops;
  if (SkipName(end_name) && At(TokenKind::kName)) Next();  // Jinja lets the name follow
  ExpectBlockEnd();
}

StatementPtr Parser::ParseMacro(StatementPtr node) {
  node->kind = StatementKind::kMacro;
  node->macro = std::make_unique<Macro>();
  node->macro->name = ExpectName();
  ParseMacroSignature(*node->macro);
  ExpectBlockEnd();
  ParseMacroBody(*node->macro, "endmacro");
  return node;
}

StatementPtr Parser::ParseCallBlock(StatementPtr node) {
  node->kind = StatementKind::kCallBlock;
  node->macro = std::make_unique<Macro>();
  node->macro->name = &template_->names[kCallerName];
  if (AtOperator("(")) ParseMacroSignature(*node->macro);
  node->expression = ParseExpression();
  if (!failed() && node->expression->kind != ExpressionKind::kCall) Fail("expected a call");
  ExpectBlockEnd();
  ParseMacroBody(*node->macro, "endcall");
  return node;
}

StatementPtr Parser::ParseFilterBlock(StatementPtr node) {
  node->kind = StatementKind::kFilterBlock;
  node->expression = ParseFilterChain(nullptr, true);
  ExpectBlockEnd();
  node->body = ParseBody({"endfilter"});
  EndBlock("endfilter");
  return node;
}

StatementPtr Parser::ParseWith(StatementPtr node) {
  node->kind = StatementKind::kWith;
  while (!failed() && !At(TokenKind::kBlockEnd)) {
    if (!node->assignments.empty()) ExpectOperator(",");
    ExpressionPtr target = ParseOneTarget(false);
    ExpectOperator("=");
    node->assignments.emplace_back(std::move(target), ParseExpression());
  }
  ExpectBlockEnd();
  node->body = ParseBody({"endwith"});
  EndBlock("endwith");
  return node;
}

StatementPtr Parser::ParseScopeBlock(StatementPtr node, std::string_view end_name) {
  const bool block = end_name == "endblock";
  node->kind = block ? StatementKind::kBlock : StatementKind::kScope;
  if (block) ExpectName();
  ExpectBlockEnd();
  const int32_t outer_loops = std::exchange(loops_, 0);
  node->body = ParseBody({end_name});
  loops_ = outer_loops;
  if (SkipName(end_name) && block && At(TokenKind::kName)) Next();
  ExpectBlockEnd();
  return node;
}

ExpressionPtr Parser::ParseOneTarget(bool allow_namespace) {
  if (AtOperator("(")) {
    const Level level(*this);
    Next();
    ExpressionPtr inner = ParseTarget(false, false);
    ExpectOperator(")");
    return inner;
  }
  static constexpr std::string_view kReserved[] = {"true", "false", "none",
                                                   "True", "False", "None"};
  ExpressionPtr node = NewExpression(ExpressionKind::kName);
  const std::string* name = ExpectName();
  if (std::find(std::begin(kReserved), std::end(kReserved), *name) != std::end(kReserved))
    Fail("a constant cannot be assigned to");
  node->name = template_->Intern(*name);
  node->text = name;
  if (allow_namespace && SkipOperator(".")) {
    node->kind = ExpressionKind::kNamespaceRef;
    node->text = ExpectName();
  }
  return node;
}

ExpressionPtr Parser::ParseTarget(bool allow_namespace, bool stop_at_in) {
  ExpressionPtr first = ParseOneTarget(allow_namespace);
  if (!AtOperator(",")) return first;
  ExpressionPtr tuple = NewExpression(ExpressionKind::kTuple);
  tuple->children.push_back(std::move(first));
  while (!failed() && SkipOperator(",")) {
    if (AtOperator("=") || AtOperator(")") || At(TokenKind::kBlockEnd) ||
        (stop_at_in && AtName("in")))
      break;
    tuple->children.push_back(ParseOneTarget(allow_namespace));
  }
  return Seal(std::move(tuple));
}

}  // namespace sluice::jinja
