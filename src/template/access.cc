// Item, attribute and slice access, iteration and membership (the second half of operators.h).
#include <fmt/format.h>
#include <string.h>

#include "template/methods.h"
#include "template/operators.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

// Byte range of the code point with that index (negative: from the end); empty if out of range.
std::optional<std::pair<size_t, size_t>> CodePointRange(Runtime& rt, std::string_view text,
                                                        int64_t index) {
  if (!rt.ChargeBytes(text.size())) return std::nullopt;
  if (index < 0) index += static_cast<int64_t>(CountCodePoints(text));
  if (index < 0) return std::nullopt;
  size_t at = 0;
  for (; at < text.size() && index > 0; --index) at += DecodeAt(text, at).num_bytes;
  if (at >= text.size()) return std::nullopt;
  return std::pair{at, at + DecodeAt(text, at).num_bytes};
}

std::vector<Value> Characters(Runtime& rt, const TracedString& text) {
  std::vector<Value> out;
  const std::string_view bytes = text.bytes();
  for (size_t at = 0; at < bytes.size();) {
    const size_t end = at + DecodeAt(bytes, at).num_bytes;
    out.push_back(rt.NewString(text.Substr(at, end)));
    if (rt.failed()) break;
    at = end;
  }
  return out;
}

struct SliceRange {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
};

// Python's slice.indices(length).
std::optional<SliceRange> ResolveSlice(Runtime& rt, const Value& start, const Value& stop,
                                       const Value& step, int64_t length) {
  const auto given = [](const Value& v) { return !v.IsMissing() && !v.IsNone(); };
  SliceRange out;
  if (given(step)) out.step = IntArgument(rt, step, "a slice step");
  if (out.step == 0) rt.Fail("a slice step must not be zero");
  const int64_t lowest = out.step < 0 ? -1 : 0;
  const int64_t highest = out.step < 0 ? length - 1 : length;
  const auto clamp = [&](const Value& bound, int64_t fallback) {
    if (!given(bound)) return fallback;
    int64_t v = IntArgument(rt, bound, "a slice bound");
    if (v < 0) v = v < -length ? lowest : v + length;
    return v < lowest ? lowest : v > highest ? highest : v;
  };
  out.start = clamp(start, out.step < 0 ? highest : lowest);
  out.stop = clamp(stop, out.step < 0 ? lowest : highest);
  if (rt.failed()) return std::nullopt;
  return out;
}

template <typename Visit>
void ForEachIndex(const SliceRange& range, Visit visit) {
  int64_t i = range.start;
  while (range.step > 0 ? i < range.stop : i > range.stop) {
    visit(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, range.step, &i)) return;
  }
}

Value SliceString(Runtime& rt, const TracedString& text, const Value& start, const Value& stop,
                  const Value& step) {
  const std::string_view bytes = text.bytes();
  if (!rt.ChargeBytes(2 * bytes.size())) return {};
  std::vector<uint32_t> offsets;
  for (size_t at = 0; at < bytes.size(); at += DecodeAt(bytes, at).num_bytes) {
    offsets.push_back(static_cast<uint32_t>(at));
  }
  const auto range = ResolveSlice(rt, start, stop, step, static_cast<int64_t>(offsets.size()));
  if (!range.has_value()) return {};
  offsets.push_back(static_cast<uint32_t>(bytes.size()));
  if (range->step == 1) {
    if (range->start >= range->stop) return rt.NewString({});
    return rt.NewString(text.Substr(offsets[static_cast<size_t>(range->start)],
                                    offsets[static_cast<size_t>(range->stop)]));
  }
  TracedString out;
  ForEachIndex(*range, [&](size_t i) { out.Append(text, offsets[i], offsets[i + 1]); });
  return rt.NewString(std::move(out));
}

