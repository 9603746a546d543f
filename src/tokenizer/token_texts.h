// What tokens stand for when they become text again.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/tokenizer_data.h"
#include "sluice/types.h"

namespace sluice {

class TokenTexts {
 public:
  TokenTexts() = default;
  explicit TokenTexts(const TokenizerData& data);

  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(kinds_.size()); }

  // Bytes in the middle of a text; a control token's own text. Empty for ids outside [0, size()).
  [[nodiscard]] std::string_view BytesOf(TokenId token) const;
  [[nodiscard]] bool IsSpecial(TokenId token) const;

  // All bytes of a whole text: its first token has no space before it.
  [[nodiscard]] std::string Join(std::span<const TokenId> tokens, bool skip_special) const;

 private:
  enum class Kind : uint8_t { kText, kControl, kAdded };

  DecoderRule rule_;
  std::string bytes_;                        // of all tokens, one after the other
  std::vector<uint32_t> bytes_begin_ = {0};  // [V + 1]
  std::vector<Kind> kinds_;                  // [V]
};

}  // namespace sluice
