#include "service/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/errors.h"
#include "base/status_macros.h"

namespace sluice {
namespace {

template <class T>
absl::Status InRange(std::string_view param, T value, T low, T high) {
  if (value >= low && value <= high) return absl::OkStatus();  // NaN fails
  return FieldError(param,
                    fmt::format("{} is {}; it must be between {} and {}", param, value, low, high));
}

absl::StatusOr<float> Real(std::string_view param, const std::optional<double>& value,
                           float fallback, double low, double high) {
  if (!value) return fallback;
  RETURN_IF_ERROR(InRange(param, *value, low, high));
  return static_cast<float>(*value);
}

absl::Status TokenInVocabulary(std::string_view param, int64_t token, const ModelInfo& model) {
  if (token >= 0 && token < model.vocab_size) return absl::OkStatus();
  return FieldError(param, fmt::format("{} names token {}; the vocabulary has tokens 0 to {}",
                                       param, token, model.vocab_size - 1));
}

absl::Status CheckStop(const SamplingOptions& options) {
  if (options.stop.size() > kMaxStopStrings) {
    return FieldError("stop", fmt::format("stop has {} strings; at most {} are allowed",
                                          options.stop.size(), kMaxStopStrings));
  }
  for (const Text& stop : options.stop) {
    if (stop.empty()) return FieldError("stop", "stop has an empty string");
    if (stop.size() > kMaxStopBytes) {
      return FieldError("stop", fmt::format("a stop string has {} bytes; at most {} are allowed",
                                            stop.size(), kMaxStopBytes));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SamplingParams> ResolveSampling(const SamplingOptions& o, const ModelInfo& model,
                                               uint64_t drawn_seed) {
  const GenerationDefaults& defaults = model.generation;
  SamplingParams p;
  ASSIGN_OR_RETURN(p.temperature, Real("temperature", o.temperature, defaults.temperature, 0, 100));
  ASSIGN_OR_RETURN(p.top_p, Real("top_p", o.top_p, defaults.top_p, 0, 1));
  if (p.top_p <= 0) return FieldError("top_p", "top_p is 0; it must be above 0 and at most 1");
  ASSIGN_OR_RETURN(p.min_p, Real("min_p", o.min_p, defaults.min_p, 0, 1));
  ASSIGN_OR_RETURN(p.repetition_penalty, Real("repetition_penalty", o.repetition_penalty,
                                              defaults.repetition_penalty, 0, 100));
  if (p.repetition_penalty <= 0)
    return FieldError("repetition_penalty", "repetition_penalty is 0; it must be above 0");
  ASSIGN_OR_RETURN(p.presence_penalty, Real("presence_penalty", o.presence_penalty, 0, -2, 2));
  ASSIGN_OR_RETURN(p.frequency_penalty, Real("frequency_penalty", o.frequency_penalty, 0, -2, 2));
  const int64_t top_k = o.top_k.value_or(defaults.top_k);
  RETURN_IF_ERROR(InRange<int64_t>("top_k", top_k, -1, 1 << 30));
  p.top_k = top_k <= 0 ? 0 : static_cast<int32_t>(std::min<int64_t>(top_k, model.vocab_size));
  if (o.logit_bias.size() > 1024) {
    return FieldError(
        "logit_bias",
        fmt::format("logit_bias has {} entries; at most 1024 are allowed", o.logit_bias.size()));
  }
  for (const auto& [token, bias] : o.logit_bias) {
    RETURN_IF_ERROR(TokenInVocabulary("logit_bias", token, model));
    RETURN_IF_ERROR(InRange("logit_bias", bias, -100.0, 100.0));
    p.logit_bias.emplace_back(static_cast<TokenId>(token), static_cast<float>(bias));
  }
  if (o.stop_token_ids.size() > 128) {
    return FieldError(
        "stop_token_ids",
        fmt::format("stop_token_ids has {} ids; at most 128 are allowed", o.stop_token_ids.size()));
  }
  for (const int64_t token : o.stop_token_ids) {
    RETURN_IF_ERROR(TokenInVocabulary("stop_token_ids", token, model));
    p.stop_token_ids.push_back(static_cast<TokenId>(token));
  }
  if (!o.ignore_eos)
    p.stop_token_ids.insert(p.stop_token_ids.end(), model.eos_ids.begin(), model.eos_ids.end());
  std::sort(p.stop_token_ids.begin(), p.stop_token_ids.end());
  p.stop_token_ids.erase(std::unique(p.stop_token_ids.begin(), p.stop_token_ids.end()),
                         p.stop_token_ids.end());
  const int64_t min_tokens = o.min_tokens.value_or(0);
  RETURN_IF_ERROR(InRange<int64_t>("min_tokens", min_tokens, 0, model.max_model_len));
  p.min_tokens = static_cast<int32_t>(min_tokens);
  if (min_tokens > 0 && o.max_tokens && min_tokens > *o.max_tokens) {
    return FieldError("min_tokens",
                      fmt::format("min_tokens is {}; max_tokens is {}", min_tokens, *o.max_tokens));
  }
  RETURN_IF_ERROR(InRange<int64_t>("n", o.n, 1, kMaxChoices));
  if (o.num_logprobs) {
    RETURN_IF_ERROR(InRange<int64_t>("top_logprobs", *o.num_logprobs, 0, kMaxTopLogprobs));
    p.num_logprobs = static_cast<int32_t>(*o.num_logprobs);
  }
  RETURN_IF_ERROR(CheckStop(o));
  p.seed = o.seed.value_or(drawn_seed);
  return p;
}

absl::StatusOr<int32_t> ResolveMaxOutputTokens(const GenerateRequest& request,
                                               const ModelInfo& model, int64_t num_prompt_tokens) {
  constexpr std::string_view kOverflow = "context_length_exceeded";
  const int64_t limit = model.max_model_len;
  if (num_prompt_tokens >= limit) {
    return FieldError(
        "messages",
        fmt::format("prompt has {} tokens; the model allows {} with at least one output token",
                    num_prompt_tokens, limit),
        kOverflow);
  }
  const int64_t rest = limit - num_prompt_tokens;
  const auto resumed = static_cast<int64_t>(request.resume_output_tokens.size());
  int64_t max_tokens = rest;
  if (request.sampling.max_tokens) {
    max_tokens = *request.sampling.max_tokens;
    if (max_tokens < 1)
      return FieldError("max_tokens",
                        fmt::format("max_tokens is {}; it must be at least 1", max_tokens));
    if (max_tokens > rest) {
      return FieldError(
          "max_tokens",
          fmt::format("prompt has {} tokens and max_tokens is {}; the model allows {} together",
                      num_prompt_tokens, max_tokens, limit),
          kOverflow);
    }
  } else if (request.default_max_tokens > 0) {
    max_tokens = std::min<int64_t>(rest, request.default_max_tokens);
  }
  if (resumed >= max_tokens) {
    return FieldError(
        "resume_output_tokens",
        fmt::format("resume_output_tokens has {} tokens; max_tokens is {}", resumed, max_tokens));
  }
  return static_cast<int32_t>(max_tokens);
}

}  // namespace sluice
