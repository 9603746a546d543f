// Runs a parsed template. One Interpreter renders once; interpreter.cc has the statements,
// evaluation.cc the expressions.
#pragma once

#include <boost/json/object.hpp>
#include <deque>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "template/ast.h"
#include "template/operators.h"
#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

// Variables of one block. Macros keep a pointer to the scope they were defined in, so scopes live
// as long as the rendering.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<NameId, Value>> variables;
};

class Interpreter {
 public:
  Interpreter(const Template& program, const TemplateLimits& limits, absl::Time now);

  // Errors: the Runtime's first.
  absl::StatusOr<TracedString> Render(const boost::json::object& variables,
                                      std::string_view bos_token, std::string_view eos_token);

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };

  // Statements.
  Flow Run(const Body& body);
  Flow Run(const Statement& node);
  Flow RunInScope(const Body& body, Scope* parent);
  Flow RunIf(const Statement& node);
  Flow RunFor(const Statement& node, const Value& iterable, int64_t depth);
  Flow RunLoopBody(const Statement& node, Loop* loop);
  Flow RunSetBlock(const Statement& node);
  Flow RunFilterBlock(const Statement& node);
  void RunCallBlock(const Statement& node);
  Flow RunWith(const Statement& node);
  void DefineMacro(const Macro& macro);
  std::vector<Value> Selected(const Statement& node, std::span<const Value> items);
  void Assign(const Expression& target, const Value& value);
  void AssignField(const Expression& target, const Value& value);
  void Print(const Value& value);
  void Write(const TracedString& text);

  // What `function` writes, as a string of its own.
  template <typename Function>
  Value Capture(Function function) {
    TracedString captured;
    TracedString* const outer = std::exchange(out_, &captured);
    function();
    out_ = outer;
    return rt_.NewString(std::move(captured));
  }

  // Expressions.
  Value Evaluate(const Expression& node);
  Value EvaluateKind(const Expression& node);
  Value EvaluateName(const Expression& node);
  Value EvaluateItems(const Expression& node, Kind kind);
  Value EvaluateDict(const Expression& node);
  Value EvaluateSlice(const Expression& node);
  Value EvaluateConcat(const Expression& node);
  Value EvaluateArithmetic(const Expression& node);
  Value EvaluateCompare(const Expression& node);
  Value EvaluateCall(const Expression& node);
  Value EvaluateFilter(const Expression& node, const Value* block_text);
  Value EvaluateTest(const Expression& node);
  CallArgs EvaluateArguments(const Arguments* arguments);
  Value ApplyFilterChain(const Expression* chain, const Value& text);

  Value Call(const Value& callee, CallArgs args);
  Value CallMacro(const Callable& callable, CallArgs args);
  void BindParameters(const Macro& macro, CallArgs& args, Value& caller);
  Value CallLoop(const Loop& loop, const CallArgs& args);

  // Variables.
  Scope* NewScope(Scope* parent);
  void SetVariable(NameId name, const Value& value);
  [[nodiscard]] const Value* FindVariable(NameId name) const;
  // The caller restores the old scope by letting this go.
  class ScopeGuard {
   public:
    ScopeGuard(Interpreter& interpreter, Scope* scope)
        : interpreter_(interpreter), outer_(interpreter.scope_) {
      interpreter.scope_ = scope;
    }
    ~ScopeGuard() { interpreter_.scope_ = outer_; }
    ScopeGuard(const ScopeGuard&) = delete;
    ScopeGuard& operator=(const ScopeGuard&) = delete;

   private:
    Interpreter& interpreter_;
    Scope* const outer_;
  };

  const Template& program_;
  Runtime rt_;
  std::deque<Scope> scopes_;
  Scope* scope_ = nullptr;  // the innermost
  Scope* top_level_ = nullptr;
  TracedString* out_ = nullptr;
  const Value* filter_input_ = nullptr;  // of the filter chain of a set or filter block
  int32_t macro_depth_ = 0;
};

}  // namespace sluice::jinja
