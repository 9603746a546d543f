// Byte-level byte-pair encoding, the model of GPT-2's family: a word's bytes are its first tokens.
// A byte whose token the vocabulary lacks is left out, as in the `tokenizers` package (SmolLM2
// lacks six control characters: U+0004, U+0006, U+0013, U+0014, U+0016, U+001D).
#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/data_check.h"
#include "tokenizer/merge_reader.h"
#include "tokenizer/word_model.h"
#include "tokenizer/word_table.h"

namespace sluice {
namespace {

class ByteLevelBpe final : public WordModel {
 public:
  ByteLevelBpe(const TokenizerData& data, MergeTable merges, bool whole_words_first);

  void Encode(std::string_view word, std::vector<TokenId>& out) const override {
    const TokenId token = table_.Find(word);
    if (token >= 0) {
      out.push_back(token);
    } else {
      Merge(word, out);
    }
  }

 private:
  void Merge(std::string_view word, std::vector<TokenId>& out) const {
    const size_t begin = out.size();
    for (const char c : word) {
      const TokenId token = byte_tokens_[static_cast<uint8_t>(c)];
      if (token >= 0) out.push_back(token);
    }
    out.resize(begin + merges_.Merge(std::span(out).subspan(begin)));
  }

  std::array<TokenId, 256> byte_tokens_;  // -1: the vocabulary lacks it
  MergeTable merges_;
  std::string bytes_;  // of the words in table_, one after the other
  WordTable table_;
};

ByteLevelBpe::ByteLevelBpe(const TokenizerData& data, MergeTable merges, bool whole_words_first)
    : merges_(std::move(merges)) {
  const ByteAlphabet alphabet;
  std::vector<std::pair<std::string, TokenId>> words;
  byte_tokens_.fill(-1);
  size_t num_bytes = 0;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (!IsModelToken(data, id)) continue;
    std::optional<std::string> word = alphabet.ToBytes(data.tokens[id]);
    if (word.has_value() && word->size() == 1) {
      byte_tokens_[static_cast<uint8_t>((*word)[0])] = static_cast<TokenId>(id);
    }
    if (data.types[id] != TokenType::kNormal) continue;
    // A normal token that is not in the byte alphabet stands for its own text, as in the package.
    if (!word.has_value()) word = data.tokens[id];
    if (word->empty()) continue;
    num_bytes += word->size();
    words.emplace_back(*std::move(word), static_cast<TokenId>(id));
  }
  bytes_.reserve(num_bytes);  // what table_ points at must stay
  table_ = WordTable(words.size());
  std::vector<TokenId> merged;
  for (const auto& [word, id] : words) {
    merged.clear();
    if (!whole_words_first) Merge(word, merged);
    const bool is_whole = merged.size() == 1 && merged[0] == id;
    if (!whole_words_first && !is_whole) continue;
    const size_t begin = bytes_.size();
    bytes_ += word;
    table_.Add(std::string_view(bytes_).substr(begin), id);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<WordModel>> MakeByteLevelBpe(const TokenizerData& data,
                                                            bool whole_words_first) {
  ASSIGN_OR_RETURN(const TokenIds ids, IndexTokens(data));
  ASSIGN_OR_RETURN(MergeTable merges, ReadMerges(data, ids));
  return std::make_unique<ByteLevelBpe>(data, std::move(merges), whole_words_first);
}

}  // namespace sluice
