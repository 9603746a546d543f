// What pre-tokenizer patterns tell characters apart by. The ranges are generated
// (make_char_class.py); Unicode 16, as in the `tokenizers` package, so that a character assigned
// later is kOther for both.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/utf8.h"

namespace sluice {

// General categories: kUpper Lu Lt, kLower Ll, kCaseless Lm Lo, kMark M*, kNumber N*,
// kPunctuation P*, kSymbol S*; kSpace the property White_Space.
enum class CharKind : uint8_t {
  kOther,
  kUpper,
  kLower,
  kCaseless,
  kMark,
  kNumber,
  kPunctuation,
  kSymbol,
  kSpace,
};
inline constexpr size_t kNumCharKinds = 9;

// The coarser view of most patterns: \p{L}, \p{N}, \s and the rest.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

inline constexpr CharClass ClassOf(CharKind kind) {
  constexpr CharClass kClasses[kNumCharKinds] = {
      CharClass::kOther,  CharClass::kLetter, CharClass::kLetter,
      CharClass::kLetter, CharClass::kOther,  CharClass::kNumber,
      CharClass::kOther,  CharClass::kOther,  CharClass::kSpace};
  return kClasses[static_cast<size_t>(kind)];
}

struct CharKindRange {
  char32_t begin, end;  // half-open
  CharKind kind;
};
extern const CharKindRange kCharKindRanges[];  // ascending; what is in none of them is kOther
extern const size_t kNumCharKindRanges;

// Four bits a code point: a text in one script stays in few cache lines. Immutable.
class CharKindTable {
 public:
  CharKindTable();
  // code_point < 0x110000.
  [[nodiscard]] CharKind Of(char32_t code_point) const {
    return static_cast<CharKind>(bits_[code_point / 2] >> (code_point % 2 * 4) & 15);
  }

 private:
  std::array<uint8_t, 0x110000 / 2> bits_{};
};

// The one instance, built on first use (about 0.5 ms).
[[nodiscard]] const CharKindTable& CharKinds();

extern const std::array<CharKind, 128> kAsciiKinds;

struct Character {
  CharKind kind;
  uint32_t length;  // bytes
};

// The character at p, in text that is known to be valid.
[[nodiscard]] inline Character CharacterAt(const char* p) {
  const auto byte = static_cast<uint8_t>(*p);
  if (byte < 0x80) return {kAsciiKinds[byte], 1};
  static const CharKindTable& kinds = CharKinds();
  size_t length = 0;
  const char32_t c = DecodeValidUtf8(p, length);
  return {kinds.Of(c), static_cast<uint32_t>(length)};
}

}  // namespace sluice
