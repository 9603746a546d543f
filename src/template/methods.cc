#include "template/methods.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <functional>

#include "template/formatting.h"
#include "template/operators.h"
#include "template/text_functions.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

const TracedString& TextArgument(Runtime& rt, const Value& value) {
  static const TracedString empty;
  if (value.IsString()) return value.string();
  rt.Fail(fmt::format("an argument must be a str, not {}", TypeName(value)));
  return empty;
}

int64_t IntOr(Runtime& rt, const Value& value, int64_t fallback) {
  return value.IsMissing() ? fallback : IntArgument(rt, value, "an argument");
}

template <Ends kEnds>
Value StripMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  return Strip(rt, self.string(), args.at(0), kEnds);
}

template <bool kFromRight>
Value SplitMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  return Split(rt, self.string(), args.at(0), IntOr(rt, args.at(1), -1), kFromRight);
}

// The byte range [start, end) that optional code point bounds of find, count, startswith, ...
// select; empty optional if start lies behind the end.
std::optional<std::pair<size_t, size_t>> Window(Runtime& rt, std::string_view text,
                                                const Value& start, const Value& end) {
  if (start.IsMissing() && end.IsMissing()) return std::pair{size_t{0}, text.size()};
  const auto length = static_cast<int64_t>(CountCodePoints(text));
  const auto bound = [&](const Value& v, int64_t fallback) {
    if (v.IsMissing() || v.IsNone()) return fallback;
    const int64_t i = IntArgument(rt, v, "a bound");
    return i < 0 ? std::max<int64_t>(i < -length ? 0 : i + length, 0) : i;
  };
  const int64_t from = bound(start, 0);
  const int64_t to = std::min(bound(end, length), length);
  if (from > to) return std::nullopt;
  size_t begin = 0;
  for (int64_t i = 0; i < from; ++i) begin += DecodeAt(text, begin).num_bytes;
  size_t stop = begin;
  for (int64_t i = from; i < to; ++i) stop += DecodeAt(text, stop).num_bytes;
  return std::pair{begin, stop};
}

template <bool kStart>
Value AffixMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const std::string_view text = self.string().bytes();
  const auto window = Window(rt, text, args.at(1), args.at(2));
  const Value& affix = args.at(0);
  const std::span<const Value> affixes = affix.Is(Kind::kTuple)
                                             ? std::span<const Value>(affix.sequence().items)
                                             : std::span(&affix, 1);
  for (const Value& candidate : affixes) {
    const std::string_view bytes = TextArgument(rt, candidate).bytes();
    if (!rt.ChargeBytes(bytes.size())) return {};
    if (!window.has_value()) continue;
    const std::string_view part = text.substr(window->first, window->second - window->first);
    if (kStart ? part.starts_with(bytes) : part.ends_with(bytes)) return Value::Bool(true);
  }
  return Value::Bool(false);
}

// The byte offset of the first (last) occurrence within the window, or npos.
size_t Locate(Runtime& rt, std::string_view text, const CallArgs& args, bool last) {
  const std::string_view needle = TextArgument(rt, args.at(0)).bytes();
  const auto window = Window(rt, text, args.at(1), args.at(2));
  if (!window.has_value() || !rt.ChargeBytes(text.size() + needle.size()))
    return std::string_view::npos;
  const std::string_view part = text.substr(window->first, window->second - window->first);
  if (!last) {
    const void* found = memmem(part.data(), part.size(), needle.data(), needle.size());
    return found == nullptr ? std::string_view::npos
                            : static_cast<size_t>(static_cast<const char*>(found) - text.data());
  }
  if (!rt.Charge(static_cast<int64_t>(part.size() / 64 * (needle.size() / 16 + 1))))
    return std::string_view::npos;
  const size_t found = part.rfind(needle);
  return found == std::string_view::npos ? found : found + window->first;
}

template <bool kLast, bool kMustExist>
Value FindTextMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const std::string_view text = self.string().bytes();
  const size_t at = Locate(rt, text, args, kLast);
  if (at != std::string_view::npos)
    return Value::Int(static_cast<int64_t>(CountCodePoints(text.substr(0, at))));
  return kMustExist ? rt.Fail("substring not found") : Value::Int(-1);
}