Value LoopAttribute(Runtime& rt, Loop& loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop.index);
  const auto length = static_cast<int64_t>(loop.items.size());
  if (name == "index") return Value::Int(index + 1);
  if (name == "index0") return Value::Int(index);
  if (name == "first") return Value::Bool(index == 0);
  if (name == "last") return Value::Bool(index + 1 == length);
  if (name == "length") return Value::Int(length);
  if (name == "revindex") return Value::Int(length - index);
  if (name == "revindex0") return Value::Int(length - index - 1);
  if (name == "depth") return Value::Int(loop.depth);
  if (name == "depth0") return Value::Int(loop.depth - 1);
  if (name == "previtem") return index > 0 ? loop.items[loop.index - 1] : Value();
  if (name == "nextitem") return index + 1 < length ? loop.items[loop.index + 1] : Value();
  if (const Builtin* method = FindLoopMethod(name)) return rt.Method(*method, Value::LoopOf(&loop));
  return {};
}

// A method or attribute that the type itself has; Undefined if none.
Value OwnAttribute(Runtime& rt, const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kLoop:
      return LoopAttribute(rt, value.loop(), name);
    case Kind::kNamespace: {
      const Value* found = value.space().Find(name);
      return found == nullptr ? Value() : *found;
    }
    default:
      break;
  }
  const Builtin* method = FindMethod(value, name);
  return method == nullptr ? Value() : rt.Method(*method, value);
}

bool ContainsText(Runtime& rt, const TracedString& text, const Value& item) {
  if (item.IsUndefined()) FailUndefined(rt, item);
  if (!item.IsString()) {
    rt.Fail(fmt::format("'in <str>' needs a str on the left, not {}", TypeName(item)));
    return false;
  }
  if (!rt.ChargeBytes(text.size() + item.string().size())) return false;
  const std::string_view needle = item.string().bytes();
  return memmem(text.bytes().data(), text.size(), needle.data(), needle.size()) != nullptr;
}

}  // namespace

Value FailUndefined(Runtime& rt, const Value& undefined) {
  if (undefined.undefined_name() == nullptr) return rt.Fail("an undefined value is used");
  return rt.Fail(fmt::format("'{}' is undefined", *undefined.undefined_name()));
}

int64_t IntArgument(Runtime& rt, const Value& value, std::string_view what) {
  if (value.IsIntegral()) return value.integer();
  rt.Fail(fmt::format("{} must be an int, not {}", what, TypeName(value)));
  return 0;
}

std::span<const Value> Items(Runtime& rt, const Value& value) {
  if (rt.failed()) return {};
  switch (value.kind()) {
    case Kind::kUndefined:
      return {};
    case Kind::kGenerator: {
      Sequence& generator = value.sequence();
      const size_t begin = generator.next;
      generator.next = generator.items.size();
      return std::span<const Value>(generator.items).subspan(begin);
    }
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return value.sequence().items;
    case Kind::kString: {
      const Value characters = rt.NewList(Characters(rt, value.string()));
      if (rt.failed()) return {};
      return characters.sequence().items;
    }
    case Kind::kDict: {
      std::vector<Value> keys;
      keys.reserve(value.dict().entries.size());
      for (const Dict::Entry& entry : value.dict().entries) keys.push_back(entry.key);
      const Value list = rt.NewList(std::move(keys));
      if (rt.failed()) return {};
      return list.sequence().items;
    }
    default:
      rt.Fail(fmt::format("{} is not iterable", TypeName(value)));
      return {};
  }
}

int64_t Length(Runtime& rt, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      rt.ChargeBytes(value.string().size());
      return static_cast<int64_t>(CountCodePoints(value.string().bytes()));
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return static_cast<int64_t>(value.sequence().items.size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kLoop:
      return static_cast<int64_t>(value.loop().items.size());
    default:
      rt.Fail(fmt::format("{} has no length", TypeName(value)));
      return 0;
  }
}

bool Contains(Runtime& rt, const Value& container, const Value& item) {
  if (rt.failed()) return false;
  if (container.IsString()) return ContainsText(rt, container.string(), item);
  if (container.Is(Kind::kDict)) return FindEntry(rt, container.dict(), item) != nullptr;
  for (const Value& candidate : Items(rt, container)) {
    if (Equals(rt, candidate, item)) return true;
    if (rt.failed()) return false;
  }
  return false;
}

