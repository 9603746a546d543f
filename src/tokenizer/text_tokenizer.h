// The one Tokenizer: added tokens, normaliser, pre-tokenizer and model, one after the other.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/special_matcher.h"
#include "tokenizer/token_texts.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/word_model.h"

namespace sluice {

class TextTokenizer final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const TokenizerData& data);

  [[nodiscard]] std::vector<TokenId> Encode(std::span<const PromptSegment> segments) const override;
  [[nodiscard]] EncodedTexts EncodeTexts(const Text& first, const Text* second,
                                         size_t max_tokens) const override;
  [[nodiscard]] std::string_view TokenBytes(TokenId token) const override {
    return texts_.BytesOf(token);
  }
  [[nodiscard]] bool IsSpecial(TokenId token) const override { return texts_.IsSpecial(token); }
  [[nodiscard]] int32_t vocab_size() const override { return texts_.size(); }
  [[nodiscard]] std::string Decode(std::span<const TokenId> tokens,
                                   bool skip_special) const override {
    return ReplaceInvalidUtf8(texts_.Join(tokens, skip_special));
  }

 private:
  struct Range {
    size_t begin, end;  // half-open, in the joined text
  };

  TextTokenizer() = default;
  absl::Status AddStages(const TokenizerData& data);
  absl::Status AddSpecials(const TokenizerData& data);
  void AddTemplates(const TokenizerData& data);

  using Ranges = std::span<const Range>;  // ascending, not adjacent

  [[nodiscard]] std::vector<TokenId> EncodeJoined(std::string_view text, Ranges allowed) const;
  // Append to `out`. Parts are of the joined text.
  void EncodeBetween(std::string_view text, Range part, Ranges allowed,
                     std::vector<TokenId>& out) const;
  void EncodeNormalized(std::string_view text, bool at_beginning, bool special_allowed,
                        std::vector<TokenId>& out) const;

  SpecialMatcher specials_;  // looked for in the text as it comes
  // Looked for in what the normaliser makes of the rest, themselves normalised; where a part of the
  // text is allowed to name them and a part is not, in the text as it comes.
  SpecialMatcher normalized_specials_, mixed_specials_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<const WordModel> model_;
  TokenTexts texts_;
  std::vector<TemplatePiece> single_, pair_;
};

}  // namespace sluice
