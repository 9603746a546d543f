// Cuts normalised text into the words that the model turns into tokens.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/tokenizer_data.h"
#include "sluice/types.h"
#include "tokenizer/cut_step.h"
#include "tokenizer/word_model.h"

namespace sluice {

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<CutStep> steps) : steps_(std::move(steps)) {}

  // Errors: Unimplemented, by name, for an expression or an order of steps that is not supported.
  static absl::StatusOr<PreTokenizer> Create(const TokenizerData& data);

  // Appends the tokens of all words of `text`, which is valid UTF-8. at_beginning: the prompt
  // begins with it.
  void Encode(std::string_view text, bool at_beginning, const WordModel& model,
              std::vector<TokenId>& out) const;

  // Whether cutting is all it does: no space or mark is put before words.
  [[nodiscard]] bool only_cuts() const { return !prefix_space_ && !metaspace_.has_value(); }
  [[nodiscard]] const std::vector<CutStep>& steps() const { return steps_; }

 private:
  using Steps = std::vector<PreTokenizerStep>;
  absl::Status Add(const Steps& steps, size_t i, bool spaces_replaced);
  void Cut(size_t step, std::string_view text, bool at_beginning, const WordModel& model,
           std::vector<TokenId>& out) const;
  void EncodeMarked(std::string_view word, bool at_beginning, const WordModel& model,
                    std::vector<TokenId>& out) const;

  bool prefix_space_ = false;
  std::vector<CutStep> steps_;
  std::optional<PreTokenizerStep> metaspace_;  // after the steps
};

// GGUF's tokenizer.ggml.pre for a byte-level tokenizer with these stages; empty: no name says all
// of what they do.
[[nodiscard]] std::string NameOfPreTokenizer(const TokenizerData& data);

}  // namespace sluice
