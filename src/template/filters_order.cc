// Filters that compare items: sort, dictsort, unique, min, max, groupby.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "template/filters.h"
#include "template/formatting.h"
#include "template/operators.h"
#include "template/text_functions.h"

namespace sluice::jinja {
namespace {

struct Keyed {
  Value key;
  Value item;
};

// What an item is compared by: an attribute of it, in lower case unless case counts.
Value KeyOf(Runtime& rt, const Value& item, const Value& attribute, bool case_sensitive) {
  const Value key =
      attribute.IsMissing() || attribute.IsNone() ? item : ResolveAttribute(rt, item, attribute);
  return key.IsString() && !case_sensitive ? Lower(rt, key.string()) : key;
}

// sort's attribute may name several, separated by commas; their keys form a list.
Value SortKeyOf(Runtime& rt, const Value& item, const Value& attribute, bool case_sensitive) {
  if (!attribute.IsString() || attribute.string().bytes().find(',') == std::string_view::npos) {
    return KeyOf(rt, item, attribute, case_sensitive);
  }
  const Value names =
      Split(rt, attribute.string(), rt.NewString(",", Origin::kTemplate), -1, false);
  std::vector<Value> keys;
  for (const Value& name : Items(rt, names)) keys.push_back(KeyOf(rt, item, name, case_sensitive));
  return rt.NewList(std::move(keys));
}

std::vector<Keyed> KeyedItems(Runtime& rt, std::span<const Value> items, const Value& attribute,
                              bool case_sensitive) {
  std::vector<Keyed> out;
  for (const Value& item : items) {
    if (!rt.Charge(1)) break;
    out.push_back({SortKeyOf(rt, item, attribute, case_sensitive), item});
  }
  return out;
}

// A merge sort of our own: std::stable_sort may misbehave under an order that fails midway or is no
// order (NaN).
void StableSort(Runtime& rt, std::vector<Keyed>& items, bool reverse) {
  std::vector<Keyed> merged(items.size());
  for (size_t width = 1; width < items.size(); width *= 2) {
    for (size_t begin = 0; begin < items.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, items.size());
      const size_t end = std::min(begin + 2 * width, items.size());
      size_t left = begin;
      size_t right = middle;
      for (size_t out = begin; out < end; ++out) {
        const bool take_right =
            right < end &&
            (left == middle ||
             (reverse ? Compare(rt, CompareOp::kLt, items[left].key, items[right].key)
                      : Compare(rt, CompareOp::kLt, items[right].key, items[left].key)));
        merged[out] = take_right ? items[right++] : items[left++];
        if (rt.failed()) return;
      }
    }
    items.swap(merged);
  }
}

Value ListOf(Runtime& rt, const std::vector<Keyed>& items) {
  std::vector<Value> out;
  out.reserve(items.size());
  for (const Keyed& entry : items) out.push_back(entry.item);
  return rt.NewList(std::move(out));
}

Value SortFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  std::vector<Keyed> items = KeyedItems(rt, Items(rt, self), args.at(2), IsTrue(args.at(1)));
  StableSort(rt, items, IsTrue(args.at(0)));
  return ListOf(rt, items);
}

Value DictSortFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  if (self.IsUndefined()) return FailUndefined(rt, self);
  if (!self.Is(Kind::kDict))
    return rt.Fail(fmt::format("dictsort needs a mapping, not {}", TypeName(self)));
  const std::string_view by =
      args.at(1).IsMissing() ? std::string_view("key") : Text(rt, args.at(1)).bytes();
  if (by != "key" && by != "value") return rt.Fail("dictsort sorts by 'key' or 'value'");
  std::vector<Keyed> items;
  for (const Dict::Entry& entry : self.dict().entries) {
    const Value key =
        KeyOf(rt, by == "key" ? entry.key : entry.value, Value::Missing(), IsTrue(args.at(0)));
    items.push_back({key, rt.NewTuple({entry.key, entry.value})});
    if (rt.failed()) return {};
  }
  StableSort(rt, items, IsTrue(args.at(2)));
  return ListOf(rt, items);
}

Value UniqueFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  Dict* seen = rt.NewDict();
  std::vector<Value> out;
  for (const Keyed& entry : KeyedItems(rt, Items(rt, self), args.at(1), IsTrue(args.at(0)))) {
    if (FindEntry(rt, *seen, entry.key) == nullptr) {
      SetEntry(rt, *seen, entry.key, Value::None());
      out.push_back(entry.item);
    }
    if (rt.failed()) return {};
  }
  return rt.NewSequence(Kind::kGenerator, std::move(out));
}

template <CompareOp kBetter>
Value ExtremeFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const std::vector<Keyed> items = KeyedItems(rt, Items(rt, self), args.at(1), IsTrue(args.at(0)));
  if (items.empty()) return {};
  const Keyed* best = items.data();
  for (const Keyed& entry : items) {
    if (&entry != best && Compare(rt, kBetter, entry.key, best->key)) best = &entry;
    if (rt.failed()) return {};
  }
  return best->item;
}

// Groups of equal attribute, sorted by it, as (grouper, list) tuples.
Value GroupByFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const bool case_sensitive = IsTrue(args.at(2));
  std::vector<Keyed> items;
  for (const Value& item : Items(rt, self)) {
    Value key = ResolveAttribute(rt, item, args.at(0));
    if (key.IsUndefined() && !args.at(1).IsMissing()) key = args.at(1);
    if (!rt.Charge(1)) return {};
    items.push_back({key.IsString() && !case_sensitive ? Lower(rt, key.string()) : key, item});
  }
  StableSort(rt, items, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size() && !rt.failed();) {
    std::vector<Value> members;
    size_t end = begin;
    while (end < items.size() && Equals(rt, items[begin].key, items[end].key))
      members.push_back(items[end++].item);
    if (rt.failed()) return {};
    Value grouper = ResolveAttribute(rt, members[0], args.at(0));
    if (grouper.IsUndefined() && !args.at(1).IsMissing()) grouper = args.at(1);
    groups.push_back(rt.NewTuple({grouper, rt.NewList(std::move(members))}));
    begin = end;
  }
  return rt.NewList(std::move(groups));
}

const std::array kFilters = {
    Builtin{"sort", SortFilter, {"reverse", "case_sensitive", "attribute"}},
    Builtin{"dictsort", DictSortFilter, {"case_sensitive", "by", "reverse"}},
    Builtin{"unique", UniqueFilter, {"case_sensitive", "attribute"}},
    Builtin{"min", ExtremeFilter<CompareOp::kLt>, {"case_sensitive", "attribute"}},
    Builtin{"max", ExtremeFilter<CompareOp::kGt>, {"case_sensitive", "attribute"}},
    Builtin{"groupby", GroupByFilter, {"attribute", "default", "case_sensitive"}, 1},
};

}  // namespace

const Builtin* FindOrderFilter(std::string_view name) { return FindByName(kFilters, name); }

}  // namespace sluice::jinja
