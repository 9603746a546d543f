// Byte-pair encoding of characters, the model of SentencePiece's BPE vocabularies (Llama 2,
// Mistral, Gemma). Its "word" may be a whole text, spaces being written as U+2581: it is cut where
// no token reaches across (CharacterPairs), and most pieces then are tokens as they stand
// (WordTable), so that merging is left with the rest.
#include <span>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/utf8.h"
#include "tokenizer/byte_tokens.h"
#include "tokenizer/character_pairs.h"
#include "tokenizer/data_check.h"
#include "tokenizer/merge_reader.h"
#include "tokenizer/word_model.h"
#include "tokenizer/word_table.h"

namespace sluice {
namespace {

class CharacterBpe final : public WordModel {
 public:
  CharacterBpe(const TokenizerData& data, MergeTable merges);

  void Encode(std::string_view word, std::vector<TokenId>& out) const override;

 private:
  void AddCharacters(const TokenizerData& data);
  void AddWords(const TokenizerData& data);
  void EncodePiece(std::string_view piece, bool& after_unknown, std::vector<TokenId>& out) const;
  void AppendUnknown(std::string_view character, bool& after_unknown,
                     std::vector<TokenId>& out) const;

  MergeTable merges_;
  CharacterPairs pairs_;
  ByteTokens byte_tokens_;
  TokenId unknown_;
  bool fuse_unknown_;
  std::string bytes_;     // of the tokens in the two tables, one after the other
  WordTable characters_;  // tokens of one character
  WordTable words_;       // tokens that merging their own characters gives
};

CharacterBpe::CharacterBpe(const TokenizerData& data, MergeTable merges)
    : merges_(std::move(merges)),
      byte_tokens_(data),
      unknown_(data.unknown),
      fuse_unknown_(data.fuse_unknown) {
  size_t num_bytes = 0;
  for (const std::string& token : data.tokens) num_bytes += token.size();
  bytes_.reserve(2 * num_bytes);  // what the tables point at must stay
  AddCharacters(data);
  AddWords(data);
}

void CharacterBpe::AddCharacters(const TokenizerData& data) {
  characters_ = WordTable(data.tokens.size());
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& token = data.tokens[id];
    if (!IsModelToken(data, id) || token.empty() || !IsValidUtf8(token)) continue;
    if (FirstUtf8Unit(token).length != token.size()) continue;
    const size_t begin = bytes_.size();
    bytes_ += token;
    characters_.Add(std::string_view(bytes_).substr(begin), static_cast<TokenId>(id));
  }
}

void CharacterBpe::AddWords(const TokenizerData& data) {
  words_ = WordTable(data.tokens.size());
  std::vector<TokenId> merged;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const std::string& token = data.tokens[id];
    if (!IsModelToken(data, id) || token.empty() || !IsValidUtf8(token)) continue;
    size_t length = 0;
    char32_t previous = DecodeValidUtf8(token.data(), length);
    for (size_t i = length; i < token.size(); i += length) {
      const char32_t c = DecodeValidUtf8(token.data() + i, length);
      pairs_.Add(previous, c);
      previous = c;
    }
    merged.clear();
    bool after_unknown = false;
    EncodePiece(token, after_unknown, merged);
    if (merged.size() != 1 || merged[0] != static_cast<TokenId>(id)) continue;
    const size_t begin = bytes_.size();
    bytes_ += token;
    words_.Add(std::string_view(bytes_).substr(begin), static_cast<TokenId>(id));
  }
}

void CharacterBpe::Encode(std::string_view word, std::vector<TokenId>& out) const {
  bool after_unknown = false;
  size_t begin = 0;
  size_t length = 0;
  char32_t previous = DecodeValidUtf8(word.data(), length);
  for (size_t i = length; i < word.size(); i += length) {
    const char32_t c = DecodeValidUtf8(word.data() + i, length);
    if (!pairs_.Contains(previous, c)) {
      EncodePiece(word.substr(begin, i - begin), after_unknown, out);
      begin = i;
    }
    previous = c;
  }
  EncodePiece(word.substr(begin), after_unknown, out);
}

void CharacterBpe::EncodePiece(std::string_view piece, bool& after_unknown,
                               std::vector<TokenId>& out) const {
  const TokenId whole = words_.Find(piece);
  if (whole >= 0) {
    out.push_back(whole);
    after_unknown = false;
    return;
  }
  const size_t begin = out.size();
  for (size_t i = 0, length = 0; i < piece.size(); i += length) {
    length = FirstUtf8Unit(piece.substr(i)).length;
    const std::string_view character = piece.substr(i, length);
    const TokenId token = characters_.Find(character);
    if (token >= 0) {
      out.push_back(token);
      after_unknown = false;
    } else {
      AppendUnknown(character, after_unknown, out);
    }
  }
  out.resize(begin + merges_.Merge(std::span(out).subspan(begin)));
}

void CharacterBpe::AppendUnknown(std::string_view character, bool& after_unknown,
                                 std::vector<TokenId>& out) const {
  if (byte_tokens_.Append(character, out)) {
    after_unknown = false;
  } else if (unknown_ >= 0) {
    if (!after_unknown || !fuse_unknown_) out.push_back(unknown_);
    after_unknown = true;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<WordModel>> MakeCharacterBpe(const TokenizerData& data) {
  if (data.whole_words_first) {
    return absl::UnimplementedError(
        "tokenizer: ignore_merges is not supported with BPE of characters");
  }
  ASSIGN_OR_RETURN(const TokenIds ids, IndexTokens(data));
  if (data.merges.empty() && data.merge_pairs.empty() && !data.scores.empty()) {
    return std::make_unique<CharacterBpe>(data, MergesFromScores(data, ids));
  }
  ASSIGN_OR_RETURN(MergeTable merges, ReadMerges(data, ids));
  return std::make_unique<CharacterBpe>(data, std::move(merges));
}

}  // namespace sluice
