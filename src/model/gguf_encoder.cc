#include "model/gguf_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/status_macros.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

constexpr std::string_view kArchitecture = "bert";
constexpr int64_t kMaxLabels = 1 << 16;
constexpr int64_t kMaxTypes = 16;

// Rows of a table that decides a size of the model.
absl::StatusOr<int32_t> RowsOf(const GgufFile& file, std::string_view name, int64_t max) {
  const ModelTensor* tensor = file.tensors().Find(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(fmt::format("{}: tensor '{}' is missing", file.name(), name));
  }
  const int64_t rows = tensor->dims[1];
  if (rows > max) {
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor '{}' has {} rows; at most {} are "
                    "allowed",
                    file.name(), name, rows, max));
  }
  return static_cast<int32_t>(rows);
}

std::optional<Pooling> ToPooling(int64_t type) {
  switch (static_cast<GgufPooling>(type)) {
    case GgufPooling::kMean:
      return Pooling::kMean;
    case GgufPooling::kCls:
      return Pooling::kFirst;
    case GgufPooling::kLast:
      return Pooling::kLast;
    default:
      return std::nullopt;
  }
}

absl::Status ReadPooling(const GgufFile& file, EncoderConfig& c) {
  constexpr std::string_view kKey = "bert.pooling_type";
  ASSIGN_OR_RETURN(const int64_t type,
                   file.GetIntOr(kKey, 0, 255, static_cast<int64_t>(GgufPooling::kMean)));
  if (const std::optional<Pooling> pooling = ToPooling(type)) {
    c.pooling = *pooling;
    return absl::OkStatus();
  }
  if (type != static_cast<int64_t>(GgufPooling::kRank)) {
    return absl::UnimplementedError(
        fmt::format("{}: key '{}' is {}; supported: 1 (mean), 2 (cls), 3 (last), 4 (rank)",
                    file.name(), kKey, type));
  }
  // Writers that drop the layer before the classifier leave a model that ranks at random.
  if (file.tensors().Find("cls.weight") == nullptr) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: tensor 'cls.weight' is missing: the layer before the classifier was not converted",
        file.name()));
  }
  ASSIGN_OR_RETURN(c.num_labels, RowsOf(file, "cls.output.weight", kMaxLabels));
  return absl::OkStatus();
}

absl::Status ReadSizes(const GgufFile& file, EncoderConfig& c) {
  const struct {
    std::string_view key;
    int64_t max;
    int32_t* out;
  } kNumbers[] = {{"bert.embedding_length", kMaxModelDim, &c.model_dim},
                  {"bert.feed_forward_length", kMaxFfnDim, &c.ffn_dim},
                  {"bert.block_count", kMaxLayers, &c.num_layers},
                  {"bert.attention.head_count", kMaxHeads, &c.num_heads}};
  for (const auto& number : kNumbers) {
    ASSIGN_OR_RETURN(const int64_t value, file.GetInt(number.key, 1, number.max));
    *number.out = static_cast<int32_t>(value);
  }
  if (c.model_dim % c.num_heads != 0 || c.head_dim() > kMaxHeadDim) {
    return file.KeyError(
        "bert.attention.head_count",
        fmt::format("is {}; it must divide the embedding length {} into heads of at most {}",
                    c.num_heads, c.model_dim, kMaxHeadDim));
  }
  ASSIGN_OR_RETURN(const double eps, file.GetFloat("bert.attention.layer_norm_epsilon", 1e-15, 1));
  c.norm_eps = static_cast<float>(eps);
  ASSIGN_OR_RETURN(const bool causal, file.GetBoolOr("bert.attention.causal", false));
  if (causal) {
    return absl::UnimplementedError(fmt::format(
        "{}: key 'bert.attention.causal' is true; encoders look both ways", file.name()));
  }
  ASSIGN_OR_RETURN(c.vocab_size, RowsOf(file, "token_embd.weight", kMaxVocab));
  ASSIGN_OR_RETURN(c.max_positions,
                   RowsOf(file, "position_embd.weight", kMaxContext * 8 / c.model_dim));
  ASSIGN_OR_RETURN(c.num_types, RowsOf(file, "token_types.weight", kMaxTypes));
  return absl::OkStatus();
}

}  // namespace

bool IsGgufEncoder(const GgufFile& file) {
  const auto architecture = file.GetString("general.architecture");
  return architecture.ok() && *architecture == kArchitecture;
}

absl::StatusOr<std::optional<Pooling>> ReadGgufPooling(const GgufFile& file,
                                                       std::string_view architecture) {
  const std::string key = fmt::format("{}.pooling_type", architecture);
  ASSIGN_OR_RETURN(const int64_t type, file.GetIntOr(key, 0, 255, 0));
  const std::optional<Pooling> pooling = ToPooling(type);
  if (pooling.has_value() || type == static_cast<int64_t>(GgufPooling::kNone)) return pooling;
  return absl::UnimplementedError(fmt::format(
      "{}: key '{}' is {}; supported for a decoder: 0 (none), 1 (mean), 2 (cls), 3 (last)",
      file.name(), key, type));
}

absl::StatusOr<GgufEncoder> ReadGgufEncoder(const GgufFile& file) {
  GgufEncoder encoder;
  EncoderConfig& c = encoder.config;
  RETURN_IF_ERROR(ReadSizes(file, c));
  RETURN_IF_ERROR(ReadPooling(file, c));
  ASSIGN_OR_RETURN(c.normalise, file.GetBoolOr(kNormaliseKey, true));
  ASSIGN_OR_RETURN(const int64_t context, file.GetInt("bert.context_length", 1, kMaxContext));
  const int64_t longest = std::min<int64_t>(context, c.max_positions);
  ASSIGN_OR_RETURN(const int64_t len, file.GetIntOr(kMaxModelLenKey, 1, longest, longest));
  encoder.max_model_len = static_cast<int32_t>(len);
  return encoder;
}

}  // namespace sluice
