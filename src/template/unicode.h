// UTF-8 as Python's str sees it: code points, white space, case. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::jinja {

struct CodePoint {
  char32_t value = 0;
  uint32_t num_bytes = 1;
};

// The code point that starts at byte `at` (< text.size()). A byte that starts no valid sequence
// stands for itself, one byte wide, so that walking always advances and never reads past the end.
[[nodiscard]] CodePoint DecodeAt(std::string_view text, size_t at);

[[nodiscard]] bool IsValidUtf8(std::string_view text);
[[nodiscard]] size_t CountCodePoints(std::string_view text);

// The byte offset of the code point before byte `at` (> 0).
[[nodiscard]] size_t PreviousCodePoint(std::string_view text, size_t at);

void AppendUtf8(std::string& out, char32_t value);

[[nodiscard]] bool IsSpace(char32_t c);      // str.isspace, which is also what \s and strip() mean
[[nodiscard]] bool IsLineBreak(char32_t c);  // what str.splitlines() splits on
[[nodiscard]] bool IsPrintable(char32_t c);  // what repr() leaves unescaped
[[nodiscard]] bool IsAlpha(char32_t c);
[[nodiscard]] bool IsUpper(char32_t c);
[[nodiscard]] bool IsLower(char32_t c);
[[nodiscard]] bool IsDigit(char32_t c);  // ASCII digits only

// One code point to one, except that the sharp s becomes "SS" in upper case (as Python has it).
[[nodiscard]] std::string UpperOf(char32_t c);
[[nodiscard]] std::string LowerOf(char32_t c);

}  // namespace sluice::jinja
