// The expressions of interpreter.h, and calls.
#include <fmt/format.h>

#include <algorithm>

#include "template/filters.h"
#include "template/formatting.h"
#include "template/interpreter.h"

namespace sluice::jinja {

Value Interpreter::Evaluate(const Expression& node) {
  if (node.kind == ExpressionKind::kConstant) return node.constant;
  const DepthGuard guard(rt_);
  if (!guard || !rt_.Charge(1)) return {};
  rt_.set_line(node.line);
  return EvaluateKind(node);
}

Value Interpreter::EvaluateKind(const Expression& node) {
  const auto child = [&](size_t i) { return Evaluate(*node.children[i]); };
  switch (node.kind) {
    case ExpressionKind::kConstant:
      return node.constant;
    case ExpressionKind::kName:
      return EvaluateName(node);
    case ExpressionKind::kList:
      return EvaluateItems(node, Kind::kList);
    case ExpressionKind::kTuple:
      return EvaluateItems(node, Kind::kTuple);
    case ExpressionKind::kDict:
      return EvaluateDict(node);
    case ExpressionKind::kAttribute:
      return GetAttribute(rt_, child(0), *node.text);
    case ExpressionKind::kItem: {
      const Value object = child(0);
      const Value item = GetItem(rt_, object, child(1));
      const Expression& key = *node.children[1];
      const bool literal = key.kind == ExpressionKind::kConstant && item.IsUndefined();
      if (!literal || !key.constant.IsString()) return item;
      const auto name = program_.ids.find(
          key.constant.string().bytes());  // named in errors if the template knows it
      return name == program_.ids.end() ? item : Value::Undefined(&program_.names[name->second]);
    }
    case ExpressionKind::kSlice:
      return EvaluateSlice(node);
    case ExpressionKind::kCall:
      return EvaluateCall(node);
    case ExpressionKind::kFilter:
      return EvaluateFilter(node, filter_input_);
    case ExpressionKind::kTest:
      return EvaluateTest(node);
    case ExpressionKind::kNot:
      return Value::Bool(!IsTrue(child(0)));
    case ExpressionKind::kNegative:
      return Negate(rt_, child(0));
    case ExpressionKind::kPositive:
      return UnaryPlus(rt_, child(0));
    case ExpressionKind::kAnd:
    case ExpressionKind::kOr: {
      Value value;
      for (size_t i = 0; i < node.children.size() && !rt_.failed(); ++i) {
        value = child(i);
        if (IsTrue(value) == (node.kind == ExpressionKind::kOr)) break;
      }
      return value;
    }
    case ExpressionKind::kConcat:
      return EvaluateConcat(node);
    case ExpressionKind::kArithmetic:
      return EvaluateArithmetic(node);
    case ExpressionKind::kCompare:
      return EvaluateCompare(node);
    case ExpressionKind::kConditional:
      if (IsTrue(child(1))) return child(0);
      return node.children[2] == nullptr ? Value() : child(2);
    case ExpressionKind::kNamespaceRef:
      break;
  }
  return {};
}

Value Interpreter::EvaluateName(const Expression& node) {
  if (const Value* found = FindVariable(node.name)) return *found;
  if (const Builtin* global = FindGlobal(*node.text)) return rt_.Method(*global, Value());
  return Value::Undefined(node.text);
}

Value Interpreter::EvaluateItems(const Expression& node, Kind kind) {
  std::vector<Value> items;
  items.reserve(node.children.size());
  for (const ExpressionPtr& item : node.children) items.push_back(Evaluate(*item));
  return rt_.NewSequence(kind, std::move(items));
}

Value Interpreter::EvaluateDict(const Expression& node) {
  Dict* dict = rt_.NewDict();
  for (size_t i = 0; i + 1 < node.children.size() && !rt_.failed(); i += 2) {
    const Value key = Evaluate(*node.children[i]);
    SetEntry(rt_, *dict, key, Evaluate(*node.children[i + 1]));
  }
  return Value::Map(dict);
}

Value Interpreter::EvaluateSlice(const Expression& node) {
  const auto bound = [&](size_t i) {
    return node.children[i] == nullptr ? Value::Missing() : Evaluate(*node.children[i]);
  };
  const Value object = Evaluate(*node.children[0]);
  const Value start = bound(1);
  const Value stop = bound(2);
  return GetSlice(rt_, object, start, stop, bound(3));
}

Value Interpreter::EvaluateConcat(const Expression& node) {
  TracedString out;
  for (const ExpressionPtr& child : node.children) {
    const TracedString& text = Text(rt_, Evaluate(*child));
    if (!rt_.Room(out.size() + text.size())) return {};
    out.Append(text);
  }
  return rt_.NewString(std::move(out));
}

Value Interpreter::EvaluateArithmetic(const Expression& node) {
  Value value = Evaluate(*node.children[0]);
  for (size_t i = 0; i < node.arithmetic.size() && !rt_.failed(); ++i) {
    const Value right = Evaluate(*node.children[i + 1]);
    value = Arithmetic(rt_, node.arithmetic[i], value, right);
  }
  return value;
}

Value Interpreter::EvaluateCompare(const Expression& node) {
  Value left = Evaluate(*node.children[0]);
  for (size_t i = 0; i < node.comparisons.size(); ++i) {
    const Value right = Evaluate(*node.children[i + 1]);
    if (!Compare(rt_, node.comparisons[i], left, right) || rt_.failed()) return Value::Bool(false);
    left = right;
  }
  return Value::Bool(true);
}

CallArgs Interpreter::EvaluateArguments(const Arguments* arguments) {
  CallArgs args;
  if (arguments == nullptr) return args;
  for (const ExpressionPtr& argument : arguments->positional)
    args.positional.push_back(Evaluate(*argument));
  for (const auto& [name, argument] : arguments->keywords)
    args.keywords.emplace_back(*name, Evaluate(*argument));
  if (arguments->star != nullptr) {
    const std::span<const Value> more = Items(rt_, Evaluate(*arguments->star));
    if (rt_.RoomForItems(more.size()))
      args.positional.insert(args.positional.end(), more.begin(), more.end());
  }
  if (arguments->double_star != nullptr) {
    const Value more = Evaluate(*arguments->double_star);
    if (!more.Is(Kind::kDict))
      rt_.Fail(fmt::format("a ** argument must be a mapping, not {}", TypeName(more)));
    if (rt_.failed() || !rt_.RoomForItems(more.dict().entries.size())) return args;
    for (const Dict::Entry& entry : more.dict().entries) {
      if (!entry.key.IsString()) rt_.Fail("keyword names must be strings");
      if (rt_.failed()) return args;
      args.keywords.emplace_back(entry.key.string().bytes(), entry.value);
    }
  }
  return args;
}

Value Interpreter::EvaluateCall(const Expression& node) {
  const Value callee = Evaluate(*node.children[0]);
  return Call(callee, EvaluateArguments(node.arguments.get()));
}

Value Interpreter::EvaluateFilter(const Expression& node, const Value* block_text) {
  const Value input = node.children[0] == nullptr ? *block_text : Evaluate(*node.children[0]);
  if (node.builtin == nullptr) return rt_.Fail(fmt::format("no filter named '{}'", *node.text));
  return CallBuiltin(rt_, *node.builtin, input, EvaluateArguments(node.arguments.get()));
}

Value Interpreter::EvaluateTest(const Expression& node) {
  const Value subject = Evaluate(*node.children[0]);
  if (node.builtin == nullptr) return rt_.Fail(fmt::format("no test named '{}'", *node.text));
  const Value result =
      CallBuiltin(rt_, *node.builtin, subject, EvaluateArguments(node.arguments.get()));
  return Value::Bool(IsTrue(result) != node.negated);
}

Value Interpreter::ApplyFilterChain(const Expression* chain, const Value& text) {
  if (chain == nullptr || rt_.failed()) return text;
  const Value* const outer = std::exchange(filter_input_, &text);
  const Value result = Evaluate(*chain);
  filter_input_ = outer;
  return result;
}

Value Interpreter::Call(const Value& callee, CallArgs args) {
  if (rt_.failed()) return {};
  if (callee.Is(Kind::kLoop)) return CallLoop(callee.loop(), args);
  if (callee.IsUndefined()) return FailUndefined(rt_, callee);
  if (!callee.Is(Kind::kCallable))
    return rt_.Fail(fmt::format("{} cannot be called", TypeName(callee)));
  const Callable& callable = callee.callable();
  if (callable.builtin != nullptr)
    return CallBuiltin(rt_, *callable.builtin, callable.self, std::move(args));
  return CallMacro(callable, std::move(args));
}

Value Interpreter::CallMacro(const Callable& callable, CallArgs args) {
  if (macro_depth_ >= rt_.limits().max_depth) {
    return rt_.FailLimit(
        fmt::format("macro calls nest deeper than {} levels", rt_.limits().max_depth));
  }
  ++macro_depth_;
  const ScopeGuard guard(*this, NewScope(callable.scope));
  const int line = rt_.line();
  Value result;
  const Macro& macro = *callable.macro;
  Value caller = Value::Missing();
  BindParameters(macro, args, caller);
  if (!rt_.failed()) result = Capture([&] { Run(macro.body); });
  rt_.set_line(line);
  --macro_depth_;
  return result;
}

// Sets the parameters in the current scope, defaults in order, then caller, varargs and kwargs
// where the body asks.
void Interpreter::BindParameters(const Macro& macro, CallArgs& args, Value& caller) {
  const auto take = [&args](std::string_view name) {
    const auto it = std::find_if(args.keywords.begin(), args.keywords.end(),
                                 [&](const auto& k) { return k.first == name; });
    if (it == args.keywords.end()) return Value::Missing();
    const Value value = it->second;
    args.keywords.erase(it);
    return value;
  };
  for (size_t i = 0; i < macro.parameters.size() && !rt_.failed(); ++i) {
    const Macro::Parameter& parameter = macro.parameters[i];
    Value value = i < args.positional.size() ? args.positional[i] : take(*parameter.text);
    if (value.IsMissing()) {
      value = parameter.fallback == nullptr ? Value::Undefined(parameter.text)
                                            : Evaluate(*parameter.fallback);
    }
    SetVariable(parameter.name, value);
  }
  caller = take("caller");
  if (macro.uses_caller) {
    SetVariable(kCallerName,
                caller.IsMissing() ? Value::Undefined(&program_.names[kCallerName]) : caller);
  } else if (!caller.IsMissing()) {
    rt_.Fail(fmt::format("macro '{}' takes no caller", *macro.name));
  }
  std::vector<Value> extra;
  if (args.positional.size() > macro.parameters.size()) {
    extra.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(macro.parameters.size()),
                 args.positional.end());
  }
  if (!macro.uses_varargs && !extra.empty()) {
    rt_.Fail(
        fmt::format("macro '{}' takes at most {} arguments", *macro.name, macro.parameters.size()));
  }
  if (macro.uses_varargs) SetVariable(kVarargsName, rt_.NewTuple(std::move(extra)));
  if (!macro.uses_kwargs && !args.keywords.empty()) {
    rt_.Fail(fmt::format("macro '{}' got an unexpected keyword argument", *macro.name));
  }
  if (!macro.uses_kwargs) return;
  Dict* kwargs = rt_.NewDict();
  for (const auto& [name, value] : args.keywords)
    SetEntry(rt_, *kwargs, rt_.NewString(name, Origin::kClient), value);
  SetVariable(kKwargsName, Value::Map(kwargs));
}

// loop(children) inside a recursive loop: the whole loop over them, as a string.
Value Interpreter::CallLoop(const Loop& loop, const CallArgs& args) {
  if (!loop.recursive) return rt_.Fail("the loop is not marked recursive");
  if (args.positional.size() != 1) return rt_.Fail("loop() takes one argument");
  const ScopeGuard guard(*this, static_cast<Scope*>(loop.scope));
  return Capture([&] {
    RunFor(*static_cast<const Statement*>(loop.statement), args.positional[0], loop.depth + 1);
  });
}

}  // namespace sluice::jinja
