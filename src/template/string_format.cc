// The % operator and str.format (the second half of formatting.h). Bytes of the format string and
// of formatted strings keep their origins; padding and numbers count as the client's.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "template/formatting.h"
#include "template/operators.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

constexpr int64_t kMaxWidth =
    10'000;  // of padding and precision; a real template pads to a few dozen columns

struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '=', or 0: by type
  char sign = '-';
  bool alternate = false;
  bool thousands = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

int64_t ReadNumber(std::string_view text, size_t& at) {
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    if (value <= kMaxWidth) value = value * 10 + (text[at] - '0');
  }
  return value;
}

bool CheckSpec(Runtime& rt, const Spec& spec) {
  if (spec.width <= kMaxWidth && spec.precision <= kMaxWidth) return !rt.failed();
  rt.FailLimit(fmt::format("a format width is more than {}", kMaxWidth));
  return false;
}

void Pad(TracedString& out, const TracedString& body, const Spec& spec, char default_align) {
  const auto length = static_cast<int64_t>(CountCodePoints(body.bytes()));
  const int64_t missing = spec.width > length ? spec.width - length : 0;
  const char align = spec.align != 0 ? spec.align : default_align;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const bool signed_number =
      align == '=' && !body.empty() && (body.bytes()[0] == '-' || body.bytes()[0] == '+');
  if (signed_number) out.Append(body, 0, 1);
  for (int64_t i = 0; i < left; ++i) out.Append(spec.fill, Origin::kClient);
  out.Append(body, signed_number ? 1 : 0, body.size());
  for (int64_t i = left; i < missing; ++i) out.Append(spec.fill, Origin::kClient);
}

std::string WithThousands(std::string digits) {
  const size_t begin = digits.find_first_of("0123456789");
  size_t end = digits.find_first_not_of("0123456789", begin);
  if (end == std::string::npos) end = digits.size();
  for (size_t at = end; at > begin + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string FormatFloat(double value, const Spec& spec) {
  const char type = spec.type == 0 ? 'g' : spec.type;
  if (!std::isfinite(value)) return FloatRepr(value);
  const auto precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  switch (type) {
    case 'e':
    case 'E':
      return type == 'e' ? fmt::format("{:.{}e}", value, precision)
                         : fmt::format("{:.{}E}", value, precision);
    case 'f':
    case 'F':
      return fmt::format("{:.{}f}", value, precision);
    case '%':
      return fmt::format("{:.{}f}%", value * 100, precision);
    default:
      return type == 'G' ? fmt::format("{:.{}G}", value, std::max(precision, 1))
                         : fmt::format("{:.{}g}", value, std::max(precision, 1));
  }
}

std::string FormatInt(int64_t value, const Spec& spec) {
  const uint64_t magnitude =
      value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string digits;
  switch (spec.type) {
    case 'x':
      digits = (spec.alternate ? "0x" : "") + fmt::format("{:x}", magnitude);
      break;
    case 'X':
      digits = (spec.alternate ? "0X" : "") + fmt::format("{:X}", magnitude);
      break;
    case 'o':
      digits = (spec.alternate ? "0o" : "") + fmt::format("{:o}", magnitude);
      break;
    case 'b':
      digits = (spec.alternate ? "0b" : "") + fmt::format("{:b}", magnitude);
      break;
    default:
      digits = fmt::format("{}", magnitude);
  }
  return (value < 0 ? "-" : "") + digits;
}

void AppendNumber(Runtime& rt, TracedString& out, const Value& value, const Spec& spec) {
  const bool wants_float =
      std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type != 0;
  if (!value.IsNumber() || (!wants_float && spec.type != 0 && !value.IsIntegral())) {
    rt.Fail(fmt::format("format code does not apply to {}", TypeName(value)));
    return;
  }
  std::string digits;
  if (value.Is(Kind::kFloat) && spec.type == 0 && spec.precision < 0) {
    digits = FloatRepr(value.number());
  } else {
    digits = wants_float || value.Is(Kind::kFloat) ? FormatFloat(value.number(), spec)
                                                   : FormatInt(value.integer(), spec);
  }
  if (spec.thousands) digits = WithThousands(std::move(digits));
  if (digits[0] != '-' && spec.sign != '-') digits.insert(0, 1, spec.sign);
  Pad(out, TracedString(std::move(digits), Origin::kClient), spec, '>');
}

void AppendString(TracedString& out, const TracedString& text, const Spec& spec,
                  char default_align) {
  if (spec.precision < 0) return Pad(out, text, spec, default_align);
  size_t end = 0;
  for (int64_t i = 0; i < spec.precision && end < text.size(); ++i)
    end += DecodeAt(text.bytes(), end).num_bytes;
  Pad(out, text.Substr(0, end), spec, default_align);
}

// One %-conversion after its '%'; moves `at` past it.
Spec ReadPercentSpec(std::string_view text, size_t& at) {
  Spec spec;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '-') {
      spec.align = '<';
    } else if (c == '0') {
      if (spec.align != '<') spec.align = '=';
      spec.fill = "0";
    } else if (c == '+' || (c == ' ' && spec.sign != '+')) {
      spec.sign = c;
    } else if (c == '#') {
      spec.alternate = true;
    } else if (c != ' ') {
      break;
    }
  }
  if (spec.align == '<') spec.fill = " ";
  spec.width = ReadNumber(text, at);
  if (at < text.size() && text[at] == '.') spec.precision = ReadNumber(text, ++at);
  if (at < text.size()) spec.type = text[at++];
  return spec;
}

