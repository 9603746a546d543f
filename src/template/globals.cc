// The global functions templates may call: Jinja's and those transformers adds.
#include <fmt/format.h>

#include <array>

#include "absl/time/time.h"
#include "template/filters.h"
#include "template/formatting.h"
#include "template/operators.h"

namespace sluice::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // the sandbox's own limit

Value RangeFunction(Runtime& rt, const Value&, const CallArgs& args) {
  int64_t bounds[3] = {0, 0, 1};
  size_t given = 0;
  for (; given < 3 && !args.at(given).IsMissing(); ++given)
    bounds[given] = IntArgument(rt, args.at(given), "a range bound");
  if (given == 1) std::swap(bounds[0], bounds[1]);
  const auto [start, stop, step] = bounds;
  if (rt.failed()) return {};
  if (step == 0) return rt.Fail("a range step must not be zero");
  const auto distance =
      static_cast<__int128>(step > 0 ? 1 : -1) * (static_cast<__int128>(stop) - start);
  const __int128 width = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  const __int128 count = distance <= 0 ? 0 : (distance + width - 1) / width;
  if (count > kMaxRange) return rt.Fail(fmt::format("a range has more than {} items", kMaxRange));
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    items.push_back(Value::Int(start + i * step));
  std::string name = step == 1 ? fmt::format("range({}, {})", start, stop)
                               : fmt::format("range({}, {}, {})", start, stop, step);
  return rt.NewSequence(Kind::kRange, std::move(items), std::move(name));
}

// dict() and namespace(): one mapping or list of pairs, then keywords.
Dict* BuildDict(Runtime& rt, const CallArgs& args) {
  Dict* dict = rt.NewDict();
  if (args.positional.size() > 1) rt.Fail("dict() takes one positional argument");
  if (args.positional.size() == 1 && args.positional[0].Is(Kind::kDict)) {
    for (const Dict::Entry& entry : args.positional[0].dict().entries)
      SetEntry(rt, *dict, entry.key, entry.value);
  } else if (args.positional.size() == 1) {
    for (const Value& pair : Items(rt, args.positional[0])) {
      const std::span<const Value> parts = Items(rt, pair);
      if (parts.size() != 2) rt.Fail("dict() needs pairs");
      if (rt.failed()) return dict;
      SetEntry(rt, *dict, parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.keywords)
    SetEntry(rt, *dict, rt.NewString(name, Origin::kTemplate), value);
  return dict;
}

Value DictFunction(Runtime& rt, const Value&, const CallArgs& args) {
  return Value::Map(BuildDict(rt, args));
}

Value NamespaceFunction(Runtime& rt, const Value&, const CallArgs& args) {
  const Dict* dict = BuildDict(rt, args);
  Namespace* space = rt.NewNamespace();
  for (const Dict::Entry& entry : dict->entries) {
    if (!rt.RoomForItems(1)) return {};
    if (!entry.key.IsString()) return rt.Fail("namespace() needs names that are strings");
    space->fields.emplace_back(std::string(entry.key.string().bytes()), entry.value);
  }
  return Value::Space(space);
}

// The message is the template's own, but it may quote the client, whose text must not reach a log:
// it becomes "…".
Value RaiseFunction(Runtime& rt, const Value&, const CallArgs& args) {
  constexpr size_t kMaxBytes = 2000;
  std::string message;
  Text(rt, args.at(0)).ForEachRun([&message](std::string_view run, Origin origin) {
    if (message.size() + run.size() > kMaxBytes || origin == Origin::kClient) run = "…";
    if (message.size() < kMaxBytes) message += run;
  });
  return rt.Fail(message.empty() ? "raise_exception was called" : message);
}

Value StrftimeFunction(Runtime& rt, const Value&, const CallArgs& args) {
  const TracedString& format = Text(rt, args.at(0));
  if (format.size() > 256) return rt.FailLimit("a time format is longer than 256 bytes");
  const Origin origin = format.AllFrom(Origin::kTemplate) ? Origin::kTemplate : Origin::kClient;
  return rt.NewString(
      absl::FormatTime(std::string(format.bytes()), rt.now(), absl::LocalTimeZone()), origin);
}

const std::array kGlobals = {
    Builtin{"range", RangeFunction, {"start", "stop", "step"}, 1},
    Builtin{"dict", DictFunction, {}, 0, true},
    Builtin{"namespace", NamespaceFunction, {}, 0, true},
    Builtin{"raise_exception", RaiseFunction, {"message"}, 1},
    Builtin{"strftime_now", StrftimeFunction, {"format"}, 1},
};

}  // namespace

const Builtin* FindGlobal(std::string_view name) { return FindByName(kGlobals, name); }

}  // namespace sluice::jinja
