#include "tokenizer/word_table.h"

#include <algorithm>
#include <bit>

namespace sluice {

WordTable::WordTable(size_t num_words) {
  const size_t num_slots = std::bit_ceil(std::max<size_t>(2 * num_words, 2));
  slots_.assign(num_slots, Slot{});
  mask_ = num_slots - 1;
  shift_ = 64 - std::countr_zero(num_slots);
}

void WordTable::Add(std::string_view word, TokenId token) {
  const uint64_t hash = HashOf(word);
  size_t slot = hash >> shift_;
  while (slots_[slot].token >= 0) slot = (slot + 1) & mask_;
  slots_[slot] = {word.data(), word.size(), static_cast<uint32_t>(hash), token};
}

}  // namespace sluice
