#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace sluice {

// Token t stands for the letter 'a' + t % 26.
class LetterTokenizer final : public Tokenizer {
 public:
  LetterTokenizer() {
    for (int i = 0; i < 1000; i++) letters_ += static_cast<char>('a' + i % 26);
  }
  [[nodiscard]] std::vector<TokenId> Encode(std::span<const PromptSegment>) const override {
    return {};
  }
  [[nodiscard]] EncodedTexts EncodeTexts(const Text&, const Text*, size_t) const override {
    return {};
  }
  [[nodiscard]] std::string Decode(std::span<const TokenId>, bool) const override { return {}; }
  [[nodiscard]] std::string_view TokenBytes(TokenId t) const override {
    return std::string_view(letters_).substr(t, 1);
  }
  [[nodiscard]] bool IsSpecial(TokenId) const override { return false; }
  [[nodiscard]] int32_t vocab_size() const override { return 1000; }

 private:
  std::string letters_;
};

}  // namespace sluice
