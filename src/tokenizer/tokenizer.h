// Text to token ids and back. Immutable after Create; thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/utf8.h"
#include "sluice/model_info.h"
#include "sluice/types.h"

namespace sluice {

// One or two texts with the special tokens that a model was trained with around them.
struct EncodedTexts {
  std::vector<TokenId> tokens;    // [T]
  std::vector<uint8_t> type_ids;  // [T]: 0 for the first text, 1 for the second, as the model says
};

class Tokenizer {
 public:
  // Errors: InvalidArgument for inconsistent data (a merge that names no token, sizes that differ,
  // ...); Unimplemented for a model or a part of it that is not supported, by name.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const TokenizerData& data);
  virtual ~Tokenizer() = default;

  // The token ids of the segments' text as one string. Special tokens (control, unknown,
  // user-defined) are recognised only where every byte lies in segments with special_allowed: the
  // leftmost first, of those the longest. User-defined tokens that are nothing but white space are
  // text: they are recognised everywhere. Any bytes are valid input: those that are not UTF-8 count
  // as U+FFFD, as Utf8Stream replaces them. No bos or eos is added.
  [[nodiscard]] virtual std::vector<TokenId> Encode(
      std::span<const PromptSegment> segments) const = 0;

  // A text, or a pair of texts (`second` may be null), as encoders read them: with the model's
  // template of special tokens around. None is recognised inside the texts. Beyond max_tokens in
  // all the longer text loses tokens at its end until both are as long, and then both do.
  [[nodiscard]] virtual EncodedTexts EncodeTexts(const Text& first, const Text* second,
                                                 size_t max_tokens) const = 0;

  // What a token stands for in the middle of a text: raw bytes, perhaps a part of a UTF-8
  // character; a special token's own text. Errors by value: empty for ids outside [0, vocab_size).
  [[nodiscard]] virtual std::string_view TokenBytes(TokenId token) const = 0;

  // Control and unknown tokens: what skip_special leaves out. User-defined ones are text.
  [[nodiscard]] virtual bool IsSpecial(TokenId token) const = 0;
  [[nodiscard]] virtual int32_t vocab_size() const = 0;

  // All bytes of a whole text, with invalid UTF-8 replaced by U+FFFD. Unlike the concatenation of
  // TokenBytes it lacks the space that SentencePiece and WordPiece put before a text's first word.
  [[nodiscard]] virtual std::string Decode(std::span<const TokenId> tokens,
                                           bool skip_special) const = 0;
};

}  // namespace sluice
