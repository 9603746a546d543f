#include "template/formatting.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "template/unicode.h"

namespace sluice::jinja {
namespace {

// Writes repr() of nested values, within the string limit and the depth limit.
class ReprWriter {
 public:
  explicit ReprWriter(Runtime& rt) : rt_(rt) {}

  void Write(const Value& value) {
    const DepthGuard guard(rt_);
    if (!guard || !rt_.Charge(1)) return;
    switch (value.kind()) {
      case Kind::kMissing:
      case Kind::kUndefined:
        return Put("Undefined");
      case Kind::kNone:
        return Put("None");
      case Kind::kBool:
        return Put(value.boolean() ? "True" : "False");
      case Kind::kInt:
        return Put(fmt::format_int(value.integer()).c_str());
      case Kind::kFloat:
        return Put(FloatRepr(value.number()));
      case Kind::kString:
        return WriteString(value.string().bytes());
      case Kind::kList:
        return WriteItems("[", value.sequence().items, "]");
      case Kind::kTuple:
        return WriteItems("(", value.sequence().items,
                          value.sequence().items.size() == 1 ? ",)" : ")");
      case Kind::kRange:
        return Put(value.sequence().name);
      case Kind::kView:
        Put(value.sequence().name);
        return WriteItems("([", value.sequence().items, "])");
      case Kind::kDict:
        return WriteDict(value.dict());
      case Kind::kNamespace:
        return WriteNamespace(value.space());
      case Kind::kGenerator:
        return Put("<generator>");
      case Kind::kCallable:
        return Put(value.callable().macro != nullptr ? "<Macro>" : "<function>");
      case Kind::kLoop:
        return Put(
            fmt::format("<LoopContext {}/{}>", value.loop().index + 1, value.loop().items.size()));
    }
  }

  std::string Take() && { return std::move(out_); }

 private:
  void Put(std::string_view text) {
    out_ += text;
    if (out_.size() > static_cast<size_t>(rt_.limits().max_output_bytes)) rt_.Room(out_.size());
  }

  void WriteString(std::string_view text) {
    if (!rt_.ChargeBytes(text.size())) return;
    const bool has_single = text.find('\'') != std::string_view::npos;
    const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
    out_.push_back(quote);
    for (size_t at = 0; at < text.size() && !rt_.failed();) {
      const CodePoint c = DecodeAt(text, at);
      WriteCodePoint(c.value, text.substr(at, c.num_bytes), quote);
      at += c.num_bytes;
    }
    out_.push_back(quote);
  }

  void WriteCodePoint(char32_t c, std::string_view bytes, char quote) {
    if (c == static_cast<unsigned char>(quote) || c == '\\')
      return Put(std::string("\\") + static_cast<char>(c));
    if (c == '\n') return Put("\\n");
    if (c == '\r') return Put("\\r");
    if (c == '\t') return Put("\\t");
    if (IsPrintable(c)) return Put(bytes);
    const auto code = static_cast<uint32_t>(c);
    Put(c < 0x100     ? fmt::format("\\x{:02x}", code)
        : c < 0x10000 ? fmt::format("\\u{:04x}", code)
                      : fmt::format("\\U{:08x}", code));
  }

  void WriteItems(std::string_view open, std::span<const Value> items, std::string_view close) {
    Put(open);
    for (size_t i = 0; i < items.size() && !rt_.failed(); ++i) {
      if (i > 0) Put(", ");
      Write(items[i]);
    }
    Put(close);
  }

  void WriteDict(const Dict& dict) {
    Put("{");
    for (size_t i = 0; i < dict.entries.size() && !rt_.failed(); ++i) {
      if (i > 0) Put(", ");
      Write(dict.entries[i].key);
      Put(": ");
      Write(dict.entries[i].value);
    }
    Put("}");
  }

  void WriteNamespace(const Namespace& space) {
    Put("<Namespace {");
    for (size_t i = 0; i < space.fields.size() && !rt_.failed(); ++i) {
      if (i > 0) Put(", ");
      WriteString(space.fields[i].first);
      Put(": ");
      Write(space.fields[i].second);
    }
    Put("}>");
  }

  Runtime& rt_;
  std::string out_;
};

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));
  const size_t e = shortest.find('e');
  int exponent = 0;
  const char* exponent_begin = shortest.data() + e + (shortest[e + 1] == '+' ? 2 : 1);
  std::from_chars(exponent_begin, end, exponent);
  std::string digits;
  for (const char c : shortest.substr(0, e)) {
    if (c >= '0' && c <= '9') digits.push_back(c);
  }
  std::string out = std::signbit(value) ? "-" : "";
  const auto num_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (num_digits > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (num_digits <= exponent + 1)
    return out + digits + std::string(static_cast<size_t>(exponent + 1 - num_digits), '0') + ".0";
  return out + digits.substr(0, static_cast<size_t>(exponent + 1)) + "." +
         digits.substr(static_cast<size_t>(exponent + 1));
}

std::string Repr(Runtime& rt, const Value& value) {
  ReprWriter writer(rt);
  writer.Write(value);
  return std::move(writer).Take();
}

Value TextValue(Runtime& rt, const Value& value) {
  if (value.IsString()) return value;
  if (value.IsUndefined()) return rt.NewString({});
  return rt.NewString(Repr(rt, value), Origin::kClient);
}

const TracedString& Text(Runtime& rt, const Value& value) {
  static const TracedString empty;
  const Value text = TextValue(rt, value);
  return text.IsString() ? text.string() : empty;
}

}  // namespace sluice::jinja
