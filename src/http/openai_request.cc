#include "http/openai_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/errors.h"
#include "http/json_fields.h"
#include "http/openai_unsupported.h"

namespace sluice {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxTokenId = std::numeric_limits<TokenId>::max();

std::string ToString(const json::string& s) { return {s.data(), s.size()}; }

// [1, 2, 3] of token ids. Refused under `name`.
std::vector<TokenId> ReadTokenIds(const json::array& array, std::string_view name,
                                  JsonFields& fields) {
  std::vector<TokenId> ids;
  ids.reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    const std::optional<int64_t> id = AsInteger(array[i]);
    if (!id || *id < 0 || *id > kMaxTokenId) {
      fields.Refuse(name, fmt::format("{}[{}] is not a token id", fields.Path(name), i));
      return {};
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

void ReadModel(JsonFields& fields, std::string& model) {
  const json::string* name = fields.String("model");
  if (name == nullptr || name->empty()) {
    fields.Refuse("model", "model is required");
    return;
  }
  model = ToString(*name);
}

// The tokenizer routes are no OpenAI's; their clients may leave the model out.
void ReadModelOrDefault(JsonFields& fields, std::string& model) {
  const json::string* name = fields.String("model");
  model = name == nullptr ? "default" : ToString(*name);
}

// A message's content: a string, or parts of type "text", which are joined.
Text ReadContent(const json::object& message, JsonFields& fields) {
  const json::value* content = fields.Find("content");
  if (content == nullptr) {
    fields.Refuse("content", fmt::format("{} is required", fields.Path("content")));
    return {};
  }
  if (content->is_string()) return Text(ToString(content->get_string()));
  if (!content->is_array()) {
    fields.Refuse("content",
                  fmt::format("{} must be a string or an array of parts", fields.Path("content")));
    return {};
  }
  std::string joined;
  const json::array& parts = message.at("content").get_array();
  for (size_t i = 0; i < parts.size() && fields.ok(); ++i) {
    const std::string name = fmt::format("content[{}]", i);
    if (!parts[i].is_object()) {
      fields.Refuse(name, fmt::format("{} must be an object", fields.Path(name)));
      break;
    }
    JsonFields part(parts[i].get_object(), fields.Path(name) + ".");
    const json::string* type = part.String("type");
    if (part.ok() && (type == nullptr || *type != "text")) {
      part.Refuse("type", fmt::format("{} must be \"text\": other content is not supported",
                                      part.Path("type")));
    }
    const json::string* text = part.ok() ? part.String("text") : nullptr;
    if (part.ok() && text == nullptr)
      part.Refuse("text", fmt::format("{} is required", part.Path("text")));
    fields.Fail(part.status());
    if (text != nullptr) joined.append(text->data(), text->size());
  }
  return Text(std::move(joined));
}

ChatMessage ReadMessage(const json::object& object, JsonFields& fields) {
  ChatMessage message;
  const json::string* role = fields.String("role");
  if (role == nullptr) {
    fields.Refuse("role", fmt::format("{} is required", fields.Path("role")));
    return message;
  }
  if (*role == "system" || *role == "developer") {
    message.role = "system";  // OpenAI's newer name of the same thing; templates know the older
  } else if (*role == "user" || *role == "assistant") {
    message.role = ToString(*role);
  } else {
    fields.Refuse("role", fmt::format("{} must be system, developer, user or assistant",
                                      fields.Path("role")));
  }
  RefuseUnsupportedMessageFields(fields);
  message.content = ReadContent(object, fields);
  return message;
}

std::vector<ChatMessage> ReadMessages(JsonFields& fields) {
  const json::array* array = fields.Array("messages");
  if (array == nullptr || array->empty()) {
    fields.Refuse("messages", "messages must be an array of at least one message");
    return {};
  }
  std::vector<ChatMessage> messages;
  messages.reserve(array->size());
  for (size_t i = 0; i < array->size() && fields.ok(); ++i) {
    const std::string name = fmt::format("messages[{}]", i);
    const json::object* object = (*array)[i].if_object();
    if (object == nullptr) {
      fields.Refuse(name, fmt::format("{} must be an object", name));
      break;
    }
    JsonFields message(*object, name + ".");
    messages.push_back(ReadMessage(*object, message));
    fields.Fail(message.status());
  }
  return messages;
}

// A string, token ids, or a list of exactly one of these.
void ReadPrompt(JsonFields& fields, GenerateRequest& request) {
  const json::value* prompt = fields.Find("prompt");
  if (prompt == nullptr) {
    fields.Refuse("prompt", "prompt is required");
    return;
  }
  const json::array* array = prompt->if_array();
  const bool nested = array != nullptr && !array->empty() &&
                      (array->front().is_string() || array->front().is_array());
  if (nested && array->size() > 1) {
    fields.Refuse("prompt",
                  fmt::format("prompt holds {} prompts; one a request is supported", array->size()),
                  "not_implemented");
    return;
  }
  if (nested) {
    prompt = &array->front();
    array = prompt->if_array();
  }
  if (prompt->is_string()) {
    request.prompt = Text(ToString(prompt->get_string()));
  } else if (array != nullptr && !array->empty()) {
    request.prompt = ReadTokenIds(*array, "prompt", fields);
  } else {
    fields.Refuse("prompt", "prompt must be a string or a list of token ids, not empty");
  }
}

void ReadStop(JsonFields& fields, SamplingOptions& sampling) {
  const json::value* stop = fields.Find("stop");
  if (stop == nullptr) return;
  if (stop->is_string()) {
    sampling.stop.emplace_back(ToString(stop->get_string()));
    return;
  }
  const json::array* array = fields.Array("stop");
  if (array == nullptr) return;
  if (array->size() > kMaxStopStrings) {
    fields.Refuse("stop", fmt::format("stop has {} strings; at most {} are allowed", array->size(),
                                      kMaxStopStrings));
    return;
  }
  for (const json::value& item : *array) {
    if (!item.is_string()) {
      fields.Refuse("stop", "stop must be a string or an array of strings");
      return;
    }
    sampling.stop.emplace_back(ToString(item.get_string()));
  }
}

void ReadLogitBias(JsonFields& fields, SamplingOptions& sampling) {
  const json::object* object = fields.Object("logit_bias");
  if (object == nullptr) return;
  JsonFields values(*object, "logit_bias.");
  for (const auto& entry : *object) {
    const json::string_view key = entry.key();
    int64_t token = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || token < 0 ||
        token > kMaxTokenId) {
      fields.Refuse("logit_bias", "logit_bias has a key that is not a token id");
      return;
    }
    const std::optional<double> bias = values.Number(key);
    if (!bias) {
      fields.Refuse("logit_bias", fmt::format("logit_bias of token {} must be a number", token));
      return;
    }
    sampling.logit_bias[token] = *bias;
  }
}

// Any 64 bits; a negative seed (OpenAI's are signed) counts by its bits.
void ReadSeed(JsonFields& fields, SamplingOptions& sampling) {
  const json::value* seed = fields.Find("seed");
  if (seed == nullptr) return;
  if (seed->is_uint64()) {
    sampling.seed = seed->get_uint64();
  } else if (const std::optional<int64_t> number = fields.Integer("seed")) {
    sampling.seed = static_cast<uint64_t>(*number);
  }
}

void ReadMaxTokens(JsonFields& fields, OpenAiRequest& request) {
  SamplingOptions& sampling = request.generate.sampling;
  sampling.max_tokens = fields.Integer("max_tokens");
  if (request.endpoint != Endpoint::kChat) return;
  const std::optional<int64_t> newer = fields.Integer("max_completion_tokens");
  if (!newer) return;
  if (sampling.max_tokens && *sampling.max_tokens != *newer) {
    fields.Refuse("max_completion_tokens",
                  "max_tokens and max_completion_tokens differ; give one of them");
  }
  sampling.max_tokens = newer;
  request.max_tokens_name = "max_completion_tokens";
}

void ReadLogprobs(JsonFields& fields, OpenAiRequest& request) {
  SamplingOptions& sampling = request.generate.sampling;
  if (request.endpoint == Endpoint::kCompletion) {
    sampling.num_logprobs = fields.IntegerIn("logprobs", 0, kMaxLogprobs);
    return;
  }
  const bool wanted = fields.Boolean("logprobs").value_or(false);
  const std::optional<int64_t> top = fields.IntegerIn("top_logprobs", 0, kMaxLogprobs);
  if (top && !wanted) fields.Refuse("top_logprobs", "top_logprobs needs logprobs to be true");
  if (wanted) sampling.num_logprobs = top.value_or(0);
}

void ReadSampling(JsonFields& fields, OpenAiRequest& request) {
  SamplingOptions& sampling = request.generate.sampling;
  sampling.temperature = fields.Number("temperature");
  sampling.top_p = fields.Number("top_p");
  sampling.top_k = fields.Integer("top_k");
  sampling.min_p = fields.Number("min_p");
  sampling.repetition_penalty = fields.Number("repetition_penalty");
  sampling.presence_penalty = fields.Number("presence_penalty");
  sampling.frequency_penalty = fields.Number("frequency_penalty");
  sampling.min_tokens = fields.Integer("min_tokens");
  sampling.n = fields.IntegerIn("n", 1, kMaxChoices).value_or(1);
  sampling.ignore_eos = fields.Boolean("ignore_eos").value_or(false);
  if (const json::array* ids = fields.Array("stop_token_ids")) {
    for (const TokenId id : ReadTokenIds(*ids, "stop_token_ids", fields))
      sampling.stop_token_ids.push_back(id);
  }
  ReadMaxTokens(fields, request);
  ReadStop(fields, sampling);
  ReadLogitBias(fields, sampling);
  ReadSeed(fields, sampling);
  ReadLogprobs(fields, request);
}

void ReadStreaming(JsonFields& fields, OpenAiRequest& request) {
  request.stream = fields.Boolean("stream").value_or(false);
  const json::object* object = fields.Object("stream_options");
  if (object == nullptr) return;
  if (!request.stream) {
    fields.Refuse("stream_options", "stream_options needs stream to be true");
    return;
  }
  JsonFields options(*object, "stream_options.");
  request.include_usage = options.Boolean("include_usage").value_or(false);
  request.continuous_usage =
      options.Boolean("continuous_usage_stats").value_or(false) && request.include_usage;
  fields.Fail(options.status());
}

void ReadRequestId(JsonFields& fields, GenerateRequest& request) {
  const json::string* id = fields.String("request_id");
  if (id == nullptr) return;
  request.request_id = ToString(*id);
  if (!IsValidId(request.request_id)) {
    fields.Refuse("request_id", fmt::format("request_id must be 1 to {} visible ASCII characters",
                                            kMaxRequestIdBytes));
  }
}

}  // namespace

bool IsValidId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

absl::StatusOr<OpenAiRequest> ParseGenerate(Endpoint endpoint, std::string_view body,
                                            int max_json_depth) {
  OpenAiRequest request;
  request.endpoint = endpoint;
  const auto read = [&](const json::object& object) {
    GenerateRequest& generate = request.generate;
    JsonFields fields(object);
    ReadModel(fields, generate.model);
    if (endpoint == Endpoint::kChat) {
      generate.parse_special = false;
      generate.prompt = ReadMessages(fields);
      generate.add_generation_prompt = fields.Boolean("add_generation_prompt").value_or(true);
    } else {
      generate.default_max_tokens = 16;
      ReadPrompt(fields, generate);
      generate.parse_special = fields.Boolean("parse_special").value_or(true);
    }
    ReadSampling(fields, request);
    ReadStreaming(fields, request);
    generate.skip_special_tokens = fields.Boolean("skip_special_tokens").value_or(true);
    generate.include_stop_str_in_output =
        fields.Boolean("include_stop_str_in_output").value_or(false);
    constexpr int32_t kMaxPriority = std::numeric_limits<int32_t>::max();
    generate.priority =
        static_cast<int32_t>(fields.IntegerIn("priority", -kMaxPriority, kMaxPriority).value_or(0));
    generate.stream_interval = fields.Integer("stream_interval").value_or(1);
    request.return_token_ids = fields.Boolean("return_token_ids").value_or(false);
    ReadRequestId(fields, generate);
    RefuseUnsupportedFields(endpoint, request.generate.sampling.n, fields);
    return fields.status();
  };
  absl::Status status = ReadJsonObject(body, max_json_depth, read);
  if (!status.ok()) return status;
  return request;
}

absl::StatusOr<OpenAiTokenize> ParseTokenize(std::string_view body, int max_json_depth) {
  OpenAiTokenize result;
  const auto read = [&](const json::object& object) {
    JsonFields fields(object);
    TokenizeRequest& request = result.request;
    ReadModelOrDefault(fields, request.model);
    const bool chat = fields.Find("messages") != nullptr;
    if (chat) {
      if (fields.Find("prompt") != nullptr)
        fields.Refuse("prompt", "give either prompt or messages, not both");
      request.prompt = ReadMessages(fields);
      request.add_generation_prompt = fields.Boolean("add_generation_prompt").value_or(true);
    } else if (const json::string* prompt = fields.String("prompt")) {
      request.prompt = Text(ToString(*prompt));
    } else {
      fields.Refuse("prompt", "prompt or messages is required");
    }
    request.parse_special = fields.Boolean("parse_special").value_or(true);
    request.add_special_tokens = fields.Boolean("add_special_tokens").value_or(!chat);
    result.return_token_strs = fields.Boolean("return_token_strs").value_or(false);
    return fields.status();
  };
  absl::Status status = ReadJsonObject(body, max_json_depth, read);
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<OpenAiDetokenize> ParseDetokenize(std::string_view body, int max_json_depth) {
  OpenAiDetokenize result;
  const auto read = [&](const json::object& object) {
    JsonFields fields(object);
    ReadModelOrDefault(fields, result.model);
    const json::array* tokens = fields.Array("tokens");
    if (tokens == nullptr) {
      fields.Refuse("tokens", "tokens is required");
    } else {
      result.tokens = ReadTokenIds(*tokens, "tokens", fields);
    }
    return fields.status();
  };
  absl::Status status = ReadJsonObject(body, max_json_depth, read);
  if (!status.ok()) return status;
  return result;
}

absl::Status RenameParam(const absl::Status& status, const OpenAiRequest& request) {
  const std::string param = ErrorParam(status);
  if (param == "max_tokens") return WithParam(status, request.max_tokens_name);
  if (param == "messages" && request.endpoint == Endpoint::kCompletion) {
    return WithParam(status, "prompt");
  }
  if (param == "num_logprobs") {
    return WithParam(status, request.endpoint == Endpoint::kChat ? "top_logprobs" : "logprobs");
  }
  return status;
}

}  // namespace sluice
