#include "tokenizer/byte_tokens.h"

#include <algorithm>

namespace sluice {

std::optional<uint8_t> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'A' || c > 'F')) return std::nullopt;
    value = value * 16 + (digit ? c - '0' : c - 'A' + 10);
  }
  return static_cast<uint8_t>(value);
}

ByteTokens::ByteTokens(const TokenizerData& data) : ByteTokens() {
  if (!data.byte_fallback) return;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const auto type = data.types[id];
    if (type != TokenType::kByte && type != TokenType::kNormal) continue;
    const std::optional<uint8_t> byte = ByteOfToken(data.tokens[id]);
    if (byte.has_value()) tokens_[*byte] = static_cast<TokenId>(id);
  }
}

bool ByteTokens::Append(std::string_view text, std::vector<TokenId>& out) const {
  const auto token_of = [this](char c) { return tokens_[static_cast<uint8_t>(c)]; };
  if (std::ranges::any_of(text, [&](char c) { return token_of(c) < 0; })) return false;
  for (const char c : text) out.push_back(token_of(c));
  return true;
}

}  // namespace sluice