Value GetItem(Runtime& rt, const Value& value, const Value& key) {
  if (rt.failed()) return {};
  switch (value.kind()) {
    case Kind::kUndefined:
      return FailUndefined(rt, value);
    case Kind::kDict: {
      if (!key.IsString() && !key.IsNumber() && !key.IsNone()) return {};
      if (const Value* found = FindEntry(rt, value.dict(), key)) return *found;
      break;
    }
    case Kind::kString:
      if (key.IsIntegral()) {
        const auto range = CodePointRange(rt, value.string().bytes(), key.integer());
        return range.has_value() ? rt.NewString(value.string().Substr(range->first, range->second))
                                 : Value();
      }
      break;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      if (key.IsIntegral()) {
        const std::vector<Value>& items = value.sequence().items;
        const auto size = static_cast<int64_t>(items.size());
        int64_t index = key.integer();
        if (index < 0) index += size;
        return index >= 0 && index < size ? items[static_cast<size_t>(index)] : Value();
      }
      break;
    default:
      break;
  }
  return key.IsString() ? OwnAttribute(rt, value, key.string().bytes()) : Value();
}

Value GetAttribute(Runtime& rt, const Value& value, const std::string& name) {
  if (rt.failed()) return {};
  if (value.IsUndefined()) return FailUndefined(rt, value);
  if (IsMutator(value, name)) return Value::Undefined(&name);
  const Value own = OwnAttribute(rt, value, name);
  if (!own.IsUndefined()) return own;
  if (value.Is(Kind::kDict)) {
    if (const Value* found = value.dict().Find(name)) return *found;
  }
  return Value::Undefined(&name);
}

Value GetSlice(Runtime& rt, const Value& value, const Value& start, const Value& stop,
               const Value& step) {
  if (rt.failed()) return {};
  if (value.IsString()) return SliceString(rt, value.string(), start, stop, step);
  if (value.IsUndefined()) return FailUndefined(rt, value);
  if (!value.Is(Kind::kList) && !value.Is(Kind::kTuple) && !value.Is(Kind::kRange)) {
    return rt.Fail(fmt::format("{} cannot be sliced", TypeName(value)));
  }
  const std::vector<Value>& items = value.sequence().items;
  const auto range = ResolveSlice(rt, start, stop, step, static_cast<int64_t>(items.size()));
  if (!range.has_value() || !rt.Charge(static_cast<int64_t>(items.size() / 16))) return {};
  std::vector<Value> out;
  ForEachIndex(*range, [&](size_t i) { out.push_back(items[i]); });
  return rt.NewSequence(value.Is(Kind::kTuple) ? Kind::kTuple : Kind::kList, std::move(out));
}

const Value* FindEntry(Runtime& rt, const Dict& dict, const Value& key) {
  if (key.IsString()) return dict.Find(key.string().bytes());
  if (!key.IsNumber() && !key.IsNone() && !key.IsUndefined()) {
    rt.Fail(fmt::format("{} cannot be a dict key", TypeName(key)));
    return nullptr;
  }
  if (!rt.Charge(static_cast<int64_t>(dict.entries.size() / 8))) return nullptr;
  for (const Dict::Entry& entry : dict.entries) {
    if (!entry.key.IsString() && Equals(rt, entry.key, key)) return &entry.value;
  }
  return nullptr;
}

void SetEntry(Runtime& rt, Dict& dict, const Value& key, const Value& value) {
  if (rt.failed() || !rt.RoomForItems(1)) return;
  if (key.IsString()) {
    dict.SetString(key, value);
    return;
  }
  const Value* found = FindEntry(rt, dict, key);
  if (rt.failed()) return;
  if (found != nullptr) {
    *const_cast<Value*>(found) = value;
  } else {
    dict.entries.push_back({key, value});
    // Beyond kScan strings are found by the index, which SetString starts when it adds entry kScan
    // + 1.
    if (dict.entries.size() == Dict::kScan + 1) {
      for (size_t i = 0; i < dict.entries.size(); ++i) {
        if (dict.entries[i].key.IsString())
          dict.index.emplace(dict.entries[i].key.string().bytes(), i);
      }
    }
  }
}

}  // namespace sluice::jinja
