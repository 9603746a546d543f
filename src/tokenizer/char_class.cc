#include "tokenizer/char_class.h"

#include <memory>

namespace sluice {

CharClassTable::CharClassTable() {
  for (size_t i = 0; i < kNumCharClassRanges; ++i) {
    const CharClassRange& range = kCharClassRanges[i];
    for (char32_t c = range.begin; c < range.end; ++c) {
      bits_[c / 4] |= static_cast<uint8_t>(static_cast<int>(range.char_class) << (c % 4 * 2));
    }
  }
}

const CharClassTable& CharClasses() {
  static const std::unique_ptr<const CharClassTable> table = std::make_unique<CharClassTable>();
  return *table;
}

}  // namespace sluice