void AppendPercent(Runtime& rt, TracedString& out, const Value& value, Spec spec) {
  switch (spec.type) {
    case 's':
    case 'r':
      if (spec.align == '=') spec.align = '>';
      spec.fill = " ";
      if (spec.type == 's') return AppendString(out, Text(rt, value), spec, '>');
      return AppendString(out, TracedString(Repr(rt, value), Origin::kClient), spec, '>');
    case 'd':
    case 'i':
    case 'u':
      spec.type = 'd';
      if (value.Is(Kind::kFloat) && std::abs(value.number()) < 9e18) {
        return AppendNumber(rt, out, Value::Int(static_cast<int64_t>(value.number())), spec);
      }
      return AppendNumber(rt, out, value, spec);
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
    case 'x':
    case 'X':
    case 'o':
      return AppendNumber(rt, out, value, spec);
    default:
      rt.Fail("unsupported % format");
  }
}

Spec ReadBraceSpec(Runtime& rt, std::string_view text) {
  Spec spec;
  size_t at = 0;
  if (!text.empty()) {
    const CodePoint first = DecodeAt(text, 0);
    const auto is_align = [&](size_t i) {
      return i < text.size() && std::string_view("<>^=").find(text[i]) != std::string_view::npos;
    };
    if (is_align(first.num_bytes)) {
      spec.fill = std::string(text.substr(0, first.num_bytes));
      spec.align = text[first.num_bytes];
      at = first.num_bytes + 1;
    } else if (is_align(0)) {
      spec.align = text[at++];
    }
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' '))
    spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') spec.alternate = (++at, true);
  if (at < text.size() && text[at] == '0') {
    if (spec.align == 0) spec.align = '=';
    if (spec.fill == " ") spec.fill = "0";
    ++at;
  }
  spec.width = ReadNumber(text, at);
  if (at < text.size() && text[at] == ',') spec.thousands = (++at, true);
  if (at < text.size() && text[at] == '.') spec.precision = ReadNumber(text, ++at);
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size() || (spec.type != 0 && std::string_view("sdxXobeEfFgG%").find(spec.type) ==
                                                  std::string_view::npos)) {
    rt.Fail("unsupported format specification");
  }
  return spec;
}

// The argument a replacement field names: "", "0" or "name". Field access like {0.x} is refused.
Value FieldArgument(Runtime& rt, std::string_view field, const CallArgs& args, size_t& next_index) {
  size_t at = 0;
  size_t index = next_index;
  if (!field.empty()) {
    index = static_cast<size_t>(ReadNumber(field, at));
    if (at != field.size()) {
      for (const auto& [name, value] : args.keywords) {
        if (name == field) return value;
      }
      return rt.Fail("a format field names no argument");
    }
  } else {
    ++next_index;
  }
  if (index >= args.positional.size()) return rt.Fail("a format field has no argument");
  return args.positional[index];
}

