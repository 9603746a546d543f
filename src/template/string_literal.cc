#include "template/string_literal.h"

#include <charconv>

#include "template/unicode.h"

namespace sluice::jinja {
namespace {

// Exactly num_digits hex digits at `at`; false if there are not as many.
bool ReadHex(std::string_view literal, size_t at, size_t num_digits, char32_t& out) {
  if (at + num_digits > literal.size()) return false;
  uint32_t value = 0;
  const char* end = literal.data() + at + num_digits;
  const auto result = std::from_chars(literal.data() + at, end, value, 16);
  out = value;
  return result.ptr == end && result.ec == std::errc();
}

char SimpleEscape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return '\0';
  }
}

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// A \x, \u or \U escape whose letter stands at `at`; moves `at` past it.
absl::Status AppendHexEscape(std::string_view literal, size_t& at, std::string& out) {
  const size_t num_digits = literal[at] == 'x' ? 2 : literal[at] == 'u' ? 4 : 8;
  char32_t value = 0;
  if (!ReadHex(literal, at + 1, num_digits, value))
    return absl::InvalidArgumentError("a string has a malformed escape");
  at += 1 + num_digits;
  const bool high_surrogate = value >= 0xD800 && value <= 0xDBFF;
  char32_t low = 0;
  if (high_surrogate && literal.substr(at).starts_with("\\u") && ReadHex(literal, at + 2, 4, low) &&
      low >= 0xDC00 && low <= 0xDFFF) {
    value = 0x10000 + ((value - 0xD800) << 10U) + (low - 0xDC00);
    at += 6;
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
    return absl::InvalidArgumentError("a string escape is no character");
  AppendUtf8(out, value);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> UnescapeLiteral(std::string_view literal) {
  std::string out;
  for (size_t at = 0; at < literal.size();) {
    if (literal[at] != '\\' || at + 1 == literal.size()) {
      out.push_back(literal[at++]);
      continue;
    }
    const char c = literal[++at];
    if (const char simple = SimpleEscape(c); simple != '\0') {
      out.push_back(simple);
      ++at;
    } else if (c == '\n') {
      ++at;
    } else if (IsOctal(c)) {
      char32_t value = 0;
      for (int i = 0; i < 3 && at < literal.size() && IsOctal(literal[at]); ++i)
        value = value * 8 + static_cast<char32_t>(literal[at++] - '0');
      AppendUtf8(out, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const absl::Status status = AppendHexEscape(literal, at, out);
      if (!status.ok()) return status;
    } else if (c == 'N') {
      return absl::InvalidArgumentError("string escapes by character name are not supported");
    } else {
      out.push_back('\\');
    }
  }
  return out;
}

}  // namespace sluice::jinja
