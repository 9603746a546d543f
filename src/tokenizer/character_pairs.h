// The pairs of neighbouring characters inside any token that merging makes: between two characters
// that are no such pair, a text can be cut before it is merged.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sluice {

class CharacterPairs {
 public:
  void Add(char32_t left, char32_t right) {
    const uint32_t l = SmallOf(left);
    const uint32_t r = SmallOf(right);
    if (l != kLarge && r != kLarge) {
      small_[l * kLarge + r] = true;
    } else {
      AddLarge(KeyOf(left, right));
    }
  }

  [[nodiscard]] bool Contains(char32_t left, char32_t right) const {
    const uint32_t l = SmallOf(left);
    const uint32_t r = SmallOf(right);
    if (l != kLarge && r != kLarge) return small_[l * kLarge + r];
    const uint64_t key = KeyOf(left, right);
    for (size_t slot = SlotOf(key);; slot = (slot + 1) & mask_) {
      if (large_[slot] == key) return true;
      if (large_[slot] == kEmpty) return false;
    }
  }

 private:
  static constexpr uint32_t kLarge = 129;  // ASCII, and U+2581 as 128, have a table of their own
  static constexpr uint64_t kEmpty = UINT64_MAX;

  [[nodiscard]] static uint32_t SmallOf(char32_t c) {
    return c < 128 ? c : c == 0x2581 ? 128 : kLarge;
  }
  [[nodiscard]] static uint64_t KeyOf(char32_t left, char32_t right) {
    return static_cast<uint64_t>(left) << 32 | right;
  }
  [[nodiscard]] size_t SlotOf(uint64_t key) const {
    return static_cast<size_t>(key * 0x9E3779B97F4A7C15U >> 32) & mask_;
  }
  void AddLarge(uint64_t key);

  std::array<bool, kLarge * kLarge> small_{};
  std::vector<uint64_t> large_ = std::vector<uint64_t>(16, kEmpty);  // at most half full
  size_t mask_ = 15, num_large_ = 0;
};

}  // namespace sluice
