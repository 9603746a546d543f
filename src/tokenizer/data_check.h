// What must hold of a tokenizer's data before a model is made of it.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sluice/tokenizer_data.h"

namespace sluice {

template <typename... Args>
absl::Status InvalidTokenizer(fmt::format_string<Args...> format, Args&&... args) {
  return absl::InvalidArgumentError("tokenizer: " +
                                    fmt::format(format, std::forward<Args>(args)...));
}

// Sizes, ids of special tokens, limits. Errors: InvalidArgument.
absl::Status CheckTokenizerData(const TokenizerData& data);

using TokenIds = std::unordered_map<std::string_view, TokenId>;

// Ids by text. Errors: InvalidArgument for two equal tokens.
absl::StatusOr<TokenIds> IndexTokens(const TokenizerData& data);

// Models may come upon these in text; the rest only by name, or never.
inline bool IsTextToken(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUserDefined;
}
inline bool IsModelToken(const TokenizerData& data, size_t id) {
  const auto end = static_cast<size_t>(data.num_model_tokens);
  return IsTextToken(data.types[id]) && (end == 0 || id < end);
}

}  // namespace sluice