Value CountText(Runtime& rt, const Value& self, const CallArgs& args) {
  const std::string_view text = self.string().bytes();
  const std::string_view needle = TextArgument(rt, args.at(0)).bytes();
  const auto window = Window(rt, text, args.at(1), args.at(2));
  if (!window.has_value() || !rt.ChargeBytes(text.size() + needle.size())) return Value::Int(0);
  std::string_view part = text.substr(window->first, window->second - window->first);
  if (needle.empty()) return Value::Int(static_cast<int64_t>(CountCodePoints(part)) + 1);
  int64_t count = 0;
  while (const void* found = memmem(part.data(), part.size(), needle.data(), needle.size())) {
    ++count;
    part.remove_prefix(static_cast<size_t>(static_cast<const char*>(found) - part.data()) +
                       needle.size());
  }
  return Value::Int(count);
}

Value ReplaceMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  return Replace(rt, self.string(), TextArgument(rt, args.at(0)), TextArgument(rt, args.at(1)),
                 IntOr(rt, args.at(2), -1));
}

Value JoinMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  if (args.at(0).IsUndefined()) return rt.NewString({});
  return JoinText(rt, self.string(), Items(rt, args.at(0)), false);
}

Value UpperMethod(Runtime& rt, const Value& self, const CallArgs&) {
  return Upper(rt, self.string());
}
Value LowerMethod(Runtime& rt, const Value& self, const CallArgs&) {
  return Lower(rt, self.string());
}
Value CapitalizeMethod(Runtime& rt, const Value& self, const CallArgs&) {
  return Capitalize(rt, self.string());
}

// str.title(): a letter after anything but a letter becomes upper case.
Value TitleMethod(Runtime& rt, const Value& self, const CallArgs&) {
  return MapCodePoints(rt, self.string(), [](char32_t c, char32_t previous) {
    return IsUpper(previous) || IsLower(previous) ? LowerOf(c) : UpperOf(c);
  });
}

Value SwapCaseMethod(Runtime& rt, const Value& self, const CallArgs&) {
  return MapCodePoints(rt, self.string(),
                       [](char32_t c, char32_t) { return IsUpper(c) ? LowerOf(c) : UpperOf(c); });
}

template <bool kPrefix>
Value RemoveAffixMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const TracedString& text = self.string();
  const TracedString& affix = TextArgument(rt, args.at(0));
  const bool has =
      kPrefix ? text.bytes().starts_with(affix.bytes()) : text.bytes().ends_with(affix.bytes());
  if (!has || affix.empty()) return self;
  return rt.NewString(kPrefix ? text.Substr(affix.size(), text.size())
                              : text.Substr(0, text.size() - affix.size()));
}

Value SplitLinesMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  std::vector<Value> out;
  for (TracedString& line : SplitLines(rt, self.string(), IsTrue(args.at(0))))
    out.push_back(rt.NewString(std::move(line)));
  return rt.NewList(std::move(out));
}

template <bool kLast>
Value PartitionMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const TracedString& text = self.string();
  const TracedString& separator = TextArgument(rt, args.at(0));
  if (separator.empty()) return rt.Fail("a separator must not be empty");
  const CallArgs needle{{args.at(0), Value::Missing(), Value::Missing()}, {}};
  const size_t at = Locate(rt, text.bytes(), needle, kLast);
  const Value empty = rt.NewString({});
  if (at == std::string_view::npos) {
    return rt.NewTuple(kLast ? std::vector<Value>{empty, empty, self}
                             : std::vector<Value>{self, empty, empty});
  }
  return rt.NewTuple({rt.NewString(text.Substr(0, at)), args.at(0),
                      rt.NewString(text.Substr(at + separator.size(), text.size()))});
}

template <bool (*kTest)(char32_t)>
Value AllMethod(Runtime& rt, const Value& self, const CallArgs&) {
  const std::string_view text = self.string().bytes();
  if (!rt.ChargeBytes(text.size())) return {};
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    if (!kTest(c.value)) return Value::Bool(false);
    at += c.num_bytes;
  }
  return Value::Bool(!text.empty());
}

bool IsAlnum(char32_t c) { return IsAlpha(c) || IsDigit(c); }

