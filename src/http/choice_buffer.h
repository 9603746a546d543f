// Output of one choice on its way into JSON. It is escaped and formatted once, when the event
// arrives; streamed and unstreamed answers are made of the same bytes, cut at different places.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/openai_request.h"
#include "sluice/types.h"

namespace sluice {

class ChoiceBuffer {
 public:
  // What the client asked for.
  struct Form {
    Endpoint endpoint = Endpoint::kChat;
    bool streamed = false;
    bool logprobs = false;
    bool token_ids = false;
  };
  void Add(const Form& form, const TokenEvent& event);

  // The members of a choice that carry output, after "index":
  // `"delta":{...},"logprobs":...,"finish_reason":...` of a chunk, or the same with "message" or
  // "text" of a whole answer.
  void AppendMembers(const Form& form, std::string& out) const;

  // Forgets what was written; offsets go on.
  void Clear();

  [[nodiscard]] bool empty() const {
    return text_.empty() && tokens_.empty() && token_ids_.empty() && !finish_;
  }
  [[nodiscard]] bool finished() const { return finish_.has_value(); }
  [[nodiscard]] int64_t num_tokens() const { return num_tokens_; }  // ever

 private:
  void AddChatLogprob(const TokenLogprob& entry);
  void AddCompletionLogprob(const TokenLogprob& entry);
  void AppendLogprobs(const Form& form, std::string& out) const;

  std::string text_;       // escaped
  std::string token_ids_;  // "1,2,3"
  // Lists without their brackets. Chat: `tokens_` holds objects, the rest is empty.
  std::string tokens_, token_logprobs_, top_logprobs_, text_offsets_;
  std::optional<FinishReason> finish_;
  int64_t num_tokens_ = 0;
  int64_t num_characters_ = 0;  // of all tokens so far, for text_offset
};

}  // namespace sluice
