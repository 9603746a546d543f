// Filters over sequences and mappings that keep their order.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "template/filters.h"
#include "template/formatting.h"
#include "template/methods.h"
#include "template/operators.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

Value DefaultFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  if (!self.IsUndefined() && !(IsTrue(args.at(1)) && !IsTrue(self))) return self;
  return args.at(0).IsMissing() ? rt.NewString({}) : args.at(0);
}

Value LengthFilter(Runtime& rt, const Value& self, const CallArgs&) {
  return Value::Int(Length(rt, self));
}

Value FirstFilter(Runtime& rt, const Value& self, const CallArgs&) {
  if (self.Is(Kind::kGenerator)) {
    Sequence& generator = self.sequence();
    return generator.next < generator.items.size() ? generator.items[generator.next++] : Value();
  }
  const std::span<const Value> items = Items(rt, self);
  return items.empty() ? Value() : items.front();
}

Value LastFilter(Runtime& rt, const Value& self, const CallArgs&) {
  if (self.Is(Kind::kGenerator)) return rt.Fail("last needs a sequence, not a generator");
  const std::span<const Value> items = Items(rt, self);
  return items.empty() ? Value() : items.back();
}

std::vector<Value> CopyItems(Runtime& rt, const Value& value) {
  const std::span<const Value> items = Items(rt, value);
  return {items.begin(), items.end()};
}

Value ListFilter(Runtime& rt, const Value& self, const CallArgs&) {
  return rt.NewList(CopyItems(rt, self));
}

Value ReverseFilter(Runtime& rt, const Value& self, const CallArgs&) {
  if (self.IsString())
    return GetSlice(rt, self, Value::Missing(), Value::Missing(), Value::Int(-1));
  std::vector<Value> items = CopyItems(rt, self);
  std::reverse(items.begin(), items.end());
  return rt.NewSequence(Kind::kGenerator, std::move(items));
}

Value ItemsFilter(Runtime& rt, const Value& self, const CallArgs&) {
  if (self.IsUndefined()) return rt.NewSequence(Kind::kGenerator, {});
  if (!self.Is(Kind::kDict))
    return rt.Fail(fmt::format("items needs a mapping, not {}", TypeName(self)));
  std::vector<Value> pairs;
  for (const Dict::Entry& entry : self.dict().entries)
    pairs.push_back(rt.NewTuple({entry.key, entry.value}));
  return rt.NewSequence(Kind::kGenerator, std::move(pairs));
}

Value AttrFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const std::string_view name = Text(rt, args.at(0)).bytes();
  if (self.IsUndefined()) return FailUndefined(rt, self);
  if (IsMutator(self, name)) return {};
  if (self.Is(Kind::kNamespace)) {
    const Value* found = self.space().Find(name);
    return found == nullptr ? Value() : *found;
  }
  const Builtin* method = FindMethod(self, name);
  return method == nullptr ? Value() : rt.Method(*method, self);
}

// map('filter', ...) or map(attribute=..., default=...).
Value MapFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  std::vector<Value> out;
  Value attribute = Value::Missing();
  Value fallback = Value::Missing();
  if (args.positional.empty()) {
    for (const auto& [name, value] : args.keywords) {
      if (name == "attribute") attribute = value;
      if (name == "default") fallback = value;
      if (name != "attribute" && name != "default")
        return rt.Fail("'map' got an unexpected keyword argument");
    }
    if (attribute.IsMissing()) return rt.Fail("'map' needs a filter name or an attribute");
    for (const Value& item : Items(rt, self)) {
      const Value found = ResolveAttribute(rt, item, attribute);
      out.push_back(found.IsUndefined() && !fallback.IsMissing() ? fallback : found);
      if (!rt.Charge(1)) return {};
    }
    return rt.NewSequence(Kind::kGenerator, std::move(out));
  }
  if (!IsTrue(self)) return rt.NewSequence(Kind::kGenerator, {});
  const Builtin* filter = FindFilter(Text(rt, args.positional[0]).bytes());
  if (filter == nullptr) return rt.Fail("'map' names an unknown filter");
  const CallArgs rest{{args.positional.begin() + 1, args.positional.end()}, args.keywords};
  const DepthGuard guard(rt);  // map('map', ...) recurses
  for (const Value& item : Items(rt, self)) {
    if (!guard || !rt.Charge(1)) return {};
    out.push_back(CallBuiltin(rt, *filter, item, rest));
  }
  return rt.NewSequence(Kind::kGenerator, std::move(out));
}

