#include "model/convert_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status_macros.h"
#include "model/gguf_config.h"
#include "model/gguf_encoder.h"
#include "model/hf_rope.h"

namespace sluice {
namespace {

// general.file_type of the file's most frequent type.
uint32_t FileType(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ8_0:
      return 7;
    case DType::kBF16:
      return 32;
    default:
      return 0;
  }
}

DType MainType(const TensorTable& table) {
  std::map<DType, int64_t> bytes;
  for (const ModelTensor& tensor : table.tensors) bytes[tensor.dtype] += tensor.num_bytes;
  const auto most =
      std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return most == bytes.end() ? DType::kF32 : most->first;
}

uint32_t U32(int32_t value) { return static_cast<uint32_t>(value); }

// One flag a layer, where the family's own pattern is another.
void WriteWindows(const ModelConfig& c, const std::string& p, GgufWriter& w) {
  const auto window = std::ranges::max_element(c.windows);
  if (window == c.windows.end()) return;
  w.Set(p + "attention.sliding_window", U32(*window));
  if (c.windows == ImpliedWindows(c.architecture, c.num_layers, *window)) return;
  std::string flags;
  for (const int32_t of_layer : c.windows) flags.push_back(of_layer > 0 ? '\1' : '\0');
  w.Set(p + "attention.sliding_window_pattern", GgufValue{.type = GgufType::kArray,
                                                          .element_type = GgufType::kBool,
                                                          .count = flags.size(),
                                                          .bytes = flags});
}

void WriteSizes(const ModelConfig& c, const std::string& p, GgufWriter& w) {
  w.Set(p + "context_length", U32(c.max_context));
  w.Set(p + "embedding_length", U32(c.model_dim));
  w.Set(p + "feed_forward_length", U32(c.ffn_dim));
  w.Set(p + "block_count", U32(c.num_layers));
  w.Set(p + "vocab_size", U32(c.vocab_size));
  w.Set(p + "attention.head_count", U32(c.num_q_heads));
  w.Set(p + "attention.head_count_kv", U32(c.num_kv_heads));
  w.Set(p + "attention.key_length", U32(c.head_dim));
  w.Set(p + "attention.value_length", U32(c.head_dim));
  w.Set(p + "attention.layer_norm_rms_epsilon", c.norm_eps);
  const auto usual_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim)));
  if (c.attention_scale != usual_scale) w.Set(p + "attention.scale", c.attention_scale);
  if (c.attention_softcap != 0) w.Set(p + "attn_logit_softcapping", c.attention_softcap);
  if (c.final_softcap != 0) w.Set(p + "final_logit_softcapping", c.final_softcap);
  WriteWindows(c, p, w);
  if (c.moe.num_experts == 0) return;
  w.Set(p + "expert_count", U32(c.moe.num_experts));
  w.Set(p + "expert_used_count", U32(c.moe.num_used));
  w.Set(p + "expert_feed_forward_length", U32(c.moe.ffn_dim));
  if (c.moe.shared_ffn_dim != 0) {
    w.Set(p + "expert_shared_feed_forward_length", U32(c.moe.shared_ffn_dim));
  }
  w.Set(p + "expert_weights_norm", c.moe.renormalise);
}

GgufPooling PoolingOf(const EncoderConfig& c) {
  if (c.num_labels > 0) return GgufPooling::kRank;
  switch (c.pooling) {
    case Pooling::kFirst:
      return GgufPooling::kCls;
    case Pooling::kLast:
      return GgufPooling::kLast;
    case Pooling::kMean:
      break;
  }
  return GgufPooling::kMean;
}