Value IsUpperMethod(Runtime&, const Value& self, const CallArgs&) {
  return Value::Bool(AllUpper(self.string().bytes()));
}
Value IsLowerMethod(Runtime&, const Value& self, const CallArgs&) {
  return Value::Bool(AllLower(self.string().bytes()));
}
Value IsAsciiMethod(Runtime&, const Value& self, const CallArgs&) {
  const std::string_view text = self.string().bytes();
  return Value::Bool(std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

template <char kAlign>
Value JustifyMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  static const TracedString blank(" ", Origin::kClient);
  const TracedString& fill = args.at(1).IsMissing() ? blank : TextArgument(rt, args.at(1));
  return Justify(rt, self.string(), IntArgument(rt, args.at(0), "a width"), fill, kAlign);
}

Value ZeroFillMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  const TracedString& text = self.string();
  const bool has_sign = !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+');
  const int64_t width = IntArgument(rt, args.at(0), "a width") - (has_sign ? 1 : 0);
  const Value filled = Justify(rt, text.Substr(has_sign ? 1 : 0, text.size()), width,
                               TracedString("0", Origin::kClient), '>');
  if (!has_sign || rt.failed()) return filled;
  TracedString out = text.Substr(0, 1);
  out.Append(filled.string());
  return rt.NewString(std::move(out));
}

Value FormatMethod(Runtime& rt, const Value& self, const CallArgs& args) {
  return BraceFormat(rt, self.string(), args);
}

const std::array kStringMethods = {
    Builtin{"strip", StripMethod<Ends::kBoth>, {"chars"}},
    Builtin{"lstrip", StripMethod<Ends::kLeft>, {"chars"}},
    Builtin{"rstrip", StripMethod<Ends::kRight>, {"chars"}},
    Builtin{"split", SplitMethod<false>, {"sep", "maxsplit"}},
    Builtin{"rsplit", SplitMethod<true>, {"sep", "maxsplit"}},
    Builtin{"startswith", AffixMethod<true>, {"prefix", "start", "end"}, 1},
    Builtin{"endswith", AffixMethod<false>, {"suffix", "start", "end"}, 1},
    Builtin{"replace", ReplaceMethod, {"old", "new", "count"}, 2},
    Builtin{"join", JoinMethod, {"iterable"}, 1},
    Builtin{"upper", UpperMethod},
    Builtin{"lower", LowerMethod},
    Builtin{"casefold", LowerMethod},
    Builtin{"title", TitleMethod},
    Builtin{"capitalize", CapitalizeMethod},
    Builtin{"swapcase", SwapCaseMethod},
    Builtin{"find", FindTextMethod<false, false>, {"sub", "start", "end"}, 1},
    Builtin{"rfind", FindTextMethod<true, false>, {"sub", "start", "end"}, 1},
    Builtin{"index", FindTextMethod<false, true>, {"sub", "start", "end"}, 1},
    Builtin{"rindex", FindTextMethod<true, true>, {"sub", "start", "end"}, 1},
    Builtin{"count", CountText, {"sub", "start", "end"}, 1},
    Builtin{"removeprefix", RemoveAffixMethod<true>, {"prefix"}, 1},
    Builtin{"removesuffix", RemoveAffixMethod<false>, {"suffix"}, 1},
    Builtin{"splitlines", SplitLinesMethod, {"keepends"}},
    Builtin{"partition", PartitionMethod<false>, {"sep"}, 1},
    Builtin{"rpartition", PartitionMethod<true>, {"sep"}, 1},
    Builtin{"isspace", AllMethod<IsSpace>},
    Builtin{"isalpha", AllMethod<IsAlpha>},
    Builtin{"isalnum", AllMethod<IsAlnum>},
    Builtin{"isdigit", AllMethod<IsDigit>},
    Builtin{"isdecimal", AllMethod<IsDigit>},
    Builtin{"isnumeric", AllMethod<IsDigit>},
    Builtin{"isupper", IsUpperMethod},
    Builtin{"islower", IsLowerMethod},
    Builtin{"isascii", IsAsciiMethod},
    Builtin{"center", JustifyMethod<'^'>, {"width", "fillchar"}, 1},
    Builtin{"ljust", JustifyMethod<'<'>, {"width", "fillchar"}, 1},
    Builtin{"rjust", JustifyMethod<'>'>, {"width", "fillchar"}, 1},
    Builtin{"zfill", ZeroFillMethod, {"width"}, 1},
    Builtin{"format", FormatMethod, {}, 0, true},
};

}  // namespace

const Builtin* FindStringMethod(std::string_view name) {
  const auto* it = std::find_if(kStringMethods.begin(), kStringMethods.end(),
                                [&](const Builtin& b) { return b.name == name; });
  return it == kStringMethods.end() ? nullptr : it;
}

}  // namespace sluice::jinja
