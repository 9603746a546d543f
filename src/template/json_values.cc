#include "template/json_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <cmath>

#include "template/formatting.h"
#include "template/operators.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

std::string_view View(const boost::json::string& s) { return {s.data(), s.size()}; }

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool multi_line = false;
  std::string indent;
  TracedString item_separator;
  TracedString key_separator;
};

class JsonWriter {
 public:
  JsonWriter(Runtime& rt, JsonStyle style) : rt_(rt), style_(std::move(style)) {}

  void Write(const Value& value, size_t level) {
    const DepthGuard guard(rt_);
    if (!guard || !rt_.Charge(1) || !InLimit()) return;
    switch (value.kind()) {
      case Kind::kNone:
        return Put("null");
      case Kind::kBool:
        return Put(value.boolean() ? "true" : "false");
      case Kind::kInt:
        return Put(fmt::format_int(value.integer()).c_str());
      case Kind::kFloat:
        return Put(FloatText(value.number()));
      case Kind::kString:
        return WriteString(value.string());
      case Kind::kList:
      case Kind::kTuple:
        return WriteList(value.sequence().items, level);
      case Kind::kDict:
        return WriteDict(value.dict(), level);
      case Kind::kUndefined:
        FailUndefined(rt_, value);
        return;
      default:
        rt_.Fail(fmt::format("{} cannot be written as JSON", TypeName(value)));
    }
  }

  TracedString Take() && { return std::move(out_); }

 private:
  static std::string FloatText(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(value);
  }

  bool InLimit() {
    return out_.size() <= static_cast<size_t>(rt_.limits().max_output_bytes) ||
           rt_.Room(out_.size());
  }
  void Put(std::string_view text) { out_.Append(text, Origin::kClient); }

  void NewLine(size_t level) {
    if (!style_.multi_line) return;
    Put("\n");
    for (size_t i = 0; i < level && InLimit(); ++i) Put(style_.indent);
  }

  void WriteString(const TracedString& text) {
    if (!rt_.ChargeBytes(text.size())) return;
    Put("\"");
    text.ForEachRun([this](std::string_view run, Origin origin) {
      size_t plain_begin = 0;
      for (size_t at = 0; at < run.size();) {
        const CodePoint c = DecodeAt(run, at);
        const std::string escape = EscapeOf(c.value);
        if (!escape.empty()) {
          out_.Append(run.substr(plain_begin, at - plain_begin), origin);
          out_.Append(escape, origin);
          plain_begin = at + c.num_bytes;
        }
        at += c.num_bytes;
      }
      out_.Append(run.substr(plain_begin), origin);
    });
    Put("\"");
  }

  // Empty: the code point stands for itself.
  [[nodiscard]] std::string EscapeOf(char32_t c) const {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        break;
    }
    const auto code = static_cast<uint32_t>(c);
    if (code >= 0x20 && (code < 0x7F || !style_.ensure_ascii)) return {};
    if (code == 0x7F) return {};
    if (code < 0x10000) return fmt::format("\\u{:04x}", code);
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10U),
                       0xDC00 + ((code - 0x10000) & 0x3FFU));
  }

  void WriteList(std::span<const Value> items, size_t level) {
    if (items.empty()) return Put("[]");
    Put("[");
    for (size_t i = 0; i < items.size() && !rt_.failed(); ++i) {
      if (i > 0) out_.Append(style_.item_separator);
      NewLine(level + 1);
      Write(items[i], level + 1);
    }
    NewLine(level);
    Put("]");
  }

  void WriteDict(const Dict& dict, size_t level) {
    if (dict.entries.empty()) return Put("{}");
    std::vector<Dict::Entry> entries = dict.entries;
    if (!rt_.Charge(static_cast<int64_t>(entries.size() / 8))) return;
    if (style_.sort_keys) SortEntries(entries);
    Put("{");
    for (size_t i = 0; i < entries.size() && !rt_.failed(); ++i) {
      if (i > 0) out_.Append(style_.item_separator);
      NewLine(level + 1);
      WriteKey(entries[i].key);
      out_.Append(style_.key_separator);
      Write(entries[i].value, level + 1);
    }
    NewLine(level);
    Put("}");
  }

  void SortEntries(std::vector<Dict::Entry>& entries) {
    const bool all_strings = std::all_of(entries.begin(), entries.end(),
                                         [](const Dict::Entry& e) { return e.key.IsString(); });
    if (!all_strings) {
      rt_.Fail("sort_keys needs keys that are all strings");
      return;
    }
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Dict::Entry& a, const Dict::Entry& b) {
                       return a.key.string().bytes() < b.key.string().bytes();
                     });
  }

  void WriteKey(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return WriteString(key.string());
      case Kind::kNone:
        return Put("\"null\"");
      case Kind::kBool:
        return Put(key.boolean() ? "\"true\"" : "\"false\"");
      case Kind::kInt:
        return Put(fmt::format("\"{}\"", key.integer()));
      case Kind::kFloat:
        return Put(fmt::format("\"{}\"", FloatText(key.number())));
      default:
        rt_.Fail(fmt::format("{} cannot be a JSON key", TypeName(key)));
    }
  }

  Runtime& rt_;
  const JsonStyle style_;
  TracedString out_;
};

