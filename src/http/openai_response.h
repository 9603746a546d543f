// OpenAI's answers: whole ones, streamed ones, lists and errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "http/choice_buffer.h"
#include "http/openai_request.h"
#include "sluice/service.h"
#include "sluice/types.h"

namespace sluice {

// What every chunk of an answer repeats.
struct AnswerFacts {
  Endpoint endpoint = Endpoint::kChat;
  std::string id;  // "chatcmpl-..." or "cmpl-..."
  int64_t created = 0;
  std::string model;  // the model's own name
  std::string system_fingerprint;
  int64_t num_choices = 1;
  bool logprobs = false;
  bool token_ids = false;
  bool include_usage = false;
  bool continuous_usage = false;
  int64_t prompt_tokens = 0;
};

// An answer that is being made. What came since the last Take waits here, one text a choice,
// however many events it were: that is how a slow client gets fewer and larger chunks. Bounded by
// the tokens the request may make.
class StreamedAnswer {
 public:
  // Takes effect once: the constant parts are escaped here.
  void Start(const AnswerFacts& facts);

  // SSE events that open the answer: in chat, the role of each choice.
  void AppendOpening(std::string& out) const;
  void Add(const TokenEvent& event);
  // Appends one SSE event for each choice that has something new.
  void Take(std::string& out);
  // The last events: usage if asked for, or the error; then [DONE].
  void AppendEnd(const Usage& usage, std::string& out) const;
  void AppendError(const absl::Status& status, std::string& out) const;
  [[nodiscard]] bool has_pending() const { return !dirty_.empty(); }

 private:
  void AppendUsageMember(std::string& out) const;

  AnswerFacts facts_;
  std::string head_;  // `data: {"id":...,"choices":[{"index":`
  std::vector<ChoiceBuffer> choices_;
  std::vector<size_t> dirty_;  // choices with something new, in order of arrival
};

// A whole answer, collected.
class WholeAnswer {
 public:
  void Start(const AnswerFacts& facts);
  void Add(const TokenEvent& event);
  [[nodiscard]] std::string Json(const Usage& usage) const;

 private:
  AnswerFacts facts_;
  std::vector<ChoiceBuffer> choices_;
};

[[nodiscard]] std::string ErrorJson(const absl::Status& status);
[[nodiscard]] std::string ModelListJson(const std::vector<ModelDescription>& models);
[[nodiscard]] std::string ModelJson(const ModelDescription& model);
[[nodiscard]] std::string TokenizeJson(const TokenizeResult& result, bool token_strs);
[[nodiscard]] std::string DetokenizeJson(const Text& text);

}  // namespace sluice
