// Byte-level byte-pair encoding, the tokenizer of GPT-2's family; ids equal to those of the
// `tokenizers` package built from the same vocabulary and merges.
// - A byte whose token the vocabulary lacks is left out, as there (SmolLM2 lacks six control
//   characters: U+0004, U+0006, U+0013, U+0014, U+0016, U+001D).
// - Text is not normalised (GGUF does not say how; Qwen2's own tokenizer applies NFC first).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/special_matcher.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/word_table.h"

namespace sluice {

class ByteLevelBpe final : public Tokenizer {
 public:
  // Errors: as Tokenizer::Create; data.model is "gpt2".
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const TokenizerData& data);

  [[nodiscard]] std::vector<TokenId> Encode(std::span<const PromptSegment> segments) const override;
  [[nodiscard]] std::string_view TokenBytes(TokenId token) const override;
  [[nodiscard]] bool IsSpecial(TokenId token) const override;
  [[nodiscard]] int32_t vocab_size() const override {
    return static_cast<int32_t>(is_special_.size());
  }

 private:
  struct Range {
    size_t begin, end;  // half-open, in the joined text
  };

  explicit ByteLevelBpe(const PreTokenizer& pattern) : pattern_(pattern) {}
  absl::Status AddTokens(const TokenizerData& data);
  absl::Status AddMerges(const TokenizerData& data);
  void AddWords(const TokenizerData& data);

  // Appends to `out`; the text holds no special tokens.
  void EncodeText(std::string_view text, std::vector<TokenId>& out) const;
  void EncodeWord(std::string_view word, std::vector<TokenId>& out) const;
  void MergeWord(std::string_view word, std::vector<TokenId>& out) const;

  const PreTokenizer& pattern_;
  std::string bytes_;                     // of all tokens, one after the other
  std::vector<uint32_t> bytes_begin_;     // [V + 1]
  std::vector<uint8_t> is_special_;       // [V]
  std::array<TokenId, 256> byte_tokens_;  // -1: the vocabulary lacks it
  MergeTable merges_;
  WordTable words_;
  SpecialMatcher specials_;
};

}  // namespace sluice
