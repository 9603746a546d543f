#include "tokenizer/token_trie.h"

#include <utility>

namespace sluice {

TokenTrie::TokenTrie() : slots_(16), mask_(15), tokens_(1, -1) {}

void TokenTrie::Add(std::string_view text, TokenId token) {
  uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    uint32_t child = Child(node, byte);
    if (child == 0) {
      child = static_cast<uint32_t>(tokens_.size());
      tokens_.push_back(-1);
      if (node == 0) {
        first_[byte] = child;
      } else {
        Insert(static_cast<uint64_t>(node) << 8 | byte, child);
      }
    }
    node = child;
  }
  if (tokens_[node] < 0) tokens_[node] = token;
}

void TokenTrie::Insert(uint64_t key, uint32_t child) {
  size_t slot = SlotOf(key);
  while (slots_[slot].key != UINT64_MAX) slot = (slot + 1) & mask_;
  slots_[slot] = {key, child};
  if (2 * ++num_slots_used_ < slots_.size()) return;
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
  mask_ = slots_.size() - 1;
  num_slots_used_ = 0;
  for (const Slot& s : old) {
    if (s.key != UINT64_MAX) Insert(s.key, s.child);
  }
}

}  // namespace sluice
