// From accepted tokens to what a client may see: whole characters, whole tokens, and no piece of a
// stop string.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sluice/types.h"
#include "step/step_result.h"
#include "tokenizer/tokenizer.h"

namespace sluice {

struct OutputOptions {
  std::vector<Text> stop;
  bool skip_special_tokens = true;
  bool include_stop_str_in_output = false;
  int32_t min_tokens = 0;  // stop strings completed before that many output tokens do not count
  bool logprobs = false;
  size_t interval = 1;  // tokens that a piece waits for, but for the first and the last
};

// One choice's text. Text is released token by token: a token waits while it ends inside a
// character or while the text up to its end could still become a stop string. So streamed and
// unstreamed answers are the same bytes, and the tokens a client holds always stand for exactly the
// text it holds (which is what resuming needs). Engine thread only.
class ChoiceOutput {
 public:
  ChoiceOutput(const Tokenizer& tokenizer, OutputOptions options)
      : tokenizer_(tokenizer), options_(std::move(options)) {}

  // What may be shown now. `index` is the output index of tokens[0].
  struct Piece {
    int32_t index = 0;
    Text content;
    NewTokens tokens;
    std::vector<TokenLogprob> logprobs;
    bool stopped = false;  // a stop string was completed: the choice is over
    int32_t num_kept_tokens =
        0;  // with stopped: output tokens up to and with the one that completed it
  };

  // Takes newly accepted tokens; the piece is empty while too few are there. Tokens after the one
  // that completes a stop string are ignored.
  Piece Append(std::span<const SampledToken> tokens);

  // The choice has ended by a stop token (which is not shown unless include_stop_str_in_output) or
  // otherwise (null): releases everything held; an unfinished character becomes U+FFFD.
  Piece Close(const SampledToken* stop_token);

  // Tokens a client already has from an earlier run of the same request.
  void Resume(std::span<const TokenId> tokens);

  [[nodiscard]] int32_t num_tokens() const { return num_tokens_; }

 private:
  struct PendingToken {
    SampledToken sampled;
    size_t end;  // offset in the whole text after this token; one more while it ends inside a
                 // character
  };

  bool Take(const SampledToken& token);  // true: completed a stop string at stop_begin_
  [[nodiscard]] size_t HoldLength() const;
  void Release(size_t end, Piece* piece);
  [[nodiscard]] TokenLogprob MakeLogprob(const SampledToken& sampled) const;

  const Tokenizer& tokenizer_;
  const OutputOptions options_;
  Utf8Stream utf8_;
  std::string held_;        // text not yet released, from offset released_
  size_t released_ = 0;     // bytes of text released so far
  size_t search_from_ = 0;  // offset before which no stop string may begin
  size_t stop_begin_ = 0, stop_end_ = 0;
  std::vector<PendingToken> pending_;  // [pending_begin_, size) are not yet released
  size_t pending_begin_ = 0;
  int32_t num_tokens_ = 0;  // taken, stop token included
  int32_t num_released_ = 0;
};

}  // namespace sluice
