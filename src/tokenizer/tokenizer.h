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

class Tokenizer {
 public:
  // Errors: InvalidArgument for inconsistent data (a merge that names no token, sizes that differ,
  // ...); Unimplemented for a model or pre-tokenizer that is not supported, with the list of those
  // that are.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const TokenizerData& data);
  virtual ~Tokenizer() = default;

  // The token ids of the segments' text as one string. Special tokens (control, unknown,
  // user-defined) are recognised only where every byte lies in segments with special_allowed: the
  // leftmost first, of those the longest. Any bytes are valid input: those that are not UTF-8 count
  // as U+FFFD, as Utf8Stream replaces them. No bos or eos is added.
  [[nodiscard]] virtual std::vector<TokenId> Encode(
      std::span<const PromptSegment> segments) const = 0;

  // What a token stands for: raw bytes, perhaps a part of a UTF-8 character; a special token's own
  // text. Errors by value: empty for ids outside [0, vocab_size).
  [[nodiscard]] virtual std::string_view TokenBytes(TokenId token) const = 0;

  // Control and unknown tokens: what skip_special leaves out. User-defined ones are text.
  [[nodiscard]] virtual bool IsSpecial(TokenId token) const = 0;
  [[nodiscard]] virtual int32_t vocab_size() const = 0;

  // All bytes, with invalid UTF-8 replaced by U+FFFD.
  [[nodiscard]] std::string Decode(std::span<const TokenId> tokens, bool skip_special) const;
};

}  // namespace sluice
