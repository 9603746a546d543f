#include "tokenizer/data_check.h"

#include <cmath>

#include "base/status_macros.h"

namespace sluice {
namespace {

// Far above every published vocabulary (262,144 tokens, 514,906 merges), far below what would hurt.
constexpr size_t kMaxTokens = 1U << 22;
constexpr size_t kMaxMerges = 1U << 23;
constexpr size_t kMaxTokenBytes = 1U << 16;
constexpr size_t kMaxBytes = 1U << 30;

absl::Status CheckId(const char* what, TokenId id, size_t num_tokens) {
  if (id >= -1 && id < static_cast<int64_t>(num_tokens)) return absl::OkStatus();
  return InvalidTokenizer("the {} token is {}; the vocabulary has {} tokens", what, id, num_tokens);
}

absl::Status CheckPieces(const std::vector<TemplatePiece>& pieces, size_t num_tokens) {
  for (const TemplatePiece& piece : pieces) {
    if (piece.kind == TemplatePiece::Kind::kToken && piece.token < 0) {
      return InvalidTokenizer("a template's token is {}", piece.token);
    }
    RETURN_IF_ERROR(CheckId("template's", piece.token, num_tokens));
  }
  return absl::OkStatus();
}

absl::Status CheckTokens(const TokenizerData& data) {
  size_t bytes = 0;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const size_t size = data.tokens[id].size();
    if (size > kMaxTokenBytes) {
      return InvalidTokenizer("token {} has {} bytes; at most {} are allowed", id, size,
                              kMaxTokenBytes);
    }
    bytes += size;
    if (bytes > kMaxBytes) {
      return InvalidTokenizer("the tokens up to {} have more than {} bytes together", id,
                              kMaxBytes);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTokenizerData(const TokenizerData& data) {
  const size_t num_tokens = data.tokens.size();
  if (num_tokens == 0) return InvalidTokenizer("the vocabulary is empty");
  if (num_tokens > kMaxTokens) {
    return InvalidTokenizer("the vocabulary has {} tokens; at most {} are allowed", num_tokens,
                            kMaxTokens);
  }
  if (data.types.size() != num_tokens) {
    return InvalidTokenizer("{} tokens have {} types", num_tokens, data.types.size());
  }
  if (!data.scores.empty() && data.scores.size() != num_tokens) {
    return InvalidTokenizer("{} tokens have {} scores", num_tokens, data.scores.size());
  }
  for (size_t i = 0; i < data.scores.size(); ++i) {
    if (!std::isfinite(data.scores[i])) return InvalidTokenizer("token {} has no finite score", i);
  }
  const size_t num_merges = data.merges.size() + data.merge_pairs.size();
  if (num_merges > kMaxMerges) {
    return InvalidTokenizer("there are {} merges; at most {} are allowed", num_merges, kMaxMerges);
  }
  if (data.num_model_tokens < 0) {
    return InvalidTokenizer("the model has {} tokens", data.num_model_tokens);
  }
  RETURN_IF_ERROR(CheckId("bos", data.bos, num_tokens));
  RETURN_IF_ERROR(CheckId("eos", data.eos, num_tokens));
  RETURN_IF_ERROR(CheckId("unknown", data.unknown, num_tokens));
  RETURN_IF_ERROR(CheckId("padding", data.padding, num_tokens));
  RETURN_IF_ERROR(CheckPieces(data.single, num_tokens));
  RETURN_IF_ERROR(CheckPieces(data.pair, num_tokens));
  return CheckTokens(data);
}

absl::StatusOr<TokenIds> IndexTokens(const TokenizerData& data) {
  TokenIds ids;
  ids.reserve(data.tokens.size());
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] == TokenType::kUnused && data.tokens[id].empty()) continue;
    const auto [other, is_new] = ids.emplace(data.tokens[id], static_cast<TokenId>(id));
    if (!is_new) return InvalidTokenizer("tokens {} and {} are the same", other->second, id);
  }
  return ids;
}

}  // namespace sluice
