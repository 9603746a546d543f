// Jinja's grammar, by recursive descent. parser.cc has the statements, expression_parser.cc the
// expressions.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "template/ast.h"
#include "template/lexer.h"

namespace sluice::jinja {

// Errors: InvalidArgument with the line.
absl::StatusOr<std::unique_ptr<Template>> ParseTemplate(std::string_view source, int32_t max_depth);

class Parser {
 public:
  Parser(std::vector<Token> tokens, int32_t max_depth);
  absl::StatusOr<std::unique_ptr<Template>> Run();

 private:
  // Errors are sticky: the first wins, and afterwards every token reads as the end, so that all
  // loops stop.
  [[nodiscard]] bool failed() const { return !status_.ok(); }
  void Fail(std::string_view message);

  // Tokens.
  [[nodiscard]] const Token& Current() const;
  [[nodiscard]] const Token& Ahead() const;
  Token Next();
  [[nodiscard]] bool At(TokenKind kind) const { return Current().kind == kind; }
  [[nodiscard]] bool AtName(std::string_view name) const;
  [[nodiscard]] bool AtOperator(std::string_view op) const;
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view op);
  void ExpectOperator(std::string_view op);
  void ExpectBlockEnd();
  const std::string* ExpectName();

  // Statements.
  Body ParseBody(
      std::initializer_list<std::string_view> end_names);  // stops at one of them, before it
  StatementPtr ParseStatement();
  StatementPtr ParseFor(StatementPtr node);
  StatementPtr ParseIf(StatementPtr node);
  StatementPtr ParseSet(StatementPtr node);
  StatementPtr ParseMacro(StatementPtr node);
  StatementPtr ParseCallBlock(StatementPtr node);
  StatementPtr ParseFilterBlock(StatementPtr node);
  StatementPtr ParseWith(StatementPtr node);
  StatementPtr ParseScopeBlock(StatementPtr node, std::string_view end_name);
  void ParseMacroSignature(Macro& macro);
  void ParseMacroBody(Macro& macro, std::string_view end_name);
  void EndBlock(std::string_view end_name);  // takes "endfoo %}"
  StatementPtr NewStatement(StatementKind kind);

  // Targets of assignments.
  ExpressionPtr ParseTarget(bool allow_namespace, bool stop_at_in);
  ExpressionPtr ParseOneTarget(bool allow_namespace);

  // Expressions, lowest precedence first.
  ExpressionPtr ParseTuple(bool with_condition, std::string_view end_name, bool parenthesized);
  ExpressionPtr ParseExpression(bool with_condition = true);
  ExpressionPtr ParseOr();
  ExpressionPtr ParseAnd();
  ExpressionPtr ParseNot();
  ExpressionPtr ParseCompare();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcat();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParseUnary(bool with_filter);
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseNameOrConstant();
  ExpressionPtr ParseStringLiteral();
  ExpressionPtr ParseNumber();
  ExpressionPtr ParseList();
  ExpressionPtr ParseDict();
  ExpressionPtr ParsePostfix(ExpressionPtr node);
  ExpressionPtr ParseFilters(ExpressionPtr node);
  ExpressionPtr ParseFilterChain(ExpressionPtr node, bool first_without_pipe);
  ExpressionPtr ParseTest(ExpressionPtr node);
  ExpressionPtr ParseSubscript(ExpressionPtr node);
  ExpressionPtr ParseSubscriptKey(ExpressionPtr node);
  ExpressionPtr ParseCall(ExpressionPtr node);
  std::unique_ptr<Arguments> ParseArguments();
  void ParseArgument(Arguments& arguments);
  const std::string* ParseDottedName();

  // Node building; the height of the tree is checked here.
  ExpressionPtr NewExpression(ExpressionKind kind);
  ExpressionPtr NewConstant(Value value);
  ExpressionPtr Seal(ExpressionPtr node);
  template <typename... Child>
  ExpressionPtr Make(ExpressionKind kind, Child... child) {
    ExpressionPtr node = NewExpression(kind);
    (node->children.push_back(std::move(child)), ...);
    return Seal(std::move(node));
  }

  // One level of recursion in the parser.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) { parser_.EnterLevel(); }
    ~Level() { --parser_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };
  void EnterLevel();

  std::vector<Token> tokens_;
  size_t at_ = 0;
  const int32_t max_depth_;
  int32_t level_ = 0;
  int32_t loops_ = 0;           // enclosing for loops within the innermost macro
  std::set<NameId> mentioned_;  // names read since the innermost macro began
  std::unique_ptr<Template> template_;
  absl::Status status_;
  const Token end_;
};

}  // namespace sluice::jinja
