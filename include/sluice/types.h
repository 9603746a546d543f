// What flows between a client of the Service and the engine: requests in, events out. Plain values,
// no behaviour.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sluice {

using TokenId = int32_t;
// What a step adds to one stream: nearly always one token, which then takes no allocation.
using NewTokens = absl::InlinedVector<TokenId, 2>;

// Text of a prompt or an output. It converts to nothing and prints nowhere, so no log, trace,
// metric, status message or error sink can take it by accident; tests/text_privacy_test.py lists
// the few files that may call Reveal().
class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes) : bytes_(std::move(bytes)) {}
  [[nodiscard]] const std::string& Reveal() const& { return bytes_; }
  [[nodiscard]] std::string Reveal() && { return std::move(bytes_); }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  void Append(const Text& more) { bytes_ += more.bytes_; }
  friend bool operator==(const Text&, const Text&) = default;

 private:
  std::string bytes_;
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", ... as the template understands it
  Text content;
};

// A piece of a prompt on its way to the tokenizer. Client text never has special_allowed in chat.
struct PromptSegment {
  Text text;
  bool special_allowed = false;  // special tokens written out in it count as such
};

// What the client asked for; empty means "the model's default". Checked by Service, in one place
// (service/validate.cc).
struct SamplingOptions {
  std::optional<double> temperature;         // [0, 100]; 0 is greedy
  std::optional<int64_t> top_k;              // 0 or -1: off
  std::optional<double> top_p;               // (0, 1]
  std::optional<double> min_p;               // [0, 1]
  std::optional<double> repetition_penalty;  // (0, 100]; 1: off; over prompt and output tokens
  std::optional<double> presence_penalty;    // [-2, 2]; over output tokens
  std::optional<double> frequency_penalty;   // [-2, 2]; over output tokens
  std::map<int64_t, double> logit_bias;      // token id -> [-100, 100]
  std::optional<int64_t>
      min_tokens;  // no eos, stop token or stop string before that many output tokens
  std::optional<int64_t> max_tokens;  // >= 1; empty: what the endpoint defaults to
  std::vector<Text> stop;             // at most 16 strings, none empty
  std::vector<int64_t> stop_token_ids;
  bool ignore_eos = false;
  std::optional<uint64_t> seed;         // empty: the server draws one and returns it in Accepted
  int64_t n = 1;                        // choices
  std::optional<int64_t> num_logprobs;  // empty: none; k: the chosen token's and the k best (0..20)
};

// A request as a client of the Service makes it.
struct GenerateRequest {
  std::string model;  // name or alias
  // Plain text (special tokens parsed if parse_special), chat messages (through the model's
  // template), or token ids.
  std::variant<Text, std::vector<ChatMessage>, std::vector<TokenId>> prompt;
  bool parse_special = true;
  bool add_generation_prompt = true;  // chat only
  bool skip_special_tokens = true;    // leave special tokens out of the output text
  bool include_stop_str_in_output = false;
  // Tokens that a TokenEvent of a choice waits for, but for its first and last event: [1, 1024].
  int64_t stream_interval = 1;
  SamplingOptions sampling;
  int32_t default_max_tokens = 0;  // 0: the rest of the context (chat); 16 for completions
  int32_t priority = 0;            // lower runs first
  std::string tenant;              // from the API key; salts the prefix cache
  absl::Time deadline = absl::InfiniteFuture();
  std::string request_id;  // the client's X-Request-ID, or the server's own; for logs
  std::string idempotency_key;
  std::vector<TokenId> resume_output_tokens;  // already generated: RNG position, penalties, limits
                                              // and stop matching go on
};

// Two texts to compare.
struct TextPair {
  Text first, second;
};
using EmbedInput = std::variant<Text, std::vector<TokenId>, TextPair>;

// Texts to turn into vectors or, given as pairs, to score. Answered by VectorEvents.
struct EmbedRequest {
  std::string model;               // name or alias
  std::vector<EmbedInput> inputs;  // pairs, or no pair at all; at least one
  // The first so many elements of each vector, normalised again; empty: all.
  std::optional<int64_t> dimensions;
  std::optional<bool> normalise;  // to length 1; empty: as the model does
  // What an input has beyond so many tokens, special ones included, is cut off its end; -1: beyond
  // what the model allows; empty: such an input is refused.
  std::optional<int64_t> truncate_tokens;
  int32_t priority = 0;  // lower runs first
  std::string tenant;
  absl::Time deadline = absl::InfiniteFuture();
  std::string request_id;
};

// Sampling parameters with every default filled in. Immutable once the engine has the request.
struct SamplingParams {
  float temperature = 1.0F;
  int32_t top_k = 0;  // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  std::vector<std::pair<TokenId, float>> logit_bias;  // ascending by id
  int32_t min_tokens = 0;
  std::vector<TokenId>
      stop_token_ids;  // ascending; the model's eos ids are in it unless ignore_eos
  uint64_t seed = 0;
  int32_t num_logprobs = -1;  // -1: none; k: the chosen token's and the k best

  [[nodiscard]] bool UsesPenalties() const {
    return repetition_penalty != 1.0F || presence_penalty != 0.0F || frequency_penalty != 0.0F;
  }
};

enum class FinishReason : uint8_t { kStop, kLength, kToolCalls, kCancelled, kDeadline, kError };

[[nodiscard]] constexpr std::string_view FinishReasonName(FinishReason reason) {
  constexpr std::string_view kNames[] = {"stop",      "length",   "tool_calls",
                                         "cancelled", "deadline", "error"};
  return kNames[static_cast<size_t>(reason)];
}

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  // of all choices, stop tokens included
  int64_t cached_tokens = 0;  // prompt tokens whose KV came from the prefix cache
};

// First event of a request that was admitted. A refused request has only an End.
struct Accepted {
  std::string model;  // the model's own name
  uint64_t seed = 0;
  int64_t prompt_tokens = 0;
  std::string system_fingerprint;  // of this server's build and backend with that model
};

struct TokenLogprob {
  TokenId token = 0;
  Text bytes;  // may be a part of a UTF-8 character
  float logprob = 0;
  struct Alternative {
    TokenId token = 0;
    Text bytes;
    float logprob = 0;
  };
  std::vector<Alternative> top;  // descending
};

// New output of one choice. Events merge: `content` concatenates, the vectors append.
struct TokenEvent {
  int32_t choice = 0;
  int32_t index = 0;                   // output index of tokens[0] within the choice
  Text content;                        // whole UTF-8 characters; never a piece of a stop string
  NewTokens tokens;                    // the tokens whose text is complete with this event
  std::vector<TokenLogprob> logprobs;  // one a token, if asked for
  std::optional<FinishReason> finish;  // set once a choice, on its last event
};

// The answer to one input. Events come in any order of `index`, one an input.
struct VectorEvent {
  int32_t index = 0;          // of the request's inputs
  std::vector<float> values;  // a pair's: one score
};

// The one terminal event of every request, accepted or refused; nothing follows it.
struct End {
  absl::Status status;  // OK: every choice has had its `finish`; else why the rest will not come
  FinishReason reason =
      FinishReason::kStop;  // of the last choice, or kCancelled, kDeadline, kError
  Usage usage;
  absl::Duration retry_after = absl::ZeroDuration();  // with ResourceExhausted and Unavailable
};

// Which stream an event belongs to: chosen by the caller, unique among the live streams of its
// EventQueue.
using StreamTag = uint64_t;
struct StreamEvent {
  StreamTag tag = 0;
  std::variant<Accepted, TokenEvent, VectorEvent, End> event;
};

}  // namespace sluice
