#include "template/interpreter.h"

#include <fmt/format.h>

#include "template/formatting.h"
#include "template/json_values.h"

namespace sluice::jinja {

Interpreter::Interpreter(const Template& program, const TemplateLimits& limits, absl::Time now)
    : program_(program), rt_(limits, now) {}

absl::StatusOr<TracedString> Interpreter::Render(const boost::json::object& variables,
                                                 std::string_view bos_token,
                                                 std::string_view eos_token) {
  TracedString output;
  out_ = &output;
  Scope* globals = NewScope(nullptr);
  scope_ = globals;
  for (const auto& [key, value] : variables) {  // only those the template mentions
    const auto found = program_.ids.find(std::string_view(key.data(), key.size()));
    if (found != program_.ids.end() && !rt_.failed())
      SetVariable(found->second, FromJson(rt_, value));
  }
  SetVariable(kBosName, rt_.NewString(bos_token, Origin::kTemplate));
  SetVariable(kEosName, rt_.NewString(eos_token, Origin::kTemplate));
  top_level_ = NewScope(globals);
  scope_ = top_level_;
  Run(program_.body);
  if (rt_.failed()) return rt_.status();
  return output;
}

Scope* Interpreter::NewScope(Scope* parent) {
  rt_.RoomForItems(2);
  return &scopes_.emplace_back(Scope{parent, {}});
}

void Interpreter::SetVariable(NameId name, const Value& value) {
  for (auto& [existing, slot] : scope_->variables) {
    if (existing == name) {
      slot = value;
      return;
    }
  }
  scope_->variables.emplace_back(name, value);
}

const Value* Interpreter::FindVariable(NameId name) const {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    for (const auto& [existing, value] : scope->variables) {
      if (existing == name) return &value;
    }
  }
  return nullptr;
}

void Interpreter::Write(const TracedString& text) {
  const size_t total = out_->size() + text.size();
  if (total > static_cast<size_t>(rt_.limits().max_output_bytes)) {
    rt_.Room(total);
  } else if (rt_.ChargeBytes(text.size())) {
    out_->Append(text);
  }
}

void Interpreter::Print(const Value& value) {
  if (value.IsUndefined()) return;
  if (value.IsString()) return Write(value.string());
  const std::string text = Repr(rt_, value);
  if (!rt_.failed()) Write(TracedString(text, Origin::kClient));
}

