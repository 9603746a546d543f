// GPT-2's byte alphabet: byte-level vocabularies write each byte as one printable character. The
// 188 bytes that are printable in Latin-1 stand for themselves, the other 68 (in ascending order)
// are U+0100, U+0101, ...; a space is "Ġ" (U+0120). Source: "Language Models are Unsupervised
// Multitask Learners", Radford et al. 2019, §2.2, as every vocabulary of its kind writes it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

class ByteAlphabet {
 public:
  ByteAlphabet();

  // The character that stands for `byte`, as UTF-8.
  [[nodiscard]] const std::string& CharacterOf(uint8_t byte) const { return characters_[byte]; }

  // The bytes that `text` stands for; nothing if it holds a character that stands for no byte.
  [[nodiscard]] std::optional<std::string> ToBytes(std::string_view text) const;

 private:
  static constexpr char32_t kEnd = 0x100 + 68;
  std::array<std::string, 256> characters_;
  std::array<int16_t, kEnd> bytes_;  // by code point; -1: stands for no byte
};

}  // namespace sluice
