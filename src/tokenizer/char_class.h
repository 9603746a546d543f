// The four kinds of characters that pre-tokenizer patterns tell apart: \p{L}, \p{N}, \s and the
// rest. The ranges are generated (make_char_class.py); Unicode 16, as in the `tokenizers` package,
// so that a character assigned later is kOther for both.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sluice {

enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

struct CharClassRange {
  char32_t begin, end;  // half-open
  CharClass char_class;
};
extern const CharClassRange kCharClassRanges[];  // ascending; what is in none of them is kOther
extern const size_t kNumCharClassRanges;

// Two bits a code point: 64 characters share 16 bytes, so a text in one script stays in few cache
// lines. Immutable.
class CharClassTable {
 public:
  CharClassTable();
  // code_point < 0x110000.
  [[nodiscard]] CharClass Of(char32_t code_point) const {
    const int bits = bits_[code_point / 4] >> (code_point % 4 * 2);
    return static_cast<CharClass>(bits & 3);
  }

 private:
  std::array<uint8_t, 0x110000 / 4> bits_{};
};

// The one instance, built on first use (about 0.3 ms).
[[nodiscard]] const CharClassTable& CharClasses();

}  // namespace sluice
