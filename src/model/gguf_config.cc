#include "model/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "base/status_macros.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

constexpr std::string_view kSupportedArchitectures = "llama";

absl::Status CheckArchitecture(const GgufFile& file, std::string_view architecture) {
  if (architecture != "llama") {
    return absl::UnimplementedError(
        fmt::format("{}: architecture '{}' is not supported; supported: {}", file.name(),
                    QuoteForMessage(architecture), kSupportedArchitectures));
  }
  ASSIGN_OR_RETURN(const int64_t parts, file.GetIntOr("split.count", 0, 65535, 1));
  if (parts > 1) {
    return absl::UnimplementedError(
        fmt::format("{}: one of {} parts of a split model; only whole files are supported",
                    file.name(), parts));
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const GgufFile& file, const std::string& prefix, ModelConfig& c) {
  ASSIGN_OR_RETURN(const int64_t rope_dim,
                   file.GetIntOr(prefix + "rope.dimension_count", 2, c.head_dim, c.head_dim));
  if (rope_dim % 2 != 0) {
    return file.KeyError(prefix + "rope.dimension_count",
                         fmt::format("is {}; must be even", rope_dim));
  }
  c.rope_dim = static_cast<int32_t>(rope_dim);
  ASSIGN_OR_RETURN(c.rope_theta, file.GetFloatOr(prefix + "rope.freq_base", 1, 1e12, 10000));
  const std::string type_key = prefix + "rope.scaling.type";
  ASSIGN_OR_RETURN(const std::string_view type, file.GetStringOr(type_key, "none"));
  if (type == "linear") {
    ASSIGN_OR_RETURN(const double factor, file.GetFloat(prefix + "rope.scaling.factor", 1e-3, 1e6));
    c.rope_position_scale = 1 / factor;
  } else if (type != "none") {
    return absl::UnimplementedError(fmt::format("{}: key '{}' is '{}'; supported: none, linear",
                                                file.name(), type_key, QuoteForMessage(type)));
  }
  c.rope_interleaved = true;
  return absl::OkStatus();
}

absl::Status ReadHeads(const GgufFile& file, const std::string& prefix, ModelConfig& c) {
  ASSIGN_OR_RETURN(const int64_t q_heads,
                   file.GetInt(prefix + "attention.head_count", 1, kMaxHeads));
  ASSIGN_OR_RETURN(const int64_t kv_heads,
                   file.GetIntOr(prefix + "attention.head_count_kv", 1, q_heads, q_heads));
  if (q_heads % kv_heads != 0) {
    return file.KeyError(
        prefix + "attention.head_count_kv",
        fmt::format("is {}; it must divide the {} query heads", kv_heads, q_heads));
  }
  const std::string head_dim_key = prefix + "attention.key_length";
  if (file.Find(head_dim_key) == nullptr && c.model_dim % q_heads != 0) {
    return file.KeyError(
        prefix + "attention.head_count",
        fmt::format("is {}; it must divide the embedding length {}", q_heads, c.model_dim));
  }
  ASSIGN_OR_RETURN(
      const int64_t head_dim,
      file.GetIntOr(head_dim_key, 2, kMaxHeadDim, std::max<int64_t>(c.model_dim / q_heads, 1)));
  ASSIGN_OR_RETURN(const int64_t value_dim,
                   file.GetIntOr(prefix + "attention.value_length", 2, kMaxHeadDim, head_dim));
  if (head_dim % 2 != 0 || head_dim > kMaxHeadDim || value_dim != head_dim) {
    return file.KeyError(
        head_dim_key,
        fmt::format("gives heads of {} and values of {} elements; both must be the same "
                    "even number up to {}",
                    head_dim, value_dim, kMaxHeadDim));
  }
  if ((q_heads + 2 * kv_heads) * head_dim > kMaxQkvCols) {
    return file.KeyError(prefix + "attention.head_count",
                         fmt::format("gives {} columns of q, k and v; at most {} are allowed",
                                     (q_heads + 2 * kv_heads) * head_dim, kMaxQkvCols));
  }
  c.num_q_heads = static_cast<int32_t>(q_heads);
  c.num_kv_heads = static_cast<int32_t>(kv_heads);
  c.head_dim = static_cast<int32_t>(head_dim);
  ASSIGN_OR_RETURN(const double scale,
                   file.GetFloatOr(prefix + "attention.scale", 1e-6, 1e6,
                                   1 / std::sqrt(static_cast<double>(head_dim))));
  c.attention_scale = static_cast<float>(scale);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufFile& file) {
  ASSIGN_OR_RETURN(const std::string_view architecture, file.GetString("general.architecture"));
  RETURN_IF_ERROR(CheckArchitecture(file, architecture));
  ModelConfig c;
  c.architecture = architecture;
  const std::string prefix = c.architecture + ".";
  ASSIGN_OR_RETURN(const int64_t dim, file.GetInt(prefix + "embedding_length", 1, kMaxModelDim));
  ASSIGN_OR_RETURN(const int64_t ffn, file.GetInt(prefix + "feed_forward_length", 1, kMaxFfnDim));
  ASSIGN_OR_RETURN(const int64_t layers, file.GetInt(prefix + "block_count", 1, kMaxLayers));
  ASSIGN_OR_RETURN(const int64_t context, file.GetInt(prefix + "context_length", 1, kMaxContext));
  ASSIGN_OR_RETURN(const int64_t experts, file.GetIntOr(prefix + "expert_count", 0, 1 << 20, 0));
  if (experts > 0) {
    return absl::UnimplementedError(fmt::format(
        "{}: a mixture of {} experts; only dense models are supported", file.name(), experts));
  }
  ASSIGN_OR_RETURN(const double eps,
                   file.GetFloat(prefix + "attention.layer_norm_rms_epsilon", 1e-12, 1));
  c.model_dim = static_cast<int32_t>(dim);
  c.ffn_dim = static_cast<int32_t>(ffn);
  c.num_layers = static_cast<int32_t>(layers);
  c.max_context = static_cast<int32_t>(context);
  c.norm_eps = static_cast<float>(eps);
  RETURN_IF_ERROR(ReadHeads(file, prefix, c));
  RETURN_IF_ERROR(ReadRope(file, prefix, c));

  const ModelTensor* embedding = file.tensors().Find("token_embd.weight");
  if (embedding == nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor 'token_embd.weight' is missing", file.name()));
  }
  if (embedding->dims[1] > kMaxVocab) {
    return absl::InvalidArgumentError(
        fmt::format("{}: tensor 'token_embd.weight' has {} rows; at most {} are allowed",
                    file.name(), embedding->dims[1], kMaxVocab));
  }
  c.vocab_size = static_cast<int32_t>(embedding->dims[1]);
  ASSIGN_OR_RETURN(const int64_t vocab,
                   file.GetIntOr(prefix + "vocab_size", 1, kMaxVocab, c.vocab_size));
  if (vocab != c.vocab_size) {
    return file.KeyError(
        prefix + "vocab_size",
        fmt::format("is {}; 'token_embd.weight' has {} rows", vocab, c.vocab_size));
  }
  return c;
}

}  // namespace sluice
