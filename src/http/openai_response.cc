#include "http/openai_response.h"

#include <fmt/format.h>

#include "base/errors.h"
#include "http/json_text.h"

namespace sluice {
namespace {

std::string_view ObjectName(Endpoint endpoint, bool streamed) {
  if (endpoint == Endpoint::kCompletion) return "text_completion";
  return streamed ? "chat.completion.chunk" : "chat.completion";
}

// `{"id":..,"object":..,"created":..,"model":..,"system_fingerprint":..`
std::string ObjectHead(const AnswerFacts& facts, bool streamed) {
  std::string out = "{\"id\":";
  AppendJsonString(out, facts.id);
  out.append(",\"object\":\"")
      .append(ObjectName(facts.endpoint, streamed))
      .append("\",\"created\":");
  AppendJsonInteger(out, facts.created);
  out += ",\"model\":";
  AppendJsonString(out, facts.model);
  out += ",\"system_fingerprint\":";
  AppendJsonString(out, facts.system_fingerprint);
  return out;
}

void AppendUsage(const Usage& usage, std::string& out) {
  out += "\"usage\":{\"prompt_tokens\":";
  AppendJsonInteger(out, usage.prompt_tokens);
  out += ",\"completion_tokens\":";
  AppendJsonInteger(out, usage.output_tokens);
  out += ",\"total_tokens\":";
  AppendJsonInteger(out, usage.prompt_tokens + usage.output_tokens);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  AppendJsonInteger(out, usage.cached_tokens);
  out += "}}";
}

ChoiceBuffer::Form FormOf(const AnswerFacts& facts, bool streamed) {
  return {facts.endpoint, streamed, facts.logprobs, facts.token_ids};
}

constexpr std::string_view kDone = "data: [DONE]\n\n";

}  // namespace

void StreamedAnswer::Start(const AnswerFacts& facts) {
  facts_ = facts;
  choices_.resize(static_cast<size_t>(facts.num_choices));
  head_ = "data: " + ObjectHead(facts, true) + ",\"choices\":[{\"index\":";
}

void StreamedAnswer::AppendUsageMember(std::string& out) const {
  if (!facts_.include_usage) return;
  out += ',';
  if (!facts_.continuous_usage) {
    out += "\"usage\":null";
    return;
  }
  Usage usage;
  usage.prompt_tokens = facts_.prompt_tokens;
  for (const ChoiceBuffer& choice : choices_) usage.output_tokens += choice.num_tokens();
  AppendUsage(usage, out);
}

void StreamedAnswer::AppendOpening(std::string& out) const {
  if (facts_.endpoint != Endpoint::kChat) return;
  for (int64_t i = 0; i < facts_.num_choices; ++i) {
    out += head_;
    AppendJsonInteger(out, i);
    out += R"(,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}])";
    AppendUsageMember(out);
    out += "}\n\n";
  }
}

void StreamedAnswer::Add(const TokenEvent& event) {
  const auto index = static_cast<size_t>(event.choice);
  if (index >= choices_.size()) return;
  ChoiceBuffer& choice = choices_[index];
  const bool was_empty = choice.empty();
  choice.Add(FormOf(facts_, true), event);
  if (was_empty && !choice.empty()) dirty_.push_back(index);
}

void StreamedAnswer::Take(std::string& out) {
  const ChoiceBuffer::Form form = FormOf(facts_, true);
  for (const size_t index : dirty_) {
    ChoiceBuffer& choice = choices_[index];
    out += head_;
    AppendJsonInteger(out, static_cast<int64_t>(index));
    out += ',';
    choice.AppendMembers(form, out);
    out += "}]";
    AppendUsageMember(out);
    out += "}\n\n";
    choice.Clear();
  }
  dirty_.clear();
}

void StreamedAnswer::AppendEnd(const Usage& usage, std::string& out) const {
  if (facts_.include_usage) {
    out.append("data: ").append(ObjectHead(facts_, true)).append(",\"choices\":[],");
    AppendUsage(usage, out);
    out += "}\n\n";
  }
  out += kDone;
}

void StreamedAnswer::AppendError(const absl::Status& status, std::string& out) const {
  out.append("data: ").append(ErrorJson(status)).append("\n\n").append(kDone);
}

void WholeAnswer::Start(const AnswerFacts& facts) {
  facts_ = facts;
  choices_.resize(static_cast<size_t>(facts.num_choices));
}

void WholeAnswer::Add(const TokenEvent& event) {
  const auto index = static_cast<size_t>(event.choice);
  if (index < choices_.size()) choices_[index].Add(FormOf(facts_, false), event);
}

std::string WholeAnswer::Json(const Usage& usage) const {
  const ChoiceBuffer::Form form = FormOf(facts_, false);
  std::string out = ObjectHead(facts_, false) + ",\"choices\":[";
  for (size_t i = 0; i < choices_.size(); ++i) {
    out += i > 0 ? ",{\"index\":" : "{\"index\":";
    AppendJsonInteger(out, static_cast<int64_t>(i));
    out += ',';
    choices_[i].AppendMembers(form, out);
    out += '}';
  }
  out += "],";
  AppendUsage(usage, out);
  out += '}';
  return out;
}

std::string ErrorJson(const absl::Status& status) {
  const std::string param = ErrorParam(status);
  const std::string code = ErrorCode(status);
  const absl::string_view message = status.message();
  std::string out = "{\"error\":{\"message\":";
  AppendJsonString(out, {message.data(), message.size()});
  out += ",\"type\":";
  AppendJsonString(out, ToWireError(status).type);
  out.append(",\"param\":").append(param.empty() ? "null" : JsonString(param));
  out.append(",\"code\":").append(code.empty() ? "null" : JsonString(code));
  out += "}}";
  return out;
}

std::string ModelJson(const ModelDescription& model) {
  std::string out = "{\"id\":";
  AppendJsonString(out, model.id);
  out += ",\"object\":\"model\",\"created\":";
  AppendJsonInteger(out, model.created);
  out += ",\"owned_by\":\"sluice\",\"aliases\":[";
  for (size_t i = 0; i < model.aliases.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonString(out, model.aliases[i]);
  }
  out += "],\"architecture\":";
  AppendJsonString(out, model.architecture);
  out += ",\"max_model_len\":";
  AppendJsonInteger(out, model.max_model_len);
  out += '}';
  return out;
}

std::string ModelListJson(const std::vector<ModelDescription>& models) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  for (size_t i = 0; i < models.size(); ++i) {
    if (i > 0) out += ',';
    out += ModelJson(models[i]);
  }
  out += "]}";
  return out;
}

std::string TokenizeJson(const TokenizeResult& result, bool token_strs) {
  std::string out = "{\"count\":";
  AppendJsonInteger(out, static_cast<int64_t>(result.tokens.size()));
  out += ",\"max_model_len\":";
  AppendJsonInteger(out, result.max_model_len);
  out += ",\"tokens\":[";
  for (size_t i = 0; i < result.tokens.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonInteger(out, result.tokens[i]);
  }
  out += "],\"token_strs\":";
  if (!token_strs) {
    out += "null}";
    return out;
  }
  for (size_t i = 0; i < result.token_bytes.size(); ++i) {
    out += i > 0 ? ',' : '[';
    AppendJsonString(out, result.token_bytes[i].Reveal());
  }
  out += result.token_bytes.empty() ? "[]}" : "]}";
  return out;
}

std::string DetokenizeJson(const Text& text) {
  std::string out = "{\"prompt\":";
  AppendJsonString(out, text.Reveal());
  out += '}';
  return out;
}

}  // namespace sluice
