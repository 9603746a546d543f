// WordPiece, the model of BERT's family: the longest token that begins the word, then the longest
// that continues it, and so on; a word that cannot be cut so is unknown as a whole.
// Source: "Google's Neural Machine Translation System", Wu et al. 2016, arXiv:1609.08144 §4.1, with
// the greedy search of BERT's own tokenizer.
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/utf8.h"
#include "tokenizer/data_check.h"
#include "tokenizer/token_trie.h"
#include "tokenizer/word_model.h"

namespace sluice {
namespace {

class WordPiece final : public WordModel {
 public:
  explicit WordPiece(const TokenizerData& data)
      : unknown_(data.unknown), max_characters_(data.max_word_characters) {
    const std::string_view mark = data.continuation;
    for (size_t id = 0; id < data.tokens.size(); ++id) {
      const std::string_view token = data.tokens[id];
      if (!IsModelToken(data, id) || token.empty() || !IsValidUtf8(token)) continue;
      begins_.Add(token, static_cast<TokenId>(id));
      if (token.starts_with(mark) && token.size() > mark.size()) {
        continues_.Add(token.substr(mark.size()), static_cast<TokenId>(id));
      }
    }
  }

  void Encode(std::string_view word, std::vector<TokenId>& out) const override {
    int32_t characters = 0;
    for (const char c : word) characters += (static_cast<uint8_t>(c) & 0xC0) != 0x80 ? 1 : 0;
    const size_t first = out.size();
    size_t done = 0;
    while (characters <= max_characters_ && done < word.size()) {
      size_t longest = 0;
      TokenId token = -1;
      const TokenTrie& trie = done == 0 ? begins_ : continues_;
      trie.ForEachPrefix(word.substr(done), [&](size_t length, TokenId id) {
        longest = length;
        token = id;
      });
      if (token < 0) break;
      out.push_back(token);
      done += longest;
    }
    if (done == word.size()) return;
    out.resize(first);
    if (unknown_ >= 0) out.push_back(unknown_);
  }

 private:
  TokenTrie begins_, continues_;
  TokenId unknown_;
  int32_t max_characters_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WordModel>> MakeWordPiece(const TokenizerData& data) {
  RETURN_IF_ERROR(IndexTokens(data).status());
  if (data.max_word_characters < 1 || data.max_word_characters > 4096) {
    return InvalidTokenizer("words may have {} characters; the limit is 1 to 4096",
                            data.max_word_characters);
  }
  return std::make_unique<WordPiece>(data);
}

}  // namespace sluice
