// Words that are one token, found by their bytes: most words of a text, so most of them need no
// merging. Filled once by the tokenizer's Create, then immutable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "sluice/types.h"

namespace sluice {

class WordTable {
 public:
  WordTable() = default;
  // Room for `num_words` calls of Add.
  explicit WordTable(size_t num_words);

  // `word` is not empty, not in the table, and outlives it.
  void Add(std::string_view word, TokenId token);

  // The token that is `word`, or -1. `word` is not empty.
  [[nodiscard]] TokenId Find(std::string_view word) const {
    const uint64_t hash = HashOf(word);
    const auto tag = static_cast<uint32_t>(hash);
    for (size_t slot = hash >> shift_;; slot = (slot + 1) & mask_) {
      const Slot& s = slots_[slot];
      if (s.token < 0) return -1;
      if (s.tag == tag && s.size == word.size() &&
          std::memcmp(s.word, word.data(), word.size()) == 0) {
        return s.token;
      }
    }
  }

 private:
  struct Slot {
    const char* word = nullptr;
    size_t size = 0;
    uint32_t tag = 0;
    TokenId token = -1;  // -1: empty
  };

  // Every byte counts, 8 at a time; the last 8 may overlap the ones before.
  [[nodiscard]] static uint64_t HashOf(std::string_view word) {
    constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15U;
    const size_t n = word.size();
    uint64_t hash = n;
    const auto add = [&hash](const char* p, size_t size) {
      uint64_t bytes = 0;
      std::memcpy(&bytes, p, size);
      hash = (hash ^ bytes) * kMultiplier;
      hash ^= hash >> 32;
    };
    if (n >= 8) {
      for (size_t i = 0; i + 8 < n; i += 8) add(word.data() + i, 8);
      add(word.data() + n - 8, 8);
    } else if (n >= 4) {
      add(word.data(), 4);
      add(word.data() + n - 4, 4);
    } else {
      const auto byte = [&word](size_t i) {
        return static_cast<uint64_t>(static_cast<uint8_t>(word[i]));
      };
      hash = (hash ^ (byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16)) * kMultiplier;
      hash ^= hash >> 32;
    }
    return hash * kMultiplier;
  }

  std::vector<Slot> slots_ = std::vector<Slot>(2);  // open addressing, at most half full
  size_t mask_ = 1;
  int shift_ = 63;
};

}  // namespace sluice
