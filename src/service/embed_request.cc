#include "service/embed_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/errors.h"
#include "base/status_macros.h"

namespace sluice {
namespace {

constexpr char kWrongTask[] = "model_task";

// Makes the inputs of one request.
class InputMaker {
 public:
  // max_tokens: what is beyond is cut off.
  InputMaker(const ModelInfo& model, const Tokenizer& tokenizer, size_t max_tokens)
      : model_(model), tokenizer_(tokenizer), max_tokens_(max_tokens) {}

  // With the special tokens around one text, or two, as the model was trained with them.
  [[nodiscard]] PooledInput Encode(const Text& first, const Text* second) const {
    EncodedTexts encoded = tokenizer_.EncodeTexts(first, second, max_tokens_);
    PooledInput input{std::move(encoded.tokens), 0};
    const auto it = std::ranges::find_if(encoded.type_ids, [](uint8_t type) { return type != 0; });
    if (it != encoded.type_ids.end())
      input.second_begin = static_cast<int32_t>(it - encoded.type_ids.begin());
    return input;
  }

  [[nodiscard]] std::vector<TokenId> Cut(std::vector<TokenId> tokens) const {
    tokens.resize(std::min(tokens.size(), max_tokens_));
    return tokens;
  }

  [[nodiscard]] absl::Status Check(const PooledInput& input, size_t index) const {
    if (input.tokens.empty())
      return FieldError("input",
                        fmt::format("input {} has no tokens; it needs at least one", index));
    for (const TokenId token : input.tokens) {
      if (token < 0 || token >= model_.vocab_size) {
        return FieldError(
            "input", fmt::format("input {} has token {}; the vocabulary has tokens 0 to {}", index,
                                 token, model_.vocab_size - 1));
      }
    }
    if (input.tokens.size() <= static_cast<size_t>(model_.max_model_len)) return absl::OkStatus();
    return FieldError("input",
                      fmt::format("input {} has {} tokens; the model allows {}", index,
                                  input.tokens.size(), model_.max_model_len),
                      "context_length_exceeded");
  }

 private:
  const ModelInfo& model_;
  const Tokenizer& tokenizer_;
  const size_t max_tokens_;
};

absl::Status AddTexts(const EmbedRequest& request, const InputMaker& maker, PooledWork& work) {
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    PooledInput& input = work.inputs.emplace_back();
    if (const auto* text = std::get_if<Text>(&request.inputs[i])) {
      input = maker.Encode(*text, nullptr);
    } else {
      input.tokens = maker.Cut(std::get<std::vector<TokenId>>(request.inputs[i]));
    }
    RETURN_IF_ERROR(maker.Check(input, i));
  }
  return absl::OkStatus();
}

// A cross-encoder reads both texts at once. Other models embed each different text once.
absl::Status AddPairs(const EmbedRequest& request, bool cross_encoder, const InputMaker& maker,
                      PooledWork& work) {
  std::map<std::vector<TokenId>, int32_t> known;
  const auto index_of = [&](const Text& text) {
    PooledInput input = maker.Encode(text, nullptr);
    const auto next = static_cast<int32_t>(work.inputs.size());
    const auto [it, is_new] = known.emplace(input.tokens, next);
    if (is_new) work.inputs.push_back(std::move(input));
    return it->second;
  };
  const Text* previous = nullptr;  // a query is the same in all pairs
  int32_t first = 0;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const auto& pair = std::get<TextPair>(request.inputs[i]);
    if (cross_encoder) {
      work.inputs.push_back(maker.Encode(pair.first, &pair.second));
      RETURN_IF_ERROR(maker.Check(work.inputs.back(), i));
      continue;
    }
    if (previous == nullptr || !(*previous == pair.first)) first = index_of(pair.first);
    previous = &pair.first;
    const int32_t second = index_of(pair.second);
    RETURN_IF_ERROR(maker.Check(work.inputs[static_cast<size_t>(first)], i));
    RETURN_IF_ERROR(maker.Check(work.inputs[static_cast<size_t>(second)], i));
    work.pairs.emplace_back(first, second);
  }
  return absl::OkStatus();
}

absl::Status CheckTask(const ModelInfo& model, bool pairs) {
  if (model.task == ModelTask::kGenerate) {
    return FieldError("model",
                      fmt::format("model {} generates text; it makes no embeddings", model.name),
                      kWrongTask);
  }
  if (model.task == ModelTask::kEmbed || pairs) return absl::OkStatus();
  return FieldError(
      "model", fmt::format("model {} scores pairs of texts; it makes no embeddings", model.name),
      kWrongTask);
}

absl::StatusOr<size_t> MaxTokens(const EmbedRequest& request, const ModelInfo& model) {
  if (!request.truncate_tokens) return SIZE_MAX;
  const int64_t max = *request.truncate_tokens;
  if (max == -1) return static_cast<size_t>(model.max_model_len);
  if (max >= 1 && max <= model.max_model_len) return static_cast<size_t>(max);
  return FieldError(
      "truncate_prompt_tokens",
      fmt::format("truncate_prompt_tokens is {}; the model allows 1 to {}, or -1 for all of these",
                  max, model.max_model_len));
}

absl::Status CheckInputs(const EmbedRequest& request, bool pairs) {
  if (request.inputs.empty())
    return FieldError("input", "there are 0 inputs; at least 1 is needed");
  if (request.inputs.size() > kMaxEmbedInputs) {
    return FieldError("input", fmt::format("there are {} inputs; at most {} are allowed",
                                           request.inputs.size(), kMaxEmbedInputs));
  }
  for (const EmbedInput& input : request.inputs) {
    if (std::holds_alternative<TextPair>(input) != pairs)
      return FieldError("input", "the inputs mix pairs with single texts");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckGenerates(const ModelInfo& model) {
  if (model.task == ModelTask::kGenerate) return absl::OkStatus();
  const char* what = model.task == ModelTask::kEmbed ? "makes embeddings" : "scores pairs of texts";
  return FieldError("model", fmt::format("model {} {}; it generates no text", model.name, what),
                    kWrongTask);
}

absl::StatusOr<PooledWork> BuildPooledWork(const EmbedRequest& request, const ModelInfo& model,
                                           const Tokenizer& tokenizer) {
  const bool pairs =
      !request.inputs.empty() && std::holds_alternative<TextPair>(request.inputs.front());
  RETURN_IF_ERROR(CheckTask(model, pairs));
  RETURN_IF_ERROR(CheckInputs(request, pairs));
  const bool cross_encoder = model.task == ModelTask::kScore;
  if (cross_encoder && model.vector_dim != 1) {
    return FieldError(
        "model",
        fmt::format("model {} has {} labels; a score is made of one", model.name, model.vector_dim),
        kWrongTask);
  }
  PooledWork work;
  if (request.dimensions) {
    if (pairs) return FieldError("dimensions", "dimensions is not for scores");
    if (*request.dimensions < 1 || *request.dimensions > model.vector_dim) {
      return FieldError("dimensions", fmt::format("dimensions is {}; the model allows 1 to {}",
                                                  *request.dimensions, model.vector_dim));
    }
    work.dimensions = static_cast<int32_t>(*request.dimensions);
  }
  work.sigmoid = cross_encoder;
  work.normalise = !cross_encoder && (pairs || request.normalise.value_or(model.normalise));
  ASSIGN_OR_RETURN(const size_t max_tokens, MaxTokens(request, model));
  const InputMaker maker(model, tokenizer, max_tokens);
  RETURN_IF_ERROR(pairs ? AddPairs(request, cross_encoder, maker, work)
                        : AddTexts(request, maker, work));
  return work;
}

}  // namespace sluice
