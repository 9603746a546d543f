#include "http/openai_unsupported.h"

#include <fmt/format.h>

#include <string_view>

namespace sluice {
namespace {

namespace json = boost::json;

// When a field's value means "not used", so that it may be there.
enum class Harmless : uint8_t { kNothing, kFalse, kTrue, kEmpty, kNone, kText };

struct Feature {
  std::string_view field;
  std::string_view what;
  Harmless harmless;
};

constexpr Feature kBoth[] = {
    {"echo", "echo", Harmless::kFalse},
    {"use_beam_search", "beam search", Harmless::kFalse},
    {"prompt_logprobs", "prompt_logprobs", Harmless::kNothing},
    {"truncate_prompt_tokens", "truncating prompts", Harmless::kNothing},
    {"guided_json", "structured output", Harmless::kNothing},
    {"guided_regex", "structured output", Harmless::kNothing},
    {"guided_choice", "structured output", Harmless::kNothing},
    {"guided_grammar", "structured output", Harmless::kNothing},
    {"structured_outputs", "structured output", Harmless::kNothing},
    {"logits_processors", "logits_processors", Harmless::kEmpty},
    {"allowed_token_ids", "allowed_token_ids", Harmless::kEmpty},
    {"bad_words", "bad_words", Harmless::kEmpty},
};
constexpr Feature kChat[] = {
    {"tools", "calling tools", Harmless::kEmpty},
    {"functions", "calling functions", Harmless::kEmpty},
    {"tool_choice", "calling tools", Harmless::kNone},
    {"function_call", "calling functions", Harmless::kNone},
    {"audio", "audio output", Harmless::kNothing},
    {"prediction", "predicted output", Harmless::kNothing},
    {"web_search_options", "web search", Harmless::kNothing},
    {"chat_template", "a chat template in the request", Harmless::kNothing},
    {"chat_template_kwargs", "chat_template_kwargs", Harmless::kEmpty},
    {"continue_final_message", "continuing the last message", Harmless::kFalse},
    {"documents", "documents", Harmless::kEmpty},
};
constexpr Feature kCompletion[] = {
    {"suffix", "suffix", Harmless::kEmpty},
    {"add_special_tokens", "leaving out special tokens", Harmless::kTrue},
    {"prompt_embeds", "prompt_embeds", Harmless::kNothing},
};
constexpr Feature kMessage[] = {
    {"tool_calls", "calling tools", Harmless::kEmpty},
    {"function_call", "calling functions", Harmless::kNothing},
    {"audio", "audio", Harmless::kNothing},
};

bool IsHarmless(const json::value& value, Harmless harmless) {
  switch (harmless) {
    case Harmless::kNothing:
      return false;
    case Harmless::kFalse:
      return value.is_bool() && !value.get_bool();
    case Harmless::kTrue:
      return value.is_bool() && value.get_bool();
    case Harmless::kNone:
      return value.is_string() && value.get_string() == "none";
    case Harmless::kText:
      return value.is_string() && value.get_string() == "text";
    case Harmless::kEmpty:
      return (value.is_array() && value.get_array().empty()) ||
             (value.is_object() && value.get_object().empty()) ||
             (value.is_string() && value.get_string().empty());
  }
  return false;
}

template <size_t N>
void Refuse(const Feature (&features)[N], JsonFields& fields) {
  for (const Feature& feature : features) {
    const json::value* value = fields.Find(feature.field);
    if (value != nullptr && !IsHarmless(*value, feature.harmless)) {
      fields.RefuseUnsupported(feature.field, feature.what);
    }
  }
}

void RefuseResponseFormat(JsonFields& fields) {
  const json::object* object = fields.Object("response_format");
  if (object == nullptr) return;
  JsonFields format(*object, "response_format.");
  const json::string* type = format.String("type");
  if (format.ok() && type == nullptr) {
    format.Refuse("type", "response_format.type is required");
  } else if (format.ok() && *type != "text") {
    fields.RefuseUnsupported("response_format", "a response_format other than text");
  }
  fields.Fail(format.status());
}

void RefuseModalities(JsonFields& fields) {
  const json::array* modalities = fields.Array("modalities");
  if (modalities == nullptr) return;
  for (const json::value& item : *modalities) {
    if (!IsHarmless(item, Harmless::kText))
      fields.RefuseUnsupported("modalities", "a modality other than text");
  }
}

}  // namespace

void RefuseUnsupportedFields(Endpoint endpoint, int64_t num_choices, JsonFields& fields) {
  Refuse(kBoth, fields);
  RefuseResponseFormat(fields);
  if (endpoint == Endpoint::kChat) {
    Refuse(kChat, fields);
    RefuseModalities(fields);
    return;
  }
  Refuse(kCompletion, fields);
  const std::optional<int64_t> best_of = fields.Integer("best_of");
  if (best_of && *best_of != num_choices) {
    fields.RefuseUnsupported("best_of", fmt::format("best_of {} with n {}", *best_of, num_choices));
  }
}

void RefuseUnsupportedMessageFields(JsonFields& message) { Refuse(kMessage, message); }

}  // namespace sluice
