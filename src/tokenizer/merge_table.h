// The merges of byte-pair encoding, and the encoding of one word with them.
// Source: "Neural Machine Translation of Rare Words with Subword Units", Sennrich et al. 2016,
// arXiv:1508.07909 §3.2: the lowest-ranked pair first, of equal pairs the leftmost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sluice/types.h"

namespace sluice {

class MergeTable {
 public:
  static constexpr uint32_t kNoRank = UINT32_MAX;

  MergeTable() = default;
  // Room for `num_merges` calls of Add.
  explicit MergeTable(size_t num_merges);

  // The next merge by rank: left and right become result. False: that pair has a merge already.
  [[nodiscard]] bool Add(TokenId left, TokenId right, TokenId result);

  // The rank of the merge of that pair; kNoRank: there is none.
  [[nodiscard]] uint32_t RankOf(TokenId left, TokenId right) const {
    const uint64_t key = KeyOf(left, right);
    for (size_t slot = SlotOf(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].rank;
      if (slots_[slot].key == kEmpty) return kNoRank;
    }
  }

  // Merges `tokens` in place until no pair has a merge; returns how many are left, at the front.
  // O(n log n) for n tokens.
  [[nodiscard]] size_t Merge(std::span<TokenId> tokens) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    uint32_t rank = kNoRank;
  };
  static constexpr uint64_t kEmpty = UINT64_MAX;  // no pair: ids are not negative

  [[nodiscard]] static uint64_t KeyOf(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  [[nodiscard]] size_t SlotOf(uint64_t key) const {
    return static_cast<size_t>(key * 0x9E3779B97F4A7C15U >> shift_);
  }
  [[nodiscard]] size_t MergeShort(std::span<TokenId> tokens) const;
  [[nodiscard]] size_t MergeLong(std::span<TokenId> tokens) const;

  std::vector<Slot> slots_ = std::vector<Slot>(2);  // open addressing, at most half full
  size_t mask_ = 1;
  int shift_ = 63;
  std::vector<TokenId> results_;  // by rank
};

}  // namespace sluice
