#include "model/hf_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "base/status_macros.h"
#include "model/hf_rope.h"
#include "model/model_limits.h"
#include "model/tensor_table.h"

namespace sluice {
namespace {

enum class Windows {
  kAllLayers,  // if the file names a window
  kSwitched,   // only with use_sliding_window, from layer max_window_layers on
  kPeriod      // all layers but each window_period-th
};
enum class Experts { kNone, kMixtral, kQwen };

// What a class takes for a key that its file leaves out; 0: the file must say it.
struct DefaultSizes {
  int32_t model_dim = 0, ffn_dim = 0, num_layers = 0, vocab_size = 0, max_context = 0;
  int32_t num_q_heads = 0, num_kv_heads = 0;
};

// What transformers' classes know of themselves: the code's own rules and the defaults of keys that
// a file may leave out.
struct Family {
  std::string_view class_name;  // architectures[0]
  std::string_view gguf_name;
  bool gemma = false;    // embeddings times sqrt(D), GELU, norms times 1 + w, tied head
  int32_t head_dim = 0;  // 0: model_dim / heads
  Windows windows = Windows::kAllLayers;
  int32_t window_tokens = 0;  // 0: none
  int32_t window_period = 0;
  double window_rope_theta = 0;  // of the layers with a window; 0: like the others
  double softcap = 0, final_softcap = 0;
  Experts experts = Experts::kNone;
  DefaultSizes defaults = {};
  std::string_view text_type = {};  // model_type of text_config, where the decoder's keys are; "":
                                    // they are at the top
};

constexpr Family Gemma3(std::string_view class_name, std::string_view text_type) {
  return {.class_name = class_name,
          .gguf_name = "gemma3",
          .gemma = true,
          .head_dim = 256,
          .windows = Windows::kPeriod,
          .window_tokens = 4096,
          .window_period = 6,
          .window_rope_theta = 10000,
          .defaults = {.model_dim = 2304,
                       .ffn_dim = 9216,
                       .num_layers = 26,
                       .vocab_size = 262208,
                       .max_context = 131072,
                       .num_q_heads = 8,
                       .num_kv_heads = 4},
          .text_type = text_type};
}

constexpr Family kFamilies[] = {
    {.class_name = "LlamaForCausalLM", .gguf_name = "llama"},
    {.class_name = "MistralForCausalLM", .gguf_name = "llama", .window_tokens = 4096},
    {.class_name = "MixtralForCausalLM", .gguf_name = "llama", .experts = Experts::kMixtral},
    {.class_name = "Qwen2ForCausalLM", .gguf_name = "qwen2", .windows = Windows::kSwitched},
    {.class_name = "Qwen2MoeForCausalLM",
     .gguf_name = "qwen2moe",
     .windows = Windows::kSwitched,
     .experts = Experts::kQwen},
    {.class_name = "Qwen3ForCausalLM",
     .gguf_name = "qwen3",
     .head_dim = 128,
     .windows = Windows::kSwitched},
    {.class_name = "Qwen3MoeForCausalLM",
     .gguf_name = "qwen3moe",
     .windows = Windows::kSwitched,
     .experts = Experts::kQwen},
    {.class_name = "GemmaForCausalLM", .gguf_name = "gemma", .gemma = true, .head_dim = 256},
    {.class_name = "Gemma2ForCausalLM",
     .gguf_name = "gemma2",
     .gemma = true,
     .head_dim = 256,
     .windows = Windows::kPeriod,
     .window_tokens = 4096,
     .window_period = 2,
     .softcap = 50,
     .final_softcap = 30},
    Gemma3("Gemma3ForCausalLM", ""),
    Gemma3("Gemma3ForConditionalGeneration", "gemma3_text"),
    {.class_name = "Phi3ForCausalLM", .gguf_name = "phi3"},
};

absl::StatusOr<const Family*> FindFamily(const HfObject& root) {
  constexpr std::string_view kKey = "architectures";
  ASSIGN_OR_RETURN(const std::vector<std::string_view> names, root.GetStrings(kKey, 16));
  if (names.size() != 1) {
    return root.KeyError(kKey, fmt::format("has {} names; 1 is needed", names.size()));
  }
  const auto* family = std::ranges::find(kFamilies, names[0], &Family::class_name);
  if (family != std::end(kFamilies)) return family;
  std::vector<std::string_view> known;
  for (const Family& f : kFamilies) known.push_back(f.class_name);
  return absl::UnimplementedError(
      fmt::format("{}: architecture '{}' is not supported; supported: {}", root.source(),
                  QuoteForMessage(names[0]), fmt::join(known, ", ")));
}

absl::Status ReadSizes(const HfObject& root, const DefaultSizes& defaults, ModelConfig& c) {
  const struct {
    std::string_view key;
    int64_t max;
    int32_t otherwise;
    int32_t* out;
  } kSizes[] = {
      {"hidden_size", kMaxModelDim, defaults.model_dim, &c.model_dim},
      {"intermediate_size", kMaxFfnDim, defaults.ffn_dim, &c.ffn_dim},
      {"num_hidden_layers", kMaxLayers, defaults.num_layers, &c.num_layers},
      {"vocab_size", kMaxVocab, defaults.vocab_size, &c.vocab_size},
      {"max_position_embeddings", kMaxContext, defaults.max_context, &c.max_context},
      {"num_attention_heads", kMaxHeads, defaults.num_q_heads, &c.num_q_heads},
  };
  for (const auto& size : kSizes) {
    ASSIGN_OR_RETURN(const int64_t value,
                     size.otherwise == 0 ? root.GetInt(size.key, 1, size.max)
                                         : root.GetIntOr(size.key, 1, size.max, size.otherwise));
    *size.out = static_cast<int32_t>(value);
  }
  ASSIGN_OR_RETURN(const double eps, root.GetFloatOr("rms_norm_eps", 1e-12, 1, 1e-6));
  c.norm_eps = static_cast<float>(eps);
  return absl::OkStatus();
}

absl::Status ReadHeads(const HfObject& root, const Family& family, ModelConfig& c) {
  const int32_t default_kv_heads =
      family.defaults.num_kv_heads > 0 ? family.defaults.num_kv_heads : c.num_q_heads;
  ASSIGN_OR_RETURN(const int64_t kv_heads,
                   root.GetIntOr("num_key_value_heads", 1, c.num_q_heads, default_kv_heads));
  c.num_kv_heads = static_cast<int32_t>(kv_heads);
  if (c.num_q_heads % c.num_kv_heads != 0) {
    return root.KeyError(
        "num_key_value_heads",
        fmt::format("is {}; it must divide the {} query heads", kv_heads, c.num_q_heads));
  }
  const bool by_division = !root.Has("head_dim") && family.head_dim == 0;
  if (by_division && c.model_dim % c.num_q_heads != 0) {
    return root.KeyError("num_attention_heads", fmt::format("is {}; it must divide hidden_size, {}",
                                                            c.num_q_heads, c.model_dim));
  }
  const int64_t otherwise = by_division ? c.model_dim / c.num_q_heads : family.head_dim;
  ASSIGN_OR_RETURN(const int64_t head_dim, root.GetIntOr("head_dim", 2, kMaxHeadDim, otherwise));
  if (head_dim % 2 != 0 || head_dim < 2 || head_dim > kMaxHeadDim) {
    return root.KeyError(
        "num_attention_heads",
        fmt::format("gives heads of {} elements; an even number up to {} is needed", head_dim,
                    kMaxHeadDim));
  }
  c.head_dim = static_cast<int32_t>(head_dim);
  const int64_t columns = (c.num_q_heads + 2 * kv_heads) * head_dim;
  if (columns <= kMaxQkvCols) return absl::OkStatus();
  return root.KeyError(
      "num_attention_heads",
      fmt::format("gives {} columns of q, k and v; at most {} are allowed", columns, kMaxQkvCols));
}

absl::Status ReadActivation(const HfObject& root, const Family& family, ModelConfig& c) {
  const std::string_view key = root.Has("hidden_activation") ? "hidden_activation" : "hidden_act";
  const std::string_view wanted = family.gemma ? "gelu_pytorch_tanh" : "silu";
  ASSIGN_OR_RETURN(const std::string_view name, root.GetStringOr(key, wanted));
  // Early Gemma files say "gelu" in hidden_act and mean the other; transformers corrects them too.
  const bool early = family.gemma && key == "hidden_act" && name == "gelu";
  if (name != wanted && !early) {
    return root.Unsupported(
        key, fmt::format("is '{}'; supported here: {}", QuoteForMessage(name), wanted));
  }
  c.activation = family.gemma ? Activation::kGeluTanh : Activation::kSilu;
  if (family.gemma) c.embedding_scale = std::sqrt(static_cast<float>(c.model_dim));
  return absl::OkStatus();
}

// A key whose null means "none" and whose absence means the class' own default.
absl::StatusOr<double> FloatOrNone(const HfObject& root, std::string_view key, double otherwise) {
  if (root.object().contains(key) && !root.Has(key)) return 0.0;
  return root.GetFloatOr(key, 0, 1e6, otherwise);
}

absl::Status ReadAttention(const HfObject& root, const Family& family, ModelConfig& c) {
  ASSIGN_OR_RETURN(const bool both_ways, root.GetBoolOr("use_bidirectional_attention", false));
  if (both_ways) {
    return root.Unsupported("use_bidirectional_attention", "is true; only false is supported");
  }
  ASSIGN_OR_RETURN(const double softcap,
                   FloatOrNone(root, "attn_logit_softcapping", family.softcap));
  ASSIGN_OR_RETURN(const double final_softcap,
                   FloatOrNone(root, "final_logit_softcapping", family.final_softcap));
  double scaled_elements = c.head_dim;
  if (family.windows == Windows::kPeriod) {  // Gemma 2 and 3
    ASSIGN_OR_RETURN(scaled_elements, root.GetFloatOr("query_pre_attn_scalar", 1e-3, 1e6, 256));
  }
  c.attention_softcap = static_cast<float>(softcap);
  c.final_softcap = static_cast<float>(final_softcap);
  c.attention_scale = static_cast<float>(1 / std::sqrt(scaled_elements));
  return absl::OkStatus();
}

// Whether each layer has a window.
absl::StatusOr<std::vector<bool>> WindowedLayers(const HfObject& root, const Family& family,
                                                 int32_t num_layers) {
  std::vector<bool> windowed(static_cast<size_t>(num_layers), true);
  if (root.Has("layer_types")) {
    ASSIGN_OR_RETURN(const std::vector<std::string_view> types,
                     root.GetStrings("layer_types", windowed.size()));
    if (types.size() != windowed.size()) {
      return root.KeyError("layer_types",
                           fmt::format("has {} elements for {} layers", types.size(), num_layers));
    }
    for (size_t l = 0; l < types.size(); ++l) {
      windowed[l] = types[l] == "sliding_attention";
      if (windowed[l] || types[l] == "full_attention") continue;
      return root.Unsupported("layer_types",
                              fmt::format("has '{}'; supported: full_attention, sliding_attention",
                                          QuoteForMessage(types[l])));
    }
    return windowed;
  }
  if (family.windows == Windows::kSwitched) {
    ASSIGN_OR_RETURN(const int64_t first, root.GetIntOr("max_window_layers", 0, kMaxLayers, 28));
    for (size_t l = 0; l < windowed.size(); ++l) windowed[l] = static_cast<int64_t>(l) >= first;
  } else if (family.windows == Windows::kPeriod) {
    const std::string_view key =
        root.Has("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
    ASSIGN_OR_RETURN(const int64_t period, root.GetIntOr(key, 1, kMaxLayers, family.window_period));
    for (size_t l = 0; l < windowed.size(); ++l) {
      windowed[l] = static_cast<int64_t>(l + 1) % period != 0;
    }
  }
  return windowed;
}

absl::Status ReadWindows(const HfObject& root, const Family& family, ModelConfig& c) {
  constexpr std::string_view kKey = "sliding_window";
  if (family.windows == Windows::kSwitched) {
    ASSIGN_OR_RETURN(const bool used, root.GetBoolOr("use_sliding_window", false));
    if (!used) return absl::OkStatus();
  }
  if (root.object().contains(kKey) && !root.Has(kKey)) {
    if (family.window_rope_theta == 0) return absl::OkStatus();
    return root.KeyError(kKey, "is null; this architecture needs a window");
  }
  ASSIGN_OR_RETURN(const int64_t window,
                   root.GetIntOr(kKey, 1, int64_t{1} << 40, family.window_tokens));
  // A window that no position leaves is none, unless its layers rotate otherwise.
  const bool rotates_otherwise = family.window_rope_theta > 0;
  if (window == 0 || (window >= c.max_context && !rotates_otherwise)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<bool> windowed, WindowedLayers(root, family, c.num_layers));
  if (std::ranges::find(windowed, true) == windowed.end()) return absl::OkStatus();
  const auto tokens = static_cast<int32_t>(std::min<int64_t>(window, c.max_context));
  for (const bool has : windowed) c.windows.push_back(has ? tokens : 0);
  return absl::OkStatus();
}

absl::Status ReadExperts(const HfObject& root, const Family& family, ModelConfig& c) {
  if (family.experts == Experts::kNone) return absl::OkStatus();
  const bool mixtral = family.experts == Experts::kMixtral;
  ASSIGN_OR_RETURN(
      const int64_t experts,
      root.GetInt(mixtral || !root.Has("num_experts") ? "num_local_experts" : "num_experts", 2,
                  kMaxExperts));
  ASSIGN_OR_RETURN(const int64_t used,
                   root.GetInt("num_experts_per_tok", 1, std::min(experts, kMaxExpertsUsed)));
  c.moe.num_experts = static_cast<int32_t>(experts);
  c.moe.num_used = static_cast<int32_t>(used);
  c.moe.ffn_dim = c.ffn_dim;
  c.moe.renormalise = true;
  if (mixtral) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t ffn, root.GetInt("moe_intermediate_size", 1, kMaxFfnDim));
  c.moe.ffn_dim = static_cast<int32_t>(ffn);
  ASSIGN_OR_RETURN(c.moe.renormalise, root.GetBoolOr("norm_topk_prob", false));
  ASSIGN_OR_RETURN(const int64_t shared,
                   root.GetIntOr("shared_expert_intermediate_size", 0, kMaxFfnDim, 0));
  c.moe.shared_ffn_dim = static_cast<int32_t>(shared);
  return absl::OkStatus();
}

// Where the decoder's keys are: `root`, or its text_config.
absl::StatusOr<HfObject> TextObject(const HfObject& root, const Family& family) {
  if (family.text_type.empty()) return root;
  ASSIGN_OR_RETURN(HfObject text, root.GetObject("text_config"));
  ASSIGN_OR_RETURN(const std::string_view type, text.GetStringOr("model_type", family.text_type));
  if (type == family.text_type) return text;
  return text.Unsupported("model_type", fmt::format("is '{}'; supported here: {}",
                                                    QuoteForMessage(type), family.text_type));
}

}  // namespace

absl::StatusOr<HfConfig> ReadHfConfig(const HfObject& root) {
  ASSIGN_OR_RETURN(const Family* family, FindFamily(root));
  ASSIGN_OR_RETURN(const HfObject text, TextObject(root, *family));
  HfConfig out;
  ModelConfig& c = out.config;
  c.architecture = family->gguf_name;
  out.class_name = family->class_name;
  out.norms_from_one = family->gemma;
  out.nested = !family->text_type.empty();
  RETURN_IF_ERROR(ReadSizes(text, family->defaults, c));
  RETURN_IF_ERROR(ReadHeads(text, *family, c));
  RETURN_IF_ERROR(ReadActivation(text, *family, c));
  RETURN_IF_ERROR(ReadAttention(text, *family, c));
  RETURN_IF_ERROR(ReadExperts(text, *family, c));
  RETURN_IF_ERROR(ReadWindows(text, *family, c));
  RETURN_IF_ERROR(ReadHfRope(text, family->window_rope_theta, out));
  // These two belong to the whole model, not to its text part.
  ASSIGN_OR_RETURN(out.quantisation, ReadHfQuantisation(root));
  ASSIGN_OR_RETURN(out.tied_head, root.GetBoolOr("tie_word_embeddings", family->gemma));
  return out;
}

}  // namespace sluice
