// What a template computes with. A Value is a small trivially copyable handle; what it points to
// belongs to the Heap of one rendering (or, for literals, to the parsed template), so there are no
// cycles to free and no deep destructors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "template/traced_string.h"

namespace sluice::jinja {

struct Sequence;
struct Dict;
struct Namespace;
struct Callable;
struct Loop;

enum class Kind : uint8_t {
  kMissing,    // an argument that was not given; templates never see it
  kUndefined,  // a variable, item or attribute that is not there
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kRange,
  kView,       // dict.items(), keys(), values()
  kGenerator,  // what most sequence filters give: iterated once, without length
  kDict,
  kNamespace,
  kCallable,
  kLoop,
};

class Value {
 public:
  Value() : kind_(Kind::kUndefined) { u_.name = nullptr; }
  static Value Missing() { return Value(Kind::kMissing); }
  static Value None() { return Value(Kind::kNone); }
  // name: what was looked up, if the template spelt it; null if it may be the client's text.
  static Value Undefined(const std::string* name) {
    return Of(Kind::kUndefined, &Payload::name, name);
  }
  static Value Bool(bool v) { return Of(Kind::kBool, &Payload::boolean, v); }
  static Value Int(int64_t v) { return Of(Kind::kInt, &Payload::integer, v); }
  static Value Float(double v) { return Of(Kind::kFloat, &Payload::number, v); }
  static Value String(const TracedString* v) { return Of(Kind::kString, &Payload::string, v); }
  static Value Seq(Kind kind, Sequence* v) { return Of(kind, &Payload::sequence, v); }
  static Value Map(Dict* v) { return Of(Kind::kDict, &Payload::dict, v); }
  static Value Space(Namespace* v) { return Of(Kind::kNamespace, &Payload::space, v); }
  static Value Call(const Callable* v) { return Of(Kind::kCallable, &Payload::callable, v); }
  static Value LoopOf(Loop* v) { return Of(Kind::kLoop, &Payload::loop, v); }

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] bool Is(Kind kind) const { return kind_ == kind; }
  [[nodiscard]] bool IsMissing() const { return kind_ == Kind::kMissing; }
  [[nodiscard]] bool IsUndefined() const { return kind_ == Kind::kUndefined; }
  [[nodiscard]] bool IsNone() const { return kind_ == Kind::kNone; }
  [[nodiscard]] bool IsString() const { return kind_ == Kind::kString; }
  [[nodiscard]] bool IsIntegral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  [[nodiscard]] bool IsNumber() const { return IsIntegral() || kind_ == Kind::kFloat; }
  [[nodiscard]] bool IsSequence() const {
    return kind_ >= Kind::kList && kind_ <= Kind::kGenerator;
  }

  // Each only for its own kind(s).
  [[nodiscard]] const std::string* undefined_name() const { return u_.name; }
  [[nodiscard]] bool boolean() const { return u_.boolean; }
  [[nodiscard]] int64_t integer() const {
    return kind_ == Kind::kBool ? (u_.boolean ? 1 : 0) : u_.integer;
  }
  [[nodiscard]] double number() const {
    return kind_ == Kind::kFloat ? u_.number : static_cast<double>(integer());
  }
  [[nodiscard]] const TracedString& string() const { return *u_.string; }
  [[nodiscard]] Sequence& sequence() const { return *u_.sequence; }
  [[nodiscard]] Dict& dict() const { return *u_.dict; }
  [[nodiscard]] Namespace& space() const { return *u_.space; }
  [[nodiscard]] const Callable& callable() const { return *u_.callable; }
  [[nodiscard]] Loop& loop() const { return *u_.loop; }

  // The same object, as Python's `is` would say.
  [[nodiscard]] bool SameAs(const Value& other) const;

 private:
  union Payload {
    const std::string* name;
    bool boolean;
    int64_t integer;
    double number;
    const TracedString* string;
    Sequence* sequence;
    Dict* dict;
    Namespace* space;
    const Callable* callable;
    Loop* loop;
  };

  explicit Value(Kind kind) : kind_(kind) { u_.integer = 0; }
  template <typename T>
  static Value Of(Kind kind, T Payload::* member, T v) {
    Value out(kind);
    out.u_.*member = v;
    return out;
  }

  Kind kind_;
  Payload u_;
};

struct Sequence {
  std::vector<Value> items;
  size_t next = 0;   // generators: what the first iteration has not taken yet
  std::string name;  // ranges: their repr; views: "dict_items", ...
};

// Insertion-ordered; filled once, then read only. Strings as keys ignore where they came from.
struct Dict {
  struct Entry {
    Value key;
    Value value;
  };
  std::vector<Entry> entries;
  std::unordered_map<std::string_view, size_t>
      index;  // string keys, once there are more than kScan

  static constexpr size_t kScan = 8;
  [[nodiscard]] const Value* Find(std::string_view key) const;  // null: absent
  void SetString(const Value& key, const Value& value);         // key is a string; replaces
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> fields;
  [[nodiscard]] const Value* Find(std::string_view name) const;
};

// What `for` shows as `loop`.
struct Loop {
  std::span<const Value> items;
  size_t index = 0;
  int64_t depth = 0;
  const void* statement = nullptr;  // the For node and its scope, for loop(...) of recursive loops
  void* scope = nullptr;
  bool recursive = false;
  std::vector<Value> last_changed;
  bool has_last_changed = false;
};

// Positional and keyword arguments of one call. After binding to a signature: one positional value
// a parameter.
struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> keywords;
  [[nodiscard]] const Value& at(size_t i) const { return positional[i]; }
};

[[nodiscard]] bool IsTrue(const Value& value);
[[nodiscard]] std::string_view TypeName(
    const Value& value);  // Python's name of the type, for messages

}  // namespace sluice::jinja