Interpreter::Flow Interpreter::Run(const Body& body) {
  for (const StatementPtr& node : body) {
    const Flow flow = Run(*node);
    if (flow != Flow::kNormal) return flow;
    if (rt_.failed()) break;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunInScope(const Body& body, Scope* parent) {
  const ScopeGuard guard(*this, NewScope(parent));
  return Run(body);
}

Interpreter::Flow Interpreter::Run(const Statement& node) {
  const DepthGuard guard(rt_);
  if (!guard || !rt_.Charge(1)) return Flow::kNormal;
  rt_.set_line(node.line);
  switch (node.kind) {
    case StatementKind::kText:
      Write(node.text);
      return Flow::kNormal;
    case StatementKind::kPrint:
      Print(Evaluate(*node.expression));
      return Flow::kNormal;
    case StatementKind::kIf:
      return RunIf(node);
    case StatementKind::kFor:
      return RunFor(node, Evaluate(*node.expression), 1);
    case StatementKind::kSet:
      Assign(*node.target, Evaluate(*node.expression));
      return Flow::kNormal;
    case StatementKind::kSetBlock:
      return RunSetBlock(node);
    case StatementKind::kMacro:
      DefineMacro(*node.macro);
      return Flow::kNormal;
    case StatementKind::kCallBlock:
      RunCallBlock(node);
      return Flow::kNormal;
    case StatementKind::kFilterBlock:
      return RunFilterBlock(node);
    case StatementKind::kWith:
      return RunWith(node);
    case StatementKind::kScope:
      return RunInScope(node.body, scope_);
    case StatementKind::kBlock:
      return RunInScope(node.body, top_level_);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunIf(const Statement& node) {
  for (const Statement::Branch& branch : node.branches) {
    if (branch.condition != nullptr && !IsTrue(Evaluate(*branch.condition))) continue;
    return rt_.failed() ? Flow::kNormal : Run(branch.body);
  }
  return Flow::kNormal;
}

// The items that pass the loop's own condition.
std::vector<Value> Interpreter::Selected(const Statement& node, std::span<const Value> items) {
  std::vector<Value> selected;
  for (const Value& item : items) {
    const ScopeGuard guard(*this, NewScope(scope_));
    Assign(*node.target, item);
    if (IsTrue(Evaluate(*node.condition))) selected.push_back(item);
    if (rt_.failed()) break;
  }
  return selected;
}

Interpreter::Flow Interpreter::RunFor(const Statement& node, const Value& iterable, int64_t depth) {
  std::span<const Value> items = Items(rt_, iterable);
  if (node.condition != nullptr && !rt_.failed()) {
    const Value selected = rt_.NewList(Selected(node, items));
    items =
        rt_.failed() ? std::span<const Value>() : std::span<const Value>(selected.sequence().items);
  }
  if (rt_.failed()) return Flow::kNormal;
  if (items.empty()) return RunInScope(node.otherwise, scope_);
  Loop* loop = rt_.NewLoop();
  loop->items = items;
  loop->depth = depth;
  loop->recursive = node.recursive;
  loop->statement = &node;
  loop->scope = scope_;
  return RunLoopBody(node, loop);
}

Interpreter::Flow Interpreter::RunLoopBody(const Statement& node, Loop* loop) {
  for (; loop->index < loop->items.size() && rt_.Charge(1); ++loop->index) {
    const ScopeGuard guard(*this, NewScope(scope_));
    SetVariable(kLoopName, Value::LoopOf(loop));
    Assign(*node.target, loop->items[loop->index]);
    if (Run(node.body) == Flow::kBreak) break;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunSetBlock(const Statement& node) {
  Flow flow = Flow::kNormal;
  const Value text = Capture([&] { flow = RunInScope(node.body, scope_); });
  if (flow == Flow::kNormal) Assign(*node.target, ApplyFilterChain(node.expression.get(), text));
  return flow;
}

Interpreter::Flow Interpreter::RunFilterBlock(const Statement& node) {
  Flow flow = Flow::kNormal;
  const Value text = Capture([&] { flow = RunInScope(node.body, scope_); });
  if (flow == Flow::kNormal) Print(ApplyFilterChain(node.expression.get(), text));
  return flow;
}

Interpreter::Flow Interpreter::RunWith(const Statement& node) {
  std::vector<Value> values;
  for (const auto& [target, expression] : node.assignments) values.push_back(Evaluate(*expression));
  const ScopeGuard guard(*this, NewScope(scope_));
  for (size_t i = 0; i < values.size(); ++i) Assign(*node.assignments[i].first, values[i]);
  return Run(node.body);
}

void Interpreter::DefineMacro(const Macro& macro) {
  const auto id = program_.ids.find(*macro.name);
  SetVariable(id->second, rt_.NewCallable({nullptr, Value(), &macro, scope_}));
}

void Interpreter::RunCallBlock(const Statement& node) {
  const Expression& call = *node.expression;
  const Value callee = Evaluate(*call.children[0]);
  CallArgs args = EvaluateArguments(call.arguments.get());
  args.keywords.emplace_back("caller",
                             rt_.NewCallable({nullptr, Value(), node.macro.get(), scope_}));
  Print(Call(callee, std::move(args)));
}

void Interpreter::Assign(const Expression& target, const Value& value) {
  if (rt_.failed()) return;
  switch (target.kind) {
    case ExpressionKind::kName:
      return SetVariable(target.name, value);
    case ExpressionKind::kNamespaceRef:
      return AssignField(target, value);
    default:
      break;
  }
  const std::span<const Value> items = Items(rt_, value);
  if (!rt_.failed() && items.size() != target.children.size()) {
    rt_.Fail(
        fmt::format("cannot unpack {} items into {} names", items.size(), target.children.size()));
  }
  for (size_t i = 0; i < target.children.size() && !rt_.failed(); ++i)
    Assign(*target.children[i], items[i]);
}

void Interpreter::AssignField(const Expression& target, const Value& value) {
  const Value* found = FindVariable(target.name);
  if (found == nullptr || !found->Is(Kind::kNamespace)) {
    rt_.Fail("attributes can be set on namespace objects only");
    return;
  }
  for (auto& [field, slot] : found->space().fields) {
    if (field == *target.text) {
      slot = value;
      return;
    }
  }
  if (rt_.RoomForItems(1)) found->space().fields.emplace_back(*target.text, value);
}

}  // namespace sluice::jinja