void WriteEncoder(const EncoderConfig& c, int32_t max_model_len, GgufWriter& w) {
  w.Set("bert.context_length", U32(c.max_positions));
  w.Set("bert.embedding_length", U32(c.model_dim));
  w.Set("bert.feed_forward_length", U32(c.ffn_dim));
  w.Set("bert.block_count", U32(c.num_layers));
  w.Set("bert.attention.head_count", U32(c.num_heads));
  w.Set("bert.attention.layer_norm_epsilon", c.norm_eps);
  w.Set("bert.attention.causal", false);
  w.Set("bert.pooling_type", static_cast<uint32_t>(PoolingOf(c)));
  w.Set("tokenizer.ggml.token_type_count", U32(c.num_types));
  if (!c.normalise) w.Set(kNormaliseKey, false);
  if (max_model_len != c.max_positions) w.Set(kMaxModelLenKey, U32(max_model_len));
  if (c.num_labels == 0) return;
  std::vector<std::string> labels;
  labels.reserve(static_cast<size_t>(c.num_labels));
  for (int32_t i = 0; i < c.num_labels; ++i) labels.push_back(fmt::format("LABEL_{}", i));
  w.Set("bert.classifier.output_labels", std::span<const std::string>(labels));
}

// A vector of the header as a tensor of the file. The values outlive the writer.
void AddDivisors(std::string name, const std::vector<float>& values, GgufWriter& w) {
  GgufTensorSource tensor{.name = std::move(name), .dtype = DType::kF32, .num_dims = 1};
  tensor.dims[0] = static_cast<int64_t>(values.size());
  tensor.write = [&values](const GgufSink& sink) {
    return sink({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)});
  };
  w.Add(std::move(tensor));
}

void WriteYarn(const YarnScaling& yarn, double magnitude, const std::string& p, GgufWriter& w) {
  w.Set(p + "rope.scaling.type", std::string_view("yarn"));
  w.Set(p + "rope.scaling.factor", static_cast<float>(yarn.factor));
  w.Set(p + "rope.scaling.original_context_length", U32(yarn.original_context));
  w.Set(p + "rope.scaling.yarn_beta_fast", static_cast<float>(yarn.beta_fast));
  w.Set(p + "rope.scaling.yarn_beta_slow", static_cast<float>(yarn.beta_slow));
  // GGUF's factor comes on top of the paper's.
  const double usual = yarn.factor > 1 ? 0.1 * std::log(yarn.factor) + 1 : 1;
  w.Set(p + "rope.scaling.attn_factor", static_cast<float>(magnitude / usual));
}

void WriteRope(const HfFolder& folder, const std::string& p, GgufWriter& w) {
  const ModelConfig& c = folder.config().config;
  const RopeConfig& rope = c.rope;
  w.Set(p + "rope.dimension_count", U32(rope.dim));
  w.Set(p + "rope.freq_base", static_cast<float>(rope.theta));
  if (c.window_rope.has_value()) {
    w.Set(p + "rope.freq_base_swa", static_cast<float>(c.window_rope->theta));
  }
  if (rope.position_scale != 1) {
    w.Set(p + "rope.scaling.type", std::string_view("linear"));
    w.Set(p + "rope.scaling.factor", static_cast<float>(1 / rope.position_scale));
  }
  if (folder.config().yarn.has_value()) {
    WriteYarn(*folder.config().yarn, rope.magnitude, p, w);
  } else if (!rope.long_divisors.empty()) {
    w.Set(p + "rope.scaling.type", std::string_view("longrope"));
    w.Set(p + "rope.scaling.original_context_length", U32(rope.original_context));
    w.Set(p + "rope.scaling.attn_factor", static_cast<float>(rope.magnitude));
    AddDivisors("rope_factors_short.weight", rope.divisors, w);
    AddDivisors("rope_factors_long.weight", rope.long_divisors, w);
  } else if (!rope.divisors.empty()) {
    AddDivisors("rope_freqs.weight", rope.divisors, w);
  }
}

void WriteGeneration(const GenerationDefaults& g, GgufWriter& w) {
  const GenerationDefaults none;
  const auto number = [&](std::string_view key, float value, float otherwise) {
    if (value != otherwise) w.Set(key, value);
  };
  number("general.sampling.temp", g.temperature, none.temperature);
  number("general.sampling.top_p", g.top_p, none.top_p);
  number("general.sampling.min_p", g.min_p, none.min_p);
  number("general.sampling.penalty_repeat", g.repetition_penalty, none.repetition_penalty);
  if (g.top_k != none.top_k) w.Set("general.sampling.top_k", U32(g.top_k));
}

bool Near(double a, double b) {
  return std::abs(a - b) <= 1e-6 * std::max(std::abs(a), std::abs(b));
}

