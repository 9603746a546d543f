// The unigram language model of SentencePiece (T5, XLM-RoBERTa): of all ways to cut a word into
// tokens, the one with the largest sum of scores; of equal sums, the one whose last token is
// longer. Source: "Subword Regularization", Kudo 2018, arXiv:1804.10959 §3.2, by Viterbi's
// algorithm.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/utf8.h"
#include "tokenizer/byte_tokens.h"
#include "tokenizer/data_check.h"
#include "tokenizer/token_trie.h"
#include "tokenizer/word_model.h"

namespace sluice {
namespace {

// An unknown character costs this much more than the least likely token; SentencePiece's number.
constexpr double kUnknownPenalty = 10.0;
constexpr size_t kMaxMatchedToken = 512;  // bytes; bounds the work at each position

class Unigram final : public WordModel {
 public:
  explicit Unigram(const TokenizerData& data);
  void Encode(std::string_view word, std::vector<TokenId>& out) const override;

 private:
  // The best way to reach a position.
  struct Node {
    double score = 0;
    uint32_t begin = UINT32_MAX;  // of its last token; UINT32_MAX: not reached
    TokenId token = -1;           // -1: an unknown character
  };

  void Search(std::string_view word, std::vector<Node>& nodes) const;
  void AppendUnknown(std::string_view text, std::vector<TokenId>& out) const;

  TokenTrie trie_;
  std::vector<double> scores_;
  double unknown_score_;
  ByteTokens byte_tokens_;
  TokenId unknown_;
};

Unigram::Unigram(const TokenizerData& data)
    : scores_(data.scores), byte_tokens_(data), unknown_(data.unknown) {
  unknown_score_ = *std::ranges::min_element(scores_) - kUnknownPenalty;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& token = data.tokens[id];
    if (!IsModelToken(data, id) || token.empty() || token.size() > kMaxMatchedToken) continue;
    if (IsValidUtf8(token)) trie_.Add(token, static_cast<TokenId>(id));
  }
}

void Unigram::Search(std::string_view word, std::vector<Node>& nodes) const {
  const auto reach = [&](size_t begin, size_t end, TokenId token, double score) {
    Node& node = nodes[end];
    const double total = score + nodes[begin].score;
    if (node.begin != UINT32_MAX && total <= node.score) return;
    node = {total, static_cast<uint32_t>(begin), token};
  };
  for (size_t i = 0, length = 0; i < word.size(); i += length) {
    length = FirstUtf8Unit(word.substr(i)).length;
    bool has_character = false;
    trie_.ForEachPrefix(word.substr(i), [&](size_t size, TokenId token) {
      reach(i, i + size, token, scores_[token]);
      has_character = has_character || size == length;
    });
    if (!has_character) reach(i, i + length, -1, unknown_score_);
  }
}

void Unigram::Encode(std::string_view word, std::vector<TokenId>& out) const {
  std::vector<Node> nodes(word.size() + 1);
  Search(word, nodes);
  // From the end to the beginning; unknown characters side by side are one.
  std::vector<std::pair<size_t, size_t>> path;  // [begin, end) of each piece
  for (size_t end = word.size(); end > 0; end = nodes[end].begin) {
    const bool unknown = nodes[end].token < 0;
    const bool fuse =
        unknown && !path.empty() && path.back().first == end && nodes[path.back().second].token < 0;
    if (fuse) {
      path.back().first = nodes[end].begin;
    } else {
      path.emplace_back(nodes[end].begin, end);
    }
  }
  for (auto piece = path.rbegin(); piece != path.rend(); ++piece) {
    const TokenId token = nodes[piece->second].token;
    if (token >= 0) {
      out.push_back(token);
    } else {
      AppendUnknown(word.substr(piece->first, piece->second - piece->first), out);
    }
  }
}

void Unigram::AppendUnknown(std::string_view text, std::vector<TokenId>& out) const {
  if (!byte_tokens_.Append(text, out) && unknown_ >= 0) out.push_back(unknown_);
}

}  // namespace

absl::StatusOr<std::unique_ptr<WordModel>> MakeUnigram(const TokenizerData& data) {
  if (data.scores.empty()) return InvalidTokenizer("a unigram vocabulary has no scores");
  RETURN_IF_ERROR(IndexTokens(data).status());
  return std::make_unique<Unigram>(data);
}

}  // namespace sluice
