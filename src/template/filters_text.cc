// Filters that give or take text.
#include <fmt/format.h>

#include <array>

#include "template/filters.h"
#include "template/formatting.h"
#include "template/json_values.h"
#include "template/operators.h"
#include "template/text_functions.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

Value TrimFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  return Strip(rt, Text(rt, self), args.at(0), Ends::kBoth);
}

Value UpperFilter(Runtime& rt, const Value& self, const CallArgs&) {
  return Upper(rt, Text(rt, self));
}
Value LowerFilter(Runtime& rt, const Value& self, const CallArgs&) {
  return Lower(rt, Text(rt, self));
}
Value CapitalizeFilter(Runtime& rt, const Value& self, const CallArgs&) {
  return Capitalize(rt, Text(rt, self));
}

// Unlike str.title: a word starts after white space or one of - ( { [ <, and only its first letter
// is upper case.
Value TitleFilter(Runtime& rt, const Value& self, const CallArgs&) {
  return MapCodePoints(rt, Text(rt, self), [](char32_t c, char32_t previous) {
    const bool starts_word =
        previous == 0 || IsSpace(previous) ||
        std::u32string_view(U"-({[<").find(previous) != std::u32string_view::npos;
    return starts_word ? UpperOf(c) : LowerOf(c);
  });
}

Value ReplaceFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const int64_t count =
      args.at(2).IsMissing() || args.at(2).IsNone() ? -1 : IntArgument(rt, args.at(2), "count");
  return Replace(rt, Text(rt, self), Text(rt, args.at(0)), Text(rt, args.at(1)), count);
}

Value StringFilter(Runtime& rt, const Value& self, const CallArgs&) { return TextValue(rt, self); }

Value EscapeFilter(Runtime& rt, const Value& self, const CallArgs&) {
  return MapCodePoints(rt, Text(rt, self), [](char32_t c, char32_t) -> std::string {
    switch (c) {
      case '&':
        return "&amp;";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      case '"':
        return "&#34;";
      case '\'':
        return "&#39;";
      default: {
        std::string out;
        AppendUtf8(out, c);
        return out;
      }
    }
  });
}

Value JoinFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  std::vector<Value> items;
  for (const Value& item : Items(rt, self)) {
    items.push_back(args.at(1).IsMissing() || args.at(1).IsNone()
                        ? item
                        : ResolveAttribute(rt, item, args.at(1)));
    if (!rt.Charge(1)) return {};
  }
  const TracedString none;
  return JoinText(rt, args.at(0).IsMissing() ? none : Text(rt, args.at(0)), items, true);
}

Value IndentFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  if (self.IsUndefined()) return FailUndefined(rt, self);
  if (!self.IsString()) return rt.Fail(fmt::format("indent needs a str, not {}", TypeName(self)));
  TracedString indent(std::string(4, ' '), Origin::kClient);
  if (args.at(0).IsString()) {
    indent = args.at(0).string();
  } else if (!args.at(0).IsMissing()) {
    const int64_t width = IntArgument(rt, args.at(0), "an indent width");
    if (width > 10'000) return rt.FailLimit("an indent is more than 10000");
    indent =
        TracedString(std::string(static_cast<size_t>(width < 0 ? 0 : width), ' '), Origin::kClient);
  }
  const bool blank = IsTrue(args.at(2));
  TracedString ended = self.string();
  ended.Append("\n",
               Origin::kClient);  // Jinja adds one, so that a last line without a break counts
  TracedString out;
  if (IsTrue(args.at(1))) out.Append(indent);
  bool first = true;
  for (const TracedString& line : SplitLines(rt, ended, false)) {
    if (!first) {
      out.Append("\n", Origin::kClient);
      if (blank || !line.empty()) out.Append(indent);
    }
    first = false;
    out.Append(line);
    if (!rt.Charge(1) ||
        (out.size() > static_cast<size_t>(rt.limits().max_output_bytes) && !rt.Room(out.size())))
      return {};
  }
  return rt.NewString(std::move(out));
}

