// Tokens of single bytes, "<0x00>" to "<0xFF>": what characters without a token become.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "sluice/tokenizer_data.h"
#include "sluice/types.h"

namespace sluice {

// The byte that a token of the form "<0xAB>" names.
[[nodiscard]] std::optional<uint8_t> ByteOfToken(std::string_view token);

class ByteTokens {
 public:
  ByteTokens() { tokens_.fill(-1); }
  // None unless data.byte_fallback.
  explicit ByteTokens(const TokenizerData& data);

  // Appends the tokens of all bytes of `text`; false: one is missing, and nothing was appended.
  [[nodiscard]] bool Append(std::string_view text, std::vector<TokenId>& out) const;

 private:
  std::array<TokenId, 256> tokens_;  // -1: missing
};

}  // namespace sluice