// select, reject (by the item) and selectattr, rejectattr (by an attribute of it).
template <bool kByAttribute, bool kKeep>
Value SelectFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  constexpr size_t kNumOwn = kByAttribute ? 1 : 0;
  if (!IsTrue(self)) return rt.NewSequence(Kind::kGenerator, {});
  if (args.positional.size() < kNumOwn)
    return rt.Fail("a filter by attribute needs the attribute's name");
  const Builtin* test = nullptr;
  CallArgs rest;
  if (args.positional.size() > kNumOwn) {
    test = FindTest(Text(rt, args.positional[kNumOwn]).bytes());
    if (test == nullptr) return rt.Fail("a filter names an unknown test");
    rest = {{args.positional.begin() + kNumOwn + 1, args.positional.end()}, args.keywords};
  }
  const DepthGuard guard(rt);
  std::vector<Value> out;
  for (const Value& item : Items(rt, self)) {
    if (!guard || !rt.Charge(1)) return {};
    const Value subject = kByAttribute ? ResolveAttribute(rt, item, args.positional[0]) : item;
    const bool holds = IsTrue(test == nullptr ? subject : CallBuiltin(rt, *test, subject, rest));
    if (holds == kKeep) out.push_back(item);
  }
  return rt.NewSequence(Kind::kGenerator, std::move(out));
}

Value BatchFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const int64_t count = IntArgument(rt, args.at(0), "linecount");
  if (rt.failed()) return {};
  if (count < 1) return rt.Fail("batch needs a line count of at least 1");
  std::vector<Value> lines;
  std::vector<Value> line;
  for (const Value& item : Items(rt, self)) {
    if (static_cast<int64_t>(line.size()) == count)
      lines.push_back(rt.NewList(std::move(line))), line = {};
    line.push_back(item);
  }
  if (!line.empty()) {
    if (!args.at(1).IsMissing() && !args.at(1).IsNone()) {
      if (count > (int64_t{1} << 30) || !rt.RoomForItems(static_cast<size_t>(count)))
        return rt.FailLimit("a batch is too long");
      line.resize(static_cast<size_t>(count), args.at(1));
    }
    lines.push_back(rt.NewList(std::move(line)));
  }
  return rt.NewSequence(Kind::kGenerator, std::move(lines));
}

Value SumFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  Value sum = args.at(1).IsMissing() ? Value::Int(0) : args.at(1);
  if (sum.IsString()) return rt.Fail("sum cannot start with a str");
  for (const Value& item : Items(rt, self)) {
    const bool by_attribute = !args.at(0).IsMissing() && !args.at(0).IsNone();
    sum = Arithmetic(rt, ArithmeticOp::kAdd, sum,
                     by_attribute ? ResolveAttribute(rt, item, args.at(0)) : item);
    if (!rt.Charge(1)) return {};
  }
  return sum;
}

const std::array kFilters = {
    Builtin{"default", DefaultFilter, {"default_value", "boolean"}},
    Builtin{"d", DefaultFilter, {"default_value", "boolean"}},
    Builtin{"length", LengthFilter},
    Builtin{"count", LengthFilter},
    Builtin{"first", FirstFilter},
    Builtin{"last", LastFilter},
    Builtin{"list", ListFilter},
    Builtin{"reverse", ReverseFilter},
    Builtin{"items", ItemsFilter},
    Builtin{"attr", AttrFilter, {"name"}, 1},
    Builtin{"map", MapFilter, {}, 0, true},
    Builtin{"select", SelectFilter<false, true>, {}, 0, true},
    Builtin{"reject", SelectFilter<false, false>, {}, 0, true},
    Builtin{"selectattr", SelectFilter<true, true>, {}, 0, true},
    Builtin{"rejectattr", SelectFilter<true, false>, {}, 0, true},
    Builtin{"batch", BatchFilter, {"linecount", "fill_with"}, 1},
    Builtin{"sum", SumFilter, {"attribute", "start"}},
};

}  // namespace

const Builtin* FindSequenceFilter(std::string_view name) { return FindByName(kFilters, name); }

Value ResolveAttribute(Runtime& rt, const Value& item, const Value& attribute) {
  if (attribute.IsIntegral()) return GetItem(rt, item, attribute);
  if (!attribute.IsString())
    return rt.Fail(
        fmt::format("an attribute must be a str or an int, not {}", TypeName(attribute)));
  const std::string_view path = attribute.string().bytes();
  Value value = item;
  for (size_t begin = 0; begin <= path.size() && rt.Charge(1);) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    const bool numeric = !part.empty() && part.size() < 18 &&
                         std::all_of(
                             part.begin(), part.end(),
                             [](char c) { return IsDigit(static_cast<unsigned char>(c)); });
    value = GetItem(
        rt, value,
        numeric ? Value::Int(std::stoll(std::string(part))) : rt.NewString(part, Origin::kClient));
    begin = end + 1;
  }
  return value;
}

}  // namespace sluice::jinja
