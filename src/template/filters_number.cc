// Filters that give or take numbers: int, float, abs, round.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "template/filters.h"
#include "template/formatting.h"
#include "template/operators.h"
#include "template/text_functions.h"

namespace sluice::jinja {
namespace {

// Python's numerals: surrounding white space and single underscores between digits are allowed.
// Empty: not a numeral.
std::string CleanNumeral(Runtime& rt, const TracedString& text) {
  const Value stripped = Strip(rt, text, Value::Missing(), Ends::kBoth);
  if (rt.failed()) return {};
  const std::string_view bytes = stripped.string().bytes();
  const auto is_digit = [&](size_t i) {
    return i < bytes.size() && std::isxdigit(static_cast<unsigned char>(bytes[i])) != 0;
  };
  std::string out;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != '_') {
      out.push_back(bytes[i]);
    } else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) {
      return {};
    }
  }
  return out;
}

enum class ParsedInt : uint8_t { kOk, kNoInt, kOverflow };

ParsedInt ParseInt(std::string numeral, int64_t base, int64_t& out) {
  bool negative = false;
  if (!numeral.empty() && (numeral[0] == '-' || numeral[0] == '+')) {
    negative = numeral[0] == '-';
    numeral.erase(0, 1);
  }
  if (numeral.size() > 2 && numeral[0] == '0') {
    const char letter = static_cast<char>(numeral[1] | 0x20);
    const int64_t prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (prefix_base != 0 && (base == prefix_base || base == 0)) {
      numeral.erase(0, 2);
      base = prefix_base;
    }
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36 || numeral.empty()) return ParsedInt::kNoInt;
  if (negative) numeral.insert(0, 1, '-');
  const auto [end, error] =
      std::from_chars(numeral.data(), numeral.data() + numeral.size(), out, static_cast<int>(base));
  if (end != numeral.data() + numeral.size() || error == std::errc::invalid_argument)
    return ParsedInt::kNoInt;
  return error == std::errc::result_out_of_range ? ParsedInt::kOverflow : ParsedInt::kOk;
}

bool ParseFloat(const std::string& numeral, double& out) {
  const size_t sign = !numeral.empty() && (numeral[0] == '-' || numeral[0] == '+') ? 1 : 0;
  if (numeral.find_first_of("xXpP(") != std::string::npos || sign == numeral.size()) return false;
  const char* begin = numeral.data() + sign;
  const char* end = numeral.data() + numeral.size();
  if (*begin == '-' || *begin == '+') return false;
  const auto result = std::from_chars(begin, end, out);
  if (result.ptr != end || result.ec == std::errc::invalid_argument) return false;
  if (result.ec == std::errc::result_out_of_range)
    out = std::strtod(begin, nullptr);  // as Python: inf or 0
  if (numeral[0] == '-') out = -out;
  return true;
}

Value IntFromFloat(Runtime& rt, double value, const Value& fallback) {
  if (!std::isfinite(value)) return fallback;
  if (std::abs(value) >= 9223372036854775808.0) return rt.Fail("an integer does not fit 64 bits");
  return Value::Int(static_cast<int64_t>(value));
}

Value IntFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const Value fallback = args.at(0).IsMissing() ? Value::Int(0) : args.at(0);
  const int64_t base = args.at(1).IsMissing() ? 10 : IntArgument(rt, args.at(1), "base");
  if (self.IsUndefined()) return FailUndefined(rt, self);
  if (self.IsIntegral()) return Value::Int(self.integer());
  if (self.IsNumber()) return IntFromFloat(rt, self.number(), fallback);
  if (!self.IsString()) return fallback;
  const std::string numeral = CleanNumeral(rt, self.string());
  int64_t value = 0;
  const ParsedInt parsed = ParseInt(numeral, base, value);
  if (parsed == ParsedInt::kOk) return Value::Int(value);
  if (parsed == ParsedInt::kOverflow) return rt.Fail("an integer does not fit 64 bits");
  double number = 0;
  return ParseFloat(numeral, number) ? IntFromFloat(rt, number, fallback) : fallback;
}

Value FloatFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  if (self.IsUndefined()) return FailUndefined(rt, self);
  if (self.IsNumber()) return Value::Float(self.number());
  double number = 0;
  if (self.IsString() && ParseFloat(CleanNumeral(rt, self.string()), number))
    return Value::Float(number);
  return args.at(0).IsMissing() ? Value::Float(0) : args.at(0);
}

Value AbsFilter(Runtime& rt, const Value& self, const CallArgs&) {
  if (self.IsUndefined()) return FailUndefined(rt, self);
  if (self.Is(Kind::kFloat)) return Value::Float(std::abs(self.number()));
  if (!self.IsIntegral()) return rt.Fail(fmt::format("abs needs a number, not {}", TypeName(self)));
  return self.integer() < 0 ? Negate(rt, self) : Value::Int(self.integer());
}

// Half to even on the exact binary value, as Python's round() does.
double RoundToDigits(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits >= 0)
    return std::strtod(fmt::format("{:.{}f}", value, static_cast<int>(digits)).c_str(), nullptr);
  if (digits < -308) return 0;
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

Value RoundInt(Runtime& rt, int64_t value, int64_t digits) {
  if (digits >= 0) return Value::Int(value);
  if (digits < -18) return Value::Int(0);
  int64_t scale = 1;
  for (int64_t i = 0; i < -digits; ++i) scale *= 10;
  int64_t quotient = value / scale;
  const int64_t remainder = std::abs(value % scale);
  const bool up = remainder > scale / 2 || (remainder == scale / 2 && quotient % 2 != 0);
  if (up) quotient += value < 0 ? -1 : 1;
  return Arithmetic(rt, ArithmeticOp::kMul, Value::Int(quotient), Value::Int(scale));
}

Value RoundFilter(Runtime& rt, const Value& self, const CallArgs& args) {
  const int64_t digits = args.at(0).IsMissing() ? 0 : IntArgument(rt, args.at(0), "precision");
  const std::string_view method =
      args.at(1).IsMissing() ? std::string_view("common") : Text(rt, args.at(1)).bytes();
  if (method != "common" && method != "ceil" && method != "floor")
    return rt.Fail("round's method must be common, ceil or floor");
  if (self.IsUndefined()) return FailUndefined(rt, self);
  if (!self.IsNumber()) return rt.Fail(fmt::format("round needs a number, not {}", TypeName(self)));
  if (rt.failed()) return {};
  if (method == "common") {
    if (self.IsIntegral()) return RoundInt(rt, self.integer(), digits);
    return Value::Float(RoundToDigits(self.number(), digits));
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = self.number() * scale;
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

const std::array kFilters = {
    Builtin{"int", IntFilter, {"default", "base"}},
    Builtin{"float", FloatFilter, {"default"}},
    Builtin{"abs", AbsFilter},
    Builtin{"round", RoundFilter, {"precision", "method"}},
};

}  // namespace

const Builtin* FindNumberFilter(std::string_view name) { return FindByName(kFilters, name); }

}  // namespace sluice::jinja
