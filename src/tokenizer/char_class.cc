#include "tokenizer/char_class.h"

#include <memory>

namespace sluice {
namespace {

constexpr CharKind AsciiKind(size_t c) {
  if (c >= 'a' && c <= 'z') return CharKind::kLower;
  if (c >= 'A' && c <= 'Z') return CharKind::kUpper;
  if (c >= '0' && c <= '9') return CharKind::kNumber;
  if (c == ' ' || (c >= '\t' && c <= '\r')) return CharKind::kSpace;
  if (c < ' ' || c == 0x7F) return CharKind::kOther;
  constexpr char kSymbols[] = {'$', '+', '<', '=', '>', '^', '`', '|', '~'};
  for (const char symbol : kSymbols) {
    if (c == static_cast<size_t>(symbol)) return CharKind::kSymbol;
  }
  return CharKind::kPunctuation;
}

constexpr std::array<CharKind, 128> MakeAsciiKinds() {
  std::array<CharKind, 128> kinds{};
  for (size_t c = 0; c < kinds.size(); ++c) kinds[c] = AsciiKind(c);
  return kinds;
}

}  // namespace

constinit const std::array<CharKind, 128> kAsciiKinds = MakeAsciiKinds();

CharKindTable::CharKindTable() {
  for (size_t i = 0; i < kNumCharKindRanges; ++i) {
    const CharKindRange& range = kCharKindRanges[i];
    for (char32_t c = range.begin; c < range.end; ++c) {
      bits_[c / 2] |= static_cast<uint8_t>(static_cast<int>(range.kind) << (c % 2 * 4));
    }
  }
}

const CharKindTable& CharKinds() {
  static const std::unique_ptr<const CharKindTable> table = std::make_unique<CharKindTable>();
  return *table;
}

}  // namespace sluice
