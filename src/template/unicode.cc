#include "template/unicode.h"

#include <locale.h>
#include <wctype.h>

namespace sluice::jinja {
namespace {

// The C library's Unicode tables. Where the system lacks C.UTF-8 only ASCII letters have case.
locale_t UnicodeLocale() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

bool IsContinuation(unsigned char byte) { return (byte & 0xC0U) == 0x80U; }

wint_t Wide(char32_t c) { return static_cast<wint_t>(c); }

}  // namespace

CodePoint DecodeAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const uint32_t need = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + need > text.size()) return {first, 1};
  char32_t value = first & (0x7FU >> need);
  for (uint32_t i = 1; i < need; ++i) {
    if (!IsContinuation(byte(i))) return {first, 1};
    value = (value << 6U) | (byte(i) & 0x3FU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[need] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return {first, 1};
  }
  return {value, need};
}

bool IsValidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    if (c.num_bytes == 1 && static_cast<unsigned char>(text[at]) >= 0x80) return false;
    at += c.num_bytes;
  }
  return true;
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); at += DecodeAt(text, at).num_bytes) ++count;
  return count;
}

size_t PreviousCodePoint(std::string_view text, size_t at) {
  for (size_t back = 2; back <= 4 && back <= at; ++back) {
    if (DecodeAt(text, at - back).num_bytes == back) return at - back;
  }
  return at - 1;
}

void AppendUtf8(std::string& out, char32_t value) {
  const auto push = [&](char32_t bits) { out.push_back(static_cast<char>(bits)); };
  if (value < 0x80) {
    push(value);
  } else if (value < 0x800) {
    push(0xC0U | (value >> 6U));
    push(0x80U | (value & 0x3FU));
  } else if (value < 0x10000) {
    push(0xE0U | (value >> 12U));
    push(0x80U | ((value >> 6U) & 0x3FU));
    push(0x80U | (value & 0x3FU));
  } else {
    push(0xF0U | (value >> 18U));
    push(0x80U | ((value >> 12U) & 0x3FU));
    push(0x80U | ((value >> 6U) & 0x3FU));
    push(0x80U | (value & 0x3FU));
  }
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsLineBreak(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool IsPrintable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  if (c <= 0xA0 || c == 0xAD || IsSpace(c)) return false;
  const bool format_or_private = (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
                                 (c >= 0x2060 && c <= 0x206F) || (c >= 0xD800 && c <= 0xF8FF) ||
                                 c == 0xFEFF || (c >= 0xFFF0 && c <= 0xFFFB) || c >= 0xE0000;
  if (format_or_private && !(c >= 0xE0100 && c <= 0xE01EF)) return false;
  const locale_t locale = UnicodeLocale();
  return locale == nullptr || iswprint_l(Wide(c), locale) != 0;
}

bool IsAlpha(char32_t c) {
  if (c < 0x80) return (c | 0x20U) >= 'a' && (c | 0x20U) <= 'z';
  const locale_t locale = UnicodeLocale();
  return locale != nullptr && iswalpha_l(Wide(c), locale) != 0;
}

bool IsUpper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  const locale_t locale = UnicodeLocale();
  return locale != nullptr && iswupper_l(Wide(c), locale) != 0;
}

bool IsLower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  const locale_t locale = UnicodeLocale();
  return locale != nullptr && iswlower_l(Wide(c), locale) != 0;
}

bool IsDigit(char32_t c) { return c >= '0' && c <= '9'; }

std::string UpperOf(char32_t c) {
  std::string out;
  if (c < 0x80) {
    out.push_back(static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c));
  } else if (c == 0xDF) {
    out = "SS";
  } else {
    const locale_t locale = UnicodeLocale();
    AppendUtf8(out, locale == nullptr ? c : static_cast<char32_t>(towupper_l(Wide(c), locale)));
  }
  return out;
}

std::string LowerOf(char32_t c) {
  std::string out;
  if (c < 0x80) {
    out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
  } else {
    const locale_t locale = UnicodeLocale();
    AppendUtf8(out, locale == nullptr ? c : static_cast<char32_t>(towlower_l(Wide(c), locale)));
  }
  return out;
}

}  // namespace sluice::jinja