Value FormatFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const TracedString& format = Text(rt, self);
  if (args.keywords.empty()) return PercentFormat(rt, format, args.positional, nullptr);
  if (!args.positional.empty())
    return rt.Fail("format takes positional or keyword arguments, not both");
  Dict* named = rt.NewDict();
  for (const auto& [name, value] : args.keywords) {
    SetEntry(rt, *named, rt.NewString(name, Origin::kTemplate), value);
  }
  if (rt.failed()) return {};
  return PercentFormat(rt, format, {}, named);
}

Value WordCountFilter(Runtime& rt, const Value& self, const CallArgs&) {
  const std::string_view text = Text(rt, self).bytes();
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    const bool word = c.value == '_' || IsDigit(c.value) || IsAlpha(c.value);
    if (word && !inside) ++count;
    inside = word;
    at += c.num_bytes;
  }
  return Value::Int(count);
}

Value CenterFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const int64_t width = args.at(0).IsMissing() ? 80 : IntArgument(rt, args.at(0), "a width");
  return Justify(rt, Text(rt, self), width, TracedString(" ", Origin::kClient), '^');
}

Value TruncateFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const TracedString& text = Text(rt, self);
  const TracedString default_end("...", Origin::kTemplate);
  const TracedString& end = args.at(2).IsMissing() ? default_end : Text(rt, args.at(2));
  const int64_t length = args.at(0).IsMissing() ? 255 : IntArgument(rt, args.at(0), "a length");
  const int64_t leeway =
      args.at(3).IsMissing() || args.at(3).IsNone() ? 5 : IntArgument(rt, args.at(3), "a leeway");
  const auto end_length = static_cast<int64_t>(CountCodePoints(end.bytes()));
  if (rt.failed()) return {};
  if (length < end_length || leeway < 0)
    return rt.Fail("truncate needs a length of at least that of its end");
  const int64_t room = INT64_MAX - leeway < length ? INT64_MAX : length + leeway;
  if (static_cast<int64_t>(CountCodePoints(text.bytes())) <= room) return TextValue(rt, self);
  size_t cut = 0;
  for (int64_t i = 0; i < length - end_length; ++i) cut += DecodeAt(text.bytes(), cut).num_bytes;
  if (!IsTrue(args.at(1))) {
    const size_t blank = text.bytes().substr(0, cut).rfind(' ');
    if (blank != std::string_view::npos) cut = blank;
  }
  TracedString out = text.Substr(0, cut);
  out.Append(end);
  return rt.NewString(std::move(out));
}

const std::array kFilters = {
    Builtin{"trim", TrimFilter, {"chars"}},
    Builtin{"upper", UpperFilter},
    Builtin{"lower", LowerFilter},
    Builtin{"title", TitleFilter},
    Builtin{"capitalize", CapitalizeFilter},
    Builtin{"replace", ReplaceFilter, {"old", "new", "count"}, 2},
    Builtin{"string", StringFilter},
    Builtin{"safe", StringFilter},
    Builtin{"escape", EscapeFilter},
    Builtin{"e", EscapeFilter},
    Builtin{"forceescape", EscapeFilter},
    Builtin{"join", JoinFilter, {"d", "attribute"}},
    Builtin{"indent", IndentFilter, {"width", "first", "blank"}},
    Builtin{"tojson", ToJson, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    Builtin{"format", FormatFilter, {}, 0, true},
    Builtin{"wordcount", WordCountFilter},
    Builtin{"center", CenterFilter, {"width"}},
    Builtin{"truncate", TruncateFilter, {"length", "killwords", "end", "leeway"}},
};

}  // namespace

const Builtin* FindTextFilter(std::string_view name) { return FindByName(kFilters, name); }

const Builtin* FindFilter(std::string_view name) {
  if (const Builtin* filter = FindTextFilter(name)) return filter;
  if (const Builtin* filter = FindSequenceFilter(name)) return filter;
  if (const Builtin* filter = FindOrderFilter(name)) return filter;
  return FindNumberFilter(name);
}

}  // namespace sluice::jinja
