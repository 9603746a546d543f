#include "model/gguf_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <string_view>

#include "base/status_macros.h"
#include "model/gguf_rope.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

// What GGUF leaves to the reader's knowledge of a family.
struct Family {
  std::string_view name;  // general.architecture
  bool rope_interleaved = false;
  bool gemma = false;  // embeddings times sqrt(D), GELU
  // Layers with a window, where the file has one: all but each window_period-th; 0: all.
  int32_t window_period = 0;
  double window_rope_theta = 0;  // of the layers with a window; 0: like the others
  // Files of this many layers scale attention by 1/sqrt(D/Hq) instead of 1/sqrt(H); 0: none do.
  int32_t layers_scaled_by_dim = 0;
  bool moe_renormalises = false;
};

constexpr Family kFamilies[] = {
    // llama is also Mistral and Mixtral.
    {.name = "llama", .rope_interleaved = true, .moe_renormalises = true},
    {.name = "qwen2"},
    {.name = "qwen2moe"},
    {.name = "qwen3"},
    {.name = "qwen3moe", .moe_renormalises = true},
    {.name = "gemma", .gemma = true},
    {.name = "gemma2", .gemma = true, .window_period = 2, .layers_scaled_by_dim = 46},
    {.name = "gemma3",
     .gemma = true,
     .window_period = 6,
     .window_rope_theta = 10000,
     .layers_scaled_by_dim = 62},
    {.name = "phi3"},
};

absl::StatusOr<Family> FindFamily(const GgufFile& file, std::string_view architecture) {
  const auto* family = std::ranges::find(kFamilies, architecture, &Family::name);
  if (family == std::end(kFamilies)) {
    std::vector<std::string_view> names;
    for (const Family& known : kFamilies) names.push_back(known.name);
    names.emplace_back("bert");  // an encoder's: gguf_encoder.h
    return absl::UnimplementedError(
        fmt::format("{}: architecture '{}' is not supported; supported: {}", file.name(),
                    QuoteForMessage(architecture), fmt::join(names, ", ")));
  }
  return *family;
}

absl::Status CheckHeads(const GgufFile& file, const std::string& prefix, int64_t q_heads,
                        int64_t kv_heads, int64_t head_dim, int64_t value_dim) {
  if (head_dim % 2 != 0 || head_dim > kMaxHeadDim || value_dim != head_dim) {
    return file.KeyError(
        prefix + "attention.key_length",
        fmt::format("gives heads of {} and values of {} elements; both must be the same "
                    "even number up to {}",
                    head_dim, value_dim, kMaxHeadDim));
  }
  if ((q_heads + 2 * kv_heads) * head_dim > kMaxQkvCols) {
    return file.KeyError(prefix + "attention.head_count",
                         fmt::format("gives {} columns of q, k and v; at most {} are allowed",
                                     (q_heads + 2 * kv_heads) * head_dim, kMaxQkvCols));
  }
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
  RETURN_IF_ERROR(CheckHeads(file, prefix, q_heads, kv_heads, head_dim, value_dim));
  c.num_q_heads = static_cast<int32_t>(q_heads);
  c.num_kv_heads = static_cast<int32_t>(kv_heads);
  c.head_dim = static_cast<int32_t>(head_dim);
  return absl::OkStatus();
}

absl::Status ReadAttention(const GgufFile& file, const std::string& prefix, const Family& family,
                           ModelConfig& c) {
  const bool by_dim = family.layers_scaled_by_dim == c.num_layers;
  const double scaled_elements =
      by_dim ? static_cast<double>(c.model_dim) / c.num_q_heads : c.head_dim;
  const std::string causal_key = prefix + "attention.causal";
  ASSIGN_OR_RETURN(const bool causal, file.GetBoolOr(causal_key, true));
  if (!causal) {
    return absl::UnimplementedError(
        fmt::format("{}: key '{}' is false; a decoder that looks both ways is not supported",
                    file.name(), causal_key));
  }
  ASSIGN_OR_RETURN(const double scale, file.GetFloatOr(prefix + "attention.scale", 1e-6, 1e6,
                                                       1 / std::sqrt(scaled_elements)));
  c.attention_scale = static_cast<float>(scale);
  ASSIGN_OR_RETURN(const double softcap,
                   file.GetFloatOr(prefix + "attn_logit_softcapping", 0, 1e6, 0));
  c.attention_softcap = static_cast<float>(softcap);
  ASSIGN_OR_RETURN(const double final_softcap,
                   file.GetFloatOr(prefix + "final_logit_softcapping", 0, 1e6, 0));
  c.final_softcap = static_cast<float>(final_softcap);
  return absl::OkStatus();
}

// All layers but each period-th; 0: all.
bool HasWindow(int32_t layer, int64_t period) { return period == 0 || (layer + 1) % period != 0; }

// Which layers have a window: the file's flags by layer or its period, else the family's period.
absl::Status ReadWindows(const GgufFile& file, const std::string& prefix, const Family& family,
                         ModelConfig& c) {
  ASSIGN_OR_RETURN(const int64_t window,
                   file.GetIntOr(prefix + "attention.sliding_window", 0, kMaxContext, 0));
  if (window == 0) return absl::OkStatus();
  const std::string pattern_key = prefix + "attention.sliding_window_pattern";
  const GgufValue* pattern = file.Find(pattern_key);
  const bool by_layer = pattern != nullptr && pattern->type == GgufType::kArray;
  int64_t period = family.window_period;
  if (by_layer) {
    if (pattern->element_type != GgufType::kBool ||
        pattern->count != static_cast<uint64_t>(c.num_layers)) {
      return file.KeyError(pattern_key, fmt::format("is not an array of {} bools", c.num_layers));
    }
  } else {
    ASSIGN_OR_RETURN(period, file.GetIntOr(pattern_key, 0, kMaxLayers, period));
  }
  for (int32_t l = 0; l < c.num_layers; ++l) {
    const bool has_window =
        by_layer ? pattern->bytes[static_cast<size_t>(l)] != 0 : HasWindow(l, period);
    c.windows.push_back(has_window ? static_cast<int32_t>(window) : 0);
  }
  return absl::OkStatus();
}

