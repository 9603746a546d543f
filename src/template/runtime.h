// The state of one rendering that every built-in needs: its memory, its limits and its first error.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "template/chat_template.h"
#include "template/value.h"

namespace sluice::jinja {

class Runtime;

// A filter, test, method or global function. `self` is the filtered or tested value or the method's
// object; `args` are bound to `params` unless `variadic`: one value a parameter, Missing where it
// was not given.
struct Builtin {
  using Function = Value (*)(Runtime& rt, const Value& self, const CallArgs& args);
  std::string_view name;
  Function function;
  std::vector<std::string_view> params = {};
  size_t num_required = 0;
  bool variadic = false;
};

struct Macro;  // ast.h
struct Scope;  // interpreter.h

struct Callable {
  const Builtin* builtin = nullptr;  // with self, or else a macro with the scope it was defined in
  Value self;
  const Macro* macro = nullptr;
  Scope* scope = nullptr;
};

// Errors are sticky: the first Fail() wins, everything after it is cheap and its value meaningless,
// and loops stop because Charge() refuses. So built-ins need no error plumbing, only a look at
// failed() before they trust a value.
class Runtime {
 public:
  Runtime(const TemplateLimits& limits, absl::Time now) : limits_(limits), now_(now) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] bool failed() const { return !status_.ok(); }
  [[nodiscard]] const absl::Status& status() const { return status_; }
  [[nodiscard]] absl::Time now() const { return now_; }
  [[nodiscard]] const TemplateLimits& limits() const { return limits_; }
  void set_line(int line) { line_ = line; }
  [[nodiscard]] int line() const { return line_; }

  // Both return Undefined, so that `return rt.Fail(...)` reads well. Messages never hold the
  // client's text.
  Value Fail(std::string_view message);       // InvalidArgument
  Value FailLimit(std::string_view message);  // ResourceExhausted

  // Work is paid for before it is done. False once failed or past a limit.
  bool Charge(int64_t steps);
  bool ChargeBytes(size_t bytes) {
    return Charge(1 + static_cast<int64_t>(bytes / 64));
  }  // reading so many bytes
  bool Room(size_t string_bytes);  // about to build a string of that many bytes
  bool RoomForItems(size_t num_items);

  Value NewString(TracedString string);
  Value NewString(std::string_view bytes, Origin origin) {
    return NewString(TracedString(std::string(bytes), origin));
  }
  Value NewSequence(Kind kind, std::vector<Value> items, std::string name = {});
  Value NewList(std::vector<Value> items) { return NewSequence(Kind::kList, std::move(items)); }
  Value NewTuple(std::vector<Value> items) { return NewSequence(Kind::kTuple, std::move(items)); }
  Dict* NewDict();  // pay for its entries with RoomForItems
  Namespace* NewNamespace();
  Loop* NewLoop();
  Value NewCallable(Callable callable);
  Value Method(const Builtin& builtin, const Value& self) {
    return NewCallable({&builtin, self, nullptr, nullptr});
  }

  // Levels of recursion in evaluation, comparison and printing; use DepthGuard.
  bool Enter();
  void Leave() { --depth_; }

 private:
  bool ChargeMemory(size_t bytes);

  const TemplateLimits limits_;
  const absl::Time now_;
  absl::Status status_;
  int line_ = 1;
  int64_t steps_ = 0;
  int64_t allocated_bytes_ = 0;
  int32_t depth_ = 0;
  std::deque<TracedString> strings_;
  std::deque<Sequence> sequences_;
  std::deque<Dict> dicts_;
  std::deque<Namespace> spaces_;
  std::deque<Loop> loops_;
  std::deque<Callable> callables_;
};

class DepthGuard {
 public:
  explicit DepthGuard(Runtime& rt) : rt_(rt), ok_(rt.Enter()) {}
  ~DepthGuard() { rt_.Leave(); }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;
  explicit operator bool() const { return ok_; }

 private:
  Runtime& rt_;
  const bool ok_;
};

// Fits `args` to the built-in's parameters and calls it.
Value CallBuiltin(Runtime& rt, const Builtin& builtin, const Value& self, CallArgs args);

}  // namespace sluice::jinja
