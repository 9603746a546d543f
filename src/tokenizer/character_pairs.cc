#include "tokenizer/character_pairs.h"

#include <utility>

namespace sluice {

void CharacterPairs::AddLarge(uint64_t key) {
  size_t slot = SlotOf(key);
  for (; large_[slot] != kEmpty; slot = (slot + 1) & mask_) {
    if (large_[slot] == key) return;
  }
  large_[slot] = key;
  if (2 * ++num_large_ < large_.size()) return;
  const std::vector<uint64_t> old(2 * large_.size(), kEmpty);
  std::vector<uint64_t> keys = std::exchange(large_, old);
  mask_ = large_.size() - 1;
  num_large_ = 0;
  for (const uint64_t k : keys) {
    if (k != kEmpty) AddLarge(k);
  }
}

}  // namespace sluice