absl::Status ReadMoe(const GgufFile& file, const std::string& prefix, const Family& family,
                     ModelConfig& c) {
  ASSIGN_OR_RETURN(const int64_t experts,
                   file.GetIntOr(prefix + "expert_count", 0, kMaxExperts, 0));
  if (experts == 0) return absl::OkStatus();
  if (experts == 1) return file.KeyError(prefix + "expert_count", "is 1; a mixture has at least 2");
  ASSIGN_OR_RETURN(const int64_t used, file.GetInt(prefix + "expert_used_count", 1,
                                                   std::min(experts, kMaxExpertsUsed)));
  ASSIGN_OR_RETURN(const int64_t ffn,
                   file.GetIntOr(prefix + "expert_feed_forward_length", 1, kMaxFfnDim, c.ffn_dim));
  ASSIGN_OR_RETURN(const int64_t shared,
                   file.GetIntOr(prefix + "expert_shared_feed_forward_length", 0, kMaxFfnDim, 0));
  constexpr int64_t kSoftmax = 1;
  ASSIGN_OR_RETURN(const int64_t gating,
                   file.GetIntOr(prefix + "expert_gating_func", 0, 1 << 20, kSoftmax));
  if (gating != kSoftmax) {
    return absl::UnimplementedError(
        fmt::format("{}: key '{}expert_gating_func' is {}; supported: "
                    "{} (softmax)",
                    file.name(), prefix, gating, kSoftmax));
  }
  const std::string scale_key = prefix + "expert_weights_scale";
  ASSIGN_OR_RETURN(const double scale, file.GetFloatOr(scale_key, 0, 1e6, 1));
  if (scale != 0 && scale != 1) {  // 0: none, as its writers mean it
    return absl::UnimplementedError(
        fmt::format("{}: key '{}' is {}; supported: 1", file.name(), scale_key, scale));
  }
  ASSIGN_OR_RETURN(c.moe.renormalise,
                   file.GetBoolOr(prefix + "expert_weights_norm", family.moe_renormalises));
  c.moe.num_experts = static_cast<int32_t>(experts);
  c.moe.num_used = static_cast<int32_t>(used);
  c.moe.ffn_dim = static_cast<int32_t>(ffn);
  c.moe.shared_ffn_dim = static_cast<int32_t>(shared);
  return absl::OkStatus();
}

absl::Status ReadVocab(const GgufFile& file, const std::string& prefix, ModelConfig& c) {
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
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufFile& file) {
  ASSIGN_OR_RETURN(const std::string_view architecture, file.GetString("general.architecture"));
  ASSIGN_OR_RETURN(const Family family, FindFamily(file, architecture));
  ModelConfig c;
  c.architecture = architecture;
  const std::string prefix = c.architecture + ".";
  ASSIGN_OR_RETURN(const int64_t dim, file.GetInt(prefix + "embedding_length", 1, kMaxModelDim));
  ASSIGN_OR_RETURN(const int64_t ffn, file.GetInt(prefix + "feed_forward_length", 1, kMaxFfnDim));
  ASSIGN_OR_RETURN(const int64_t layers, file.GetInt(prefix + "block_count", 1, kMaxLayers));
  ASSIGN_OR_RETURN(const int64_t context, file.GetInt(prefix + "context_length", 1, kMaxContext));
  ASSIGN_OR_RETURN(const double eps,
                   file.GetFloat(prefix + "attention.layer_norm_rms_epsilon", 1e-12, 1));
  c.model_dim = static_cast<int32_t>(dim);
  c.ffn_dim = static_cast<int32_t>(ffn);
  c.num_layers = static_cast<int32_t>(layers);
  c.max_context = static_cast<int32_t>(context);
  c.norm_eps = static_cast<float>(eps);
  if (family.gemma) {
    c.embedding_scale = std::sqrt(static_cast<float>(c.model_dim));
    c.activation = Activation::kGeluTanh;
  }
  RETURN_IF_ERROR(ReadHeads(file, prefix, c));
  RETURN_IF_ERROR(ReadAttention(file, prefix, family, c));
  RETURN_IF_ERROR(ReadWindows(file, prefix, family, c));
  RETURN_IF_ERROR(ReadMoe(file, prefix, family, c));
  RETURN_IF_ERROR(
      ReadGgufRope(file, prefix, {family.rope_interleaved, family.window_rope_theta}, c));
  RETURN_IF_ERROR(ReadVocab(file, prefix, c));
  return c;
}

std::vector<int32_t> ImpliedWindows(std::string_view architecture, int32_t num_layers,
                                    int32_t window) {
  const auto* family = std::ranges::find(kFamilies, architecture, &Family::name);
  const int32_t period = family != std::end(kFamilies) ? family->window_period : 0;
  std::vector<int32_t> windows;
  windows.reserve(static_cast<size_t>(num_layers));
  for (int32_t l = 0; l < num_layers; ++l) {
    windows.push_back(HasWindow(l, period) ? window : 0);
  }
  return windows;
}

}  // namespace sluice
