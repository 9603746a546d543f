// Sets of characters as the `tokenizers` package has them (make_unicode_sets.py).
#pragma once

#include <algorithm>
#include <span>

namespace sluice {

struct CodePointRange {
  char32_t begin, end;  // half-open
};

extern const std::span<const CodePointRange> kBertRemoved;      // by clean_text
extern const std::span<const CodePointRange> kBertAccents;      // by strip_accents, decomposed
extern const std::span<const CodePointRange> kBertPunctuation;  // words of their own
extern const std::span<const CodePointRange> kAccents;          // by StripAccents
extern const std::span<const CodePointRange> kInert;            // to the package's NFC ... NFKD
extern const std::span<const CodePointRange> kWordCharacters;   // \w
extern const std::span<const CodePointRange> kDecimalDigits;    // \d
extern const std::span<const CodePointRange> kHan;              // \p{Han}

[[nodiscard]] inline bool Contains(std::span<const CodePointRange> ascending, char32_t c) {
  const auto after = std::upper_bound(ascending.begin(), ascending.end(), c,
                                      [](char32_t x, const auto& r) { return x < r.begin; });
  return after != ascending.begin() && c < (after - 1)->end;
}

}  // namespace sluice
