// Methods of dict, list, tuple and loop, and the list of those the immutable sandbox withholds.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "template/methods.h"
#include "template/operators.h"

namespace sluice::jinja {

const Builtin* FindStringMethod(std::string_view name);  // methods.cc

namespace {

Value DictItems(Runtime& rt, const Value& self, const CallArgs&) {
  std::vector<Value> pairs;
  for (const Dict::Entry& entry : self.dict().entries) {
    pairs.push_back(rt.NewTuple({entry.key, entry.value}));
    if (rt.failed()) return {};
  }
  return rt.NewSequence(Kind::kView, std::move(pairs), "dict_items");
}

Value DictKeys(Runtime& rt, const Value& self, const CallArgs&) {
  std::vector<Value> keys;
  for (const Dict::Entry& entry : self.dict().entries) keys.push_back(entry.key);
  return rt.NewSequence(Kind::kView, std::move(keys), "dict_keys");
}

Value DictValues(Runtime& rt, const Value& self, const CallArgs&) {
  std::vector<Value> values;
  for (const Dict::Entry& entry : self.dict().entries) values.push_back(entry.value);
  return rt.NewSequence(Kind::kView, std::move(values), "dict_values");
}

Value DictGet(Runtime& rt, const Value& self, const CallArgs& args) {
  const Value* found = FindEntry(rt, self.dict(), args.at(0));
  if (found != nullptr) return *found;
  return args.at(1).IsMissing() ? Value::None() : args.at(1);
}

Value Copy(Runtime&, const Value& self, const CallArgs&) {
  return self;
}  // nothing can change either

Value SequenceCount(Runtime& rt, const Value& self, const CallArgs& args) {
  int64_t count = 0;
  for (const Value& item : self.sequence().items) {
    if (Equals(rt, item, args.at(0))) ++count;
    if (rt.failed()) break;
  }
  return Value::Int(count);
}

Value SequenceIndex(Runtime& rt, const Value& self, const CallArgs& args) {
  const std::vector<Value>& items = self.sequence().items;
  for (size_t i = 0; i < items.size() && !rt.failed(); ++i) {
    if (Equals(rt, items[i], args.at(0))) return Value::Int(static_cast<int64_t>(i));
  }
  return rt.Fail("value is not in the list");
}

Value LoopCycle(Runtime& rt, const Value& self, const CallArgs& args) {
  if (args.positional.empty()) return rt.Fail("loop.cycle() needs values");
  return args.positional[self.loop().index % args.positional.size()];
}

Value LoopChanged(Runtime& rt, const Value& self, const CallArgs& args) {
  Loop& loop = self.loop();
  bool same = loop.has_last_changed && loop.last_changed.size() == args.positional.size();
  for (size_t i = 0; same && i < args.positional.size(); ++i) {
    same = Equals(rt, loop.last_changed[i], args.positional[i]);
  }
  loop.last_changed = args.positional;
  loop.has_last_changed = true;
  return Value::Bool(!same);
}

const std::array kDictMethods = {
    Builtin{"items", DictItems},   Builtin{"keys", DictKeys},
    Builtin{"values", DictValues}, Builtin{"get", DictGet, {"key", "default"}, 1},
    Builtin{"copy", Copy},
};
const std::array kListMethods = {
    Builtin{"count", SequenceCount, {"value"}, 1},
    Builtin{"index", SequenceIndex, {"value"}, 1},
    Builtin{"copy", Copy},
};
const std::array kLoopMethods = {
    Builtin{"cycle", LoopCycle, {}, 0, true},
    Builtin{"changed", LoopChanged, {}, 0, true},
};

template <size_t kSize>
const Builtin* FindIn(const std::array<Builtin, kSize>& methods, std::string_view name) {
  for (const Builtin& method : methods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace

const Builtin* FindMethod(const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kString:
      return FindStringMethod(name);
    case Kind::kDict:
      return FindIn(kDictMethods, name);
    case Kind::kList:
      return FindIn(kListMethods, name);
    case Kind::kTuple:
    case Kind::kRange: {
      const Builtin* method = FindIn(kListMethods, name);
      return method != nullptr && name == "copy" ? nullptr : method;
    }
    default:
      return nullptr;
  }
}

const Builtin* FindLoopMethod(std::string_view name) { return FindIn(kLoopMethods, name); }

bool IsMutator(const Value& value, std::string_view name) {
  constexpr std::array<std::string_view, 8> kOfLists = {"append", "clear",  "extend",  "insert",
                                                        "pop",    "remove", "reverse", "sort"};
  constexpr std::array<std::string_view, 5> kOfDicts = {"clear", "pop", "popitem", "setdefault",
                                                        "update"};
  const auto has = [&](const auto& names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  return (value.Is(Kind::kList) && has(kOfLists)) || (value.Is(Kind::kDict) && has(kOfDicts));
}

}  // namespace sluice::jinja