Value FromJsonObject(Runtime& rt, const boost::json::object& object) {
  Dict* dict = rt.NewDict();
  for (const auto& [key, value] : object) {
    if (rt.failed()) return {};
    const Value name = rt.NewString({key.data(), key.size()}, Origin::kClient);
    const Value converted = FromJson(rt, value);
    SetEntry(rt, *dict, name, converted);
  }
  return Value::Map(dict);
}

}  // namespace

Value ToJson(Runtime& rt, const Value& self, const CallArgs& args) {
  JsonStyle style;
  style.ensure_ascii = IsTrue(args.at(0));
  style.sort_keys = IsTrue(args.at(3));
  const Value& indent = args.at(1);
  if (indent.IsString()) {
    style.multi_line = true;
    style.indent = std::string(indent.string().bytes());
  } else if (!indent.IsMissing() && !indent.IsNone()) {
    style.multi_line = true;
    const int64_t width = IntArgument(rt, indent, "indent");
    if (width > 1000) return rt.FailLimit("an indent is more than 1000");
    style.indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  style.item_separator = TracedString(style.multi_line ? "," : ", ", Origin::kClient);
  style.key_separator = TracedString(": ", Origin::kClient);
  const Value& separators = args.at(2);
  if (separators.Is(Kind::kTuple) || separators.Is(Kind::kList)) {
    const std::vector<Value>& pair = separators.sequence().items;
    if (pair.size() != 2 || !pair[0].IsString() || !pair[1].IsString())
      return rt.Fail("separators must be two strings");
    style.item_separator = pair[0].string();
    style.key_separator = pair[1].string();
  } else if (!separators.IsMissing() && !separators.IsNone()) {
    return rt.Fail("separators must be two strings");
  }
  JsonWriter writer(rt, std::move(style));
  writer.Write(self, 0);
  return rt.NewString(std::move(writer).Take());
}

Value FromJson(Runtime& rt, const boost::json::value& json) {
  const DepthGuard guard(rt);
  if (!guard) return {};
  switch (json.kind()) {
    case boost::json::kind::null:
      return Value::None();
    case boost::json::kind::bool_:
      return Value::Bool(json.get_bool());
    case boost::json::kind::int64:
      return Value::Int(json.get_int64());
    case boost::json::kind::uint64:
      if (json.get_uint64() <= INT64_MAX)
        return Value::Int(static_cast<int64_t>(json.get_uint64()));
      return Value::Float(static_cast<double>(json.get_uint64()));
    case boost::json::kind::double_:
      return Value::Float(json.get_double());
    case boost::json::kind::string:
      return rt.NewString(View(json.get_string()), Origin::kClient);
    case boost::json::kind::array: {
      std::vector<Value> items;
      items.reserve(json.get_array().size());
      for (const boost::json::value& item : json.get_array()) {
        items.push_back(FromJson(rt, item));
        if (rt.failed()) return {};
      }
      return rt.NewList(std::move(items));
    }
    case boost::json::kind::object:
      return FromJsonObject(rt, json.get_object());
  }
  return {};
}

}  // namespace sluice::jinja