void AppendBraceField(Runtime& rt, TracedString& out, std::string_view field, const CallArgs& args,
                      size_t& next_index) {
  const size_t colon = field.find(':');
  Spec spec = ReadBraceSpec(rt, colon == std::string_view::npos ? "" : field.substr(colon + 1));
  field = field.substr(0, colon);
  char conversion = 0;
  if (field.size() >= 2 && field[field.size() - 2] == '!') {
    conversion = field.back();
    field.remove_suffix(2);
  }
  Value value = FieldArgument(rt, field, args, next_index);
  if (!CheckSpec(rt, spec)) return;
  if (conversion == 'r') value = rt.NewString(Repr(rt, value), Origin::kClient);
  if (conversion == 's') value = TextValue(rt, value);
  const bool as_number =
      value.IsNumber() && spec.type != 's' && !(value.Is(Kind::kBool) && spec.type == 0);
  if (as_number) return AppendNumber(rt, out, value, spec);
  if (spec.type != 0 && spec.type != 's') {
    rt.Fail(fmt::format("format code does not apply to {}", TypeName(value)));
    return;
  }
  AppendString(out, Text(rt, value), spec, '<');
}

}  // namespace

Value PercentFormat(Runtime& rt, const TracedString& format, std::span<const Value> values,
                    const Dict* named) {
  const std::string_view text = format.bytes();
  TracedString out;
  size_t used = 0;
  bool by_name = false;
  for (size_t at = 0; at < text.size() && rt.Charge(1);) {
    const size_t percent = std::min(text.find('%', at), text.size());
    out.Append(format, at, percent);
    if (percent == text.size()) break;
    at = percent + 1;
    if (at < text.size() && text[at] == '%') {
      out.Append(format, at, at + 1);
      ++at;
      continue;
    }
    Value value = Value::Missing();
    if (at < text.size() && text[at] == '(') {
      const size_t close = text.find(')', at);
      if (close == std::string_view::npos || named == nullptr)
        return rt.Fail("a % format needs named values");
      const Value* found = named->Find(text.substr(at + 1, close - at - 1));
      if (found == nullptr) return rt.Fail("a % format names no value");
      value = *found;
      by_name = true;
      at = close + 1;
    }
    const Spec spec = ReadPercentSpec(text, at);
    if (value.IsMissing()) {
      if (used == values.size()) return rt.Fail("not enough values for a % format");
      value = values[used++];
    }
    if (!CheckSpec(rt, spec) || !rt.Room(out.size() + static_cast<size_t>(spec.width))) return {};
    AppendPercent(rt, out, value, spec);
  }
  if (!by_name && used < values.size() && named == nullptr)
    return rt.Fail("too many values for a % format");
  return rt.NewString(std::move(out));
}

Value PercentFormat(Runtime& rt, const TracedString& format, const Value& argument) {
  if (argument.Is(Kind::kTuple))
    return PercentFormat(rt, format, argument.sequence().items, nullptr);
  const Dict* named = argument.Is(Kind::kDict) ? &argument.dict() : nullptr;
  return PercentFormat(rt, format, std::span(&argument, 1), named);
}

Value BraceFormat(Runtime& rt, const TracedString& format, const CallArgs& args) {
  const std::string_view text = format.bytes();
  TracedString out;
  size_t next_index = 0;
  for (size_t at = 0; at < text.size() && rt.Charge(1);) {
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    out.Append(format, at, brace);
    if (brace == text.size()) break;
    if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
      out.Append(format, brace, brace + 1);
      at = brace + 2;
      continue;
    }
    const size_t close = text.find('}', brace);
    if (text[brace] == '}' || close == std::string_view::npos)
      return rt.Fail("a format string has a single brace");
    AppendBraceField(rt, out, text.substr(brace + 1, close - brace - 1), args, next_index);
    if (!rt.Room(out.size())) return {};
    at = close + 1;
  }
  return rt.NewString(std::move(out));
}

}  // namespace sluice::jinja
