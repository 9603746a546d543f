// What turns one word into tokens. Immutable after its Create; thread-safe.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/tokenizer_data.h"
#include "sluice/types.h"

namespace sluice {

class WordModel {
 public:
  virtual ~WordModel() = default;
  // Appends the word's tokens to `out`; `word` is not empty and valid UTF-8, but for byte-level
  // models, whose words may end inside a character.
  virtual void Encode(std::string_view word, std::vector<TokenId>& out) const = 0;
};

// `data` has passed CheckTokenizerData. Errors: InvalidArgument for merges or scores that do not
// fit the tokens. Control, unknown and unused tokens never come out of a model, but for the unknown
// token in place of what has none.
absl::StatusOr<std::unique_ptr<WordModel>> MakeByteLevelBpe(const TokenizerData& data,
                                                            bool whole_words_first);
absl::StatusOr<std::unique_ptr<WordModel>> MakeCharacterBpe(const TokenizerData& data);
absl::StatusOr<std::unique_ptr<WordModel>> MakeUnigram(const TokenizerData& data);
absl::StatusOr<std::unique_ptr<WordModel>> MakeWordPiece(const TokenizerData& data);

}  // namespace sluice
