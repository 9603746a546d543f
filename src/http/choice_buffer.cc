#include "http/choice_buffer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "http/json_text.h"

namespace sluice {
namespace {

void AppendSeparator(std::string& list) {
  if (!list.empty()) list += ',';
}

void AppendByteList(std::string& out, std::string_view bytes) {
  out += '[';
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonInteger(out, static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

// `"token":"..","logprob":..,"bytes":[..]`
void AppendTokenMembers(std::string& out, const Text& bytes, float logprob) {
  out += "\"token\":";
  AppendJsonString(out, bytes.Reveal());
  out += ",\"logprob\":";
  AppendJsonFloat(out, logprob);
  out += ",\"bytes\":";
  AppendByteList(out, bytes.Reveal());
}

// A token's text as a completion's logprobs name it: parts of characters as "bytes:\xe2\x80", so
// that they stay apart.
void AppendTokenName(std::string& out, const Text& bytes) {
  const std::string& raw = bytes.Reveal();
  if (IsValidUtf8(raw)) {
    AppendJsonString(out, raw);
    return;
  }
  out += "\"bytes:";
  for (const char c : raw) out += fmt::format("\\\\x{:02x}", static_cast<unsigned char>(c));
  out += '"';
}

int64_t CountCharacters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

// OpenAI knows no other reasons; how else a choice ended is told by the error that follows.
bool IsOpenAiReason(FinishReason reason) {
  return reason == FinishReason::kStop || reason == FinishReason::kLength ||
         reason == FinishReason::kToolCalls;
}

}  // namespace

void ChoiceBuffer::Add(const Form& form, const TokenEvent& event) {
  AppendJsonEscaped(text_, event.content.Reveal());
  for (size_t i = 0; form.token_ids && i < event.tokens.size(); ++i) {
    AppendSeparator(token_ids_);
    AppendJsonInteger(token_ids_, event.tokens[i]);
  }
  num_tokens_ += static_cast<int64_t>(event.tokens.size());
  for (size_t i = 0; form.logprobs && i < event.logprobs.size(); ++i) {
    const TokenLogprob& entry = event.logprobs[i];
    if (form.endpoint == Endpoint::kChat) {
      AddChatLogprob(entry);
    } else {
      AddCompletionLogprob(entry);
    }
  }
  if (event.finish && IsOpenAiReason(*event.finish)) finish_ = event.finish;
}

void ChoiceBuffer::AddChatLogprob(const TokenLogprob& entry) {
  AppendSeparator(tokens_);
  tokens_ += '{';
  AppendTokenMembers(tokens_, entry.bytes, entry.logprob);
  tokens_ += ",\"top_logprobs\":[";
  for (size_t i = 0; i < entry.top.size(); ++i) {
    tokens_ += i > 0 ? ",{" : "{";
    AppendTokenMembers(tokens_, entry.top[i].bytes, entry.top[i].logprob);
    tokens_ += '}';
  }
  tokens_ += "]}";
}

void ChoiceBuffer::AddCompletionLogprob(const TokenLogprob& entry) {
  AppendSeparator(tokens_);
  AppendTokenName(tokens_, entry.bytes);
  AppendSeparator(token_logprobs_);
  AppendJsonFloat(token_logprobs_, entry.logprob);
  AppendSeparator(text_offsets_);
  AppendJsonInteger(text_offsets_, num_characters_);
  num_characters_ += CountCharacters(entry.bytes.Reveal());
  AppendSeparator(top_logprobs_);
  top_logprobs_ += '{';
  bool has_chosen = false;
  const auto append = [&](const Text& bytes, float logprob) {
    if (top_logprobs_.back() != '{') top_logprobs_ += ',';
    AppendTokenName(top_logprobs_, bytes);
    top_logprobs_ += ':';
    AppendJsonFloat(top_logprobs_, logprob);
  };
  for (const TokenLogprob::Alternative& alternative : entry.top) {
    has_chosen |= alternative.token == entry.token;
    append(alternative.bytes, alternative.logprob);
  }
  if (!has_chosen) append(entry.bytes, entry.logprob);
  top_logprobs_ += '}';
}

void ChoiceBuffer::AppendLogprobs(const Form& form, std::string& out) const {
  out += ",\"logprobs\":";
  if (!form.logprobs) {
    out += "null";
  } else if (form.endpoint == Endpoint::kChat) {
    out.append("{\"content\":[").append(tokens_).append("],\"refusal\":null}");
  } else {
    out.append("{\"tokens\":[").append(tokens_);
    out.append("],\"token_logprobs\":[").append(token_logprobs_);
    out.append("],\"top_logprobs\":[").append(top_logprobs_);
    out.append("],\"text_offset\":[").append(text_offsets_).append("]}");
  }
}

void ChoiceBuffer::AppendMembers(const Form& form, std::string& out) const {
  if (form.endpoint == Endpoint::kCompletion) {
    out.append("\"text\":\"").append(text_).append("\"");
  } else if (form.streamed) {
    // An empty delta is how a chunk says that it brings only the reason.
    out += text_.empty() && finish_ ? "\"delta\":{" : "\"delta\":{\"content\":\"";
    if (!text_.empty() || !finish_) out.append(text_).append("\"");
    out += '}';
  } else {
    out.append(R"("message":{"role":"assistant","content":")")
        .append(text_)
        .append(R"(","refusal":null})");
  }
  AppendLogprobs(form, out);
  if (form.token_ids) out.append(",\"token_ids\":[").append(token_ids_).append("]");
  out += ",\"finish_reason\":";
  if (finish_) {
    out.append("\"").append(FinishReasonName(*finish_)).append("\"");
  } else {
    out += "null";
  }
}

void ChoiceBuffer::Clear() {
  text_.clear();
  token_ids_.clear();
  tokens_.clear();
  token_logprobs_.clear();
  top_logprobs_.clear();
  text_offsets_.clear();
  finish_.reset();
}

}  // namespace sluice
