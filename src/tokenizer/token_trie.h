// A trie of tokens' bytes, to find all tokens that begin a text. Filled once, then immutable.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "sluice/types.h"

namespace sluice {

class TokenTrie {
 public:
  TokenTrie();

  // `text` is not empty; of two tokens with one text the first stays.
  void Add(std::string_view text, TokenId token);

  // Calls found(length, token) for each token that begins `text`, the shortest first.
  template <typename Function>
  void ForEachPrefix(std::string_view text, Function&& found) const {
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = Child(node, static_cast<uint8_t>(text[i]));
      if (node == 0) return;
      if (tokens_[node] >= 0) found(i + 1, tokens_[node]);
    }
  }

 private:
  struct Slot {
    uint64_t key = UINT64_MAX;  // node << 8 | byte
    uint32_t child = 0;
  };

  [[nodiscard]] size_t SlotOf(uint64_t key) const {
    return static_cast<size_t>(key * 0x9E3779B97F4A7C15U >> 32) & mask_;
  }
  // 0: none, as the root is nobody's child.
  [[nodiscard]] uint32_t Child(uint32_t node, uint8_t byte) const {
    if (node == 0) return first_[byte];
    const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
    for (size_t slot = SlotOf(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].child;
      if (slots_[slot].key == UINT64_MAX) return 0;
    }
  }
  void Insert(uint64_t key, uint32_t child);

  std::array<uint32_t, 256> first_{};  // the root's children
  std::vector<Slot> slots_;            // open addressing, at most half full
  size_t mask_, num_slots_used_ = 0;
  std::vector<TokenId> tokens_;  // by node; -1: none ends there
};

}  // namespace sluice
