#include "template/runtime.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::jinja {
namespace {

// Everything one rendering may allocate, garbage included, is a few times the longest string it may
// build; the constant lets templates with a tiny output limit still hold their variables.
constexpr int64_t kAllocationFactor = 4;
constexpr int64_t kAllocationBase = 16 << 20;

// Evaluation recurses a few times for each level of nesting that the parser counts.
constexpr int32_t kFramesPerDepth = 8;

}  // namespace

Value Runtime::Fail(std::string_view message) {
  if (!failed()) {
    status_ = absl::InvalidArgumentError(fmt::format("chat template line {}: {}", line_, message));
  }
  return {};
}

Value Runtime::FailLimit(std::string_view message) {
  if (!failed()) {
    status_ =
        absl::ResourceExhaustedError(fmt::format("chat template line {}: {}", line_, message));
  }
  return {};
}

bool Runtime::Charge(int64_t steps) {
  if (failed()) return false;
  steps_ += steps;
  if (steps_ <= limits_.max_steps) return true;
  FailLimit(fmt::format("evaluation takes more than {} steps", limits_.max_steps));
  return false;
}

bool Runtime::ChargeMemory(size_t bytes) {
  if (failed()) return false;
  const int64_t max = kAllocationFactor * limits_.max_output_bytes + kAllocationBase;
  if (bytes <= static_cast<size_t>(max) && allocated_bytes_ + static_cast<int64_t>(bytes) <= max) {
    allocated_bytes_ += static_cast<int64_t>(bytes);
    return true;
  }
  FailLimit(fmt::format("values take more than {} bytes", max));
  return false;
}

bool Runtime::Room(size_t string_bytes) {
  if (failed()) return false;
  if (string_bytes <= static_cast<size_t>(limits_.max_output_bytes))
    return ChargeBytes(string_bytes);
  FailLimit(fmt::format("a string is longer than {} bytes", limits_.max_output_bytes));
  return false;
}

bool Runtime::RoomForItems(size_t num_items) {
  if (num_items > (size_t{1} << 32U)) return ChargeMemory(SIZE_MAX);
  return ChargeMemory(num_items * sizeof(Dict::Entry)) &&
         Charge(static_cast<int64_t>(num_items / 16));
}

Value Runtime::NewString(TracedString string) {
  if (!Room(string.size()) || !ChargeMemory(string.Footprint())) return {};
  strings_.push_back(std::move(string));
  return Value::String(&strings_.back());
}

Value Runtime::NewSequence(Kind kind, std::vector<Value> items, std::string name) {
  if (!ChargeMemory(sizeof(Sequence)) || !RoomForItems(items.size())) return {};
  sequences_.push_back({std::move(items), 0, std::move(name)});
  return Value::Seq(kind, &sequences_.back());
}

Dict* Runtime::NewDict() {
  ChargeMemory(sizeof(Dict));
  return &dicts_.emplace_back();
}

Namespace* Runtime::NewNamespace() {
  ChargeMemory(sizeof(Namespace));
  return &spaces_.emplace_back();
}

Loop* Runtime::NewLoop() {
  ChargeMemory(sizeof(Loop));
  return &loops_.emplace_back();
}

Value Runtime::NewCallable(Callable callable) {
  ChargeMemory(sizeof(Callable));
  callables_.push_back(callable);
  return Value::Call(&callables_.back());
}

bool Runtime::Enter() {
  ++depth_;
  if (depth_ <= limits_.max_depth * kFramesPerDepth) return !failed();
  FailLimit(fmt::format("evaluation nests deeper than {} levels", limits_.max_depth));
  return false;
}

Value CallBuiltin(Runtime& rt, const Builtin& builtin, const Value& self, CallArgs args) {
  if (rt.failed()) return {};
  if (builtin.variadic) return builtin.function(rt, self, args);
  const size_t num_params = builtin.params.size();
  if (args.positional.size() > num_params) {
    return rt.Fail(fmt::format("'{}' takes at most {} arguments, not {}", builtin.name, num_params,
                               args.positional.size()));
  }
  args.positional.resize(num_params, Value::Missing());
  for (const auto& [name, value] : args.keywords) {
    const auto it = std::find(builtin.params.begin(), builtin.params.end(), name);
    if (it == builtin.params.end())
      return rt.Fail(fmt::format("'{}' got an unexpected keyword argument", builtin.name));
    Value& slot = args.positional[static_cast<size_t>(it - builtin.params.begin())];
    if (!slot.IsMissing()) return rt.Fail(fmt::format("'{}' got one argument twice", builtin.name));
    slot = value;
  }
  for (size_t i = 0; i < builtin.num_required; ++i) {
    if (args.positional[i].IsMissing()) {
      return rt.Fail(fmt::format("'{}' needs its argument '{}'", builtin.name, builtin.params[i]));
    }
  }
  return builtin.function(rt, self, args);
}

}  // namespace sluice::jinja