bool SameDivisors(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) { return Near(x, y); });
}

bool SameRope(const RopeConfig& a, const RopeConfig& b) {
  return Near(a.theta, b.theta) && a.dim == b.dim && Near(a.position_scale, b.position_scale) &&
         Near(a.magnitude, b.magnitude) && SameDivisors(a.divisors, b.divisors) &&
         SameDivisors(a.long_divisors, b.long_divisors) &&
         (a.long_divisors.empty() || a.original_context == b.original_context);
}

bool SameWindowRope(const ModelConfig& a, const ModelConfig& b) {
  if (a.window_rope.has_value() != b.window_rope.has_value()) return false;
  return !a.window_rope.has_value() || SameRope(*a.window_rope, *b.window_rope);
}

bool SameMoe(const MoeConfig& a, const MoeConfig& b) {
  return a.num_experts == b.num_experts && a.num_used == b.num_used &&
         (a.num_experts == 0 || a.ffn_dim == b.ffn_dim) && a.shared_ffn_dim == b.shared_ffn_dim &&
         a.renormalise == b.renormalise;
}

}  // namespace

void CopyMetadata(const GgufFile& file, std::optional<DType> quantise, GgufWriter& writer) {
  for (const GgufMetadata& entry : file.metadata()) {
    const bool of_tensors = entry.key == "general.alignment" || entry.key.starts_with("split.") ||
                            (quantise.has_value() && (entry.key == "general.file_type" ||
                                                      entry.key == "general.quantization_version"));
    if (!of_tensors) writer.Set(entry.key, entry.value);
  }
  if (!quantise.has_value()) return;
  writer.Set("general.file_type", FileType(*quantise));
  writer.Set("general.quantization_version", uint32_t{2});
}

absl::Status WriteMetadata(const ModelFile& model, std::optional<DType> quantise,
                           const PreTokenizerNamer& name_of, GgufWriter& writer) {
  const ModelConfig& c = model.config;
  const std::string prefix = c.architecture + ".";
  writer.Set("general.architecture", std::string_view(c.architecture));
  writer.Set("general.name", std::string_view(model.info.name));
  writer.Set("general.file_type", FileType(quantise.value_or(MainType(model.tensors()))));
  writer.Set("general.quantization_version", uint32_t{2});
  if (model.encoder.has_value()) {
    WriteEncoder(model.encoder->config, model.info.max_model_len, writer);
  } else {
    WriteSizes(c, prefix, writer);
    WriteRope(*model.folder, prefix, writer);
    WriteGeneration(model.info.generation, writer);
  }
  return WriteGgufTokenizer(model.tensors().source, model.info, name_of, writer);
}

absl::Status CheckSameConfig(const std::string& file, const ModelConfig& a, const ModelConfig& b) {
  const struct {
    std::string_view what;
    bool same;
  } kParts[] = {
      {"sizes", a.model_dim == b.model_dim && a.ffn_dim == b.ffn_dim &&
                    a.vocab_size == b.vocab_size && a.num_layers == b.num_layers},
      {"heads", a.num_q_heads == b.num_q_heads && a.num_kv_heads == b.num_kv_heads &&
                    a.head_dim == b.head_dim},
      {"context", a.max_context == b.max_context},
      {"norm epsilon", a.norm_eps == b.norm_eps},
      {"embedding scale", a.embedding_scale == b.embedding_scale},
      {"attention scale", a.attention_scale == b.attention_scale},
      {"soft-capping",
       a.attention_softcap == b.attention_softcap && a.final_softcap == b.final_softcap},
      {"activation", a.activation == b.activation},
      {"rotary positions", SameRope(a.rope, b.rope)},
      {"rotary positions of layers with a window", SameWindowRope(a, b)},
      {"attention windows", a.windows == b.windows},
      {"mixture of experts", SameMoe(a.moe, b.moe)},
  };
  for (const auto& part : kParts) {
    if (part.same) continue;
    return absl::UnimplementedError(fmt::format(
        "{}: GGUF has no keys for this model's {}; the file was not made", file, part.what));
  }
  return absl::OkStatus();
}

}  // namespace sluice
