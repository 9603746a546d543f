#include "model/convert_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status_macros.h"
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
  const auto window = std::ranges::max_element(c.windows);
  if (window != c.windows.end()) w.Set(p + "attention.sliding_window", U32(*window));
  if (c.moe.num_experts == 0) return;
  w.Set(p + "expert_count", U32(c.moe.num_experts));
  w.Set(p + "expert_used_count", U32(c.moe.num_used));
  w.Set(p + "expert_feed_forward_length", U32(c.moe.ffn_dim));
  if (c.moe.shared_ffn_dim != 0) {
    w.Set(p + "expert_shared_feed_forward_length", U32(c.moe.shared_ffn_dim));
  }
  w.Set(p + "expert_weights_norm", c.moe.renormalise);
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

// GGUF's name for the way a byte-level tokenizer cuts words; empty where it has none that we know.
std::string_view PreTokenizerName(const TokenizerData& t) {
  using Kind = PreTokenizerStep::Kind;
  if (!t.pre_tokenizer.empty()) return t.pre_tokenizer;
  const std::vector<PreTokenizerStep>& steps = t.pre_tokenizer_steps;
  // Qwen's files compose characters first; GGUF's name for its rules does not say so.
  const bool composes =
      t.normalizer.size() == 1 && t.normalizer[0].kind == NormalizerStep::Kind::kNfc;
  if (steps.empty() || steps.back().kind != Kind::kByteLevel) return {};
  if (!t.normalizer.empty() && !composes) return {};
  if (steps.size() == 1 && steps[0].use_regex) return "gpt-2";
  if (steps.size() != 2) return {};
  if (steps[0].kind == Kind::kDigits && steps[0].single && steps[1].use_regex) return "smollm";
  if (steps[0].kind != Kind::kRegex || steps[1].use_regex) return {};
  const std::string head = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  const std::string tail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (steps[0].pattern == head + R"(\p{N}{1,3})" + tail) return "llama-bpe";
  if (steps[0].pattern == head + R"(\p{N})" + tail) return "qwen2";
  return {};
}

// GGUF's tokenizers of characters merge by the score of what comes out; merges in their order give
// such scores.
std::vector<float> ScoresOf(const TokenizerData& t) {
  std::vector<float> scores(t.scores.begin(), t.scores.end());
  if (!scores.empty() || t.model != "llama") return scores;
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < t.tokens.size(); ++i) ids.emplace(t.tokens[i], i);
  const auto worst = -static_cast<float>(t.merges.size() + 1);
  scores.assign(t.tokens.size(), worst);
  for (size_t rank = 0; rank < t.merges.size(); ++rank) {
    std::string merged = t.merges[rank];
    merged.erase(merged.find(' '), 1);
    const auto id = ids.find(merged);
    if (id == ids.end() || scores[id->second] != worst) continue;
    scores[id->second] = -static_cast<float>(rank + 1);
  }
  return scores;
}

bool HasToken(const std::vector<TemplatePiece>& pieces, TokenId token) {
  return token >= 0 && std::ranges::any_of(pieces, [&](const TemplatePiece& piece) {
           return piece.kind == TemplatePiece::Kind::kToken && piece.token == token;
         });
}

void WriteTokenIds(const ModelInfo& info, GgufWriter& w) {
  const TokenizerData& t = info.tokenizer;
  const auto id = [&](std::string_view key, TokenId value) {
    if (value >= 0) w.Set(key, static_cast<uint32_t>(value));
  };
  id("tokenizer.ggml.bos_token_id", t.bos);
  id("tokenizer.ggml.eos_token_id", t.eos);
  id("tokenizer.ggml.unknown_token_id", t.unknown);
  id("tokenizer.ggml.padding_token_id", t.padding);
  // GGUF has three keys for tokens that end an answer.
  std::vector<TokenId> others;
  std::ranges::copy_if(info.eos_ids, std::back_inserter(others),
                       [&](TokenId end) { return end != t.eos; });
  if (!others.empty()) id("tokenizer.ggml.eot_token_id", others[0]);
  if (others.size() > 1) id("tokenizer.ggml.eom_token_id", others[1]);
  w.Set("tokenizer.ggml.add_bos_token", t.add_bos || HasToken(t.single, t.bos));
  w.Set("tokenizer.ggml.add_eos_token", t.add_eos || HasToken(t.single, t.eos));
  w.Set("tokenizer.ggml.add_space_prefix", t.add_space_prefix);
}

absl::Status WriteTokenizer(const std::string& source, const ModelInfo& info, GgufWriter& w) {
  const TokenizerData& t = info.tokenizer;
  w.Set("tokenizer.ggml.model", std::string_view(t.model));
  const std::string_view pre = t.model == "gpt2" ? PreTokenizerName(t) : "default";
  if (pre.empty() || !t.merge_pairs.empty()) {
    return absl::UnimplementedError(
        fmt::format("{}: GGUF has no name for the way this tokenizer cuts words", source));
  }
  w.Set("tokenizer.ggml.pre", pre);
  w.Set("tokenizer.ggml.tokens", std::span<const std::string>(t.tokens));
  std::vector<int32_t> types;
  types.reserve(t.types.size());
  for (const TokenType type : t.types) types.push_back(static_cast<int32_t>(type) + 1);
  w.Set("tokenizer.ggml.token_type", std::span<const int32_t>(types));
  const std::vector<float> scores = ScoresOf(t);
  if (!scores.empty()) w.Set("tokenizer.ggml.scores", std::span<const float>(scores));
  if (!t.merges.empty()) w.Set("tokenizer.ggml.merges", std::span<const std::string>(t.merges));
  WriteTokenIds(info, w);
  if (!info.chat_template.empty()) {
    w.Set("tokenizer.chat_template", std::string_view(info.chat_template));
  }
  return absl::OkStatus();
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
    const bool of_tensors = entry.key == "general.alignment" ||
                            (quantise.has_value() && (entry.key == "general.file_type" ||
                                                      entry.key == "general.quantization_version"));
    if (!of_tensors) writer.Set(entry.key, entry.value);
  }
  if (!quantise.has_value()) return;
  writer.Set("general.file_type", FileType(*quantise));
  writer.Set("general.quantization_version", uint32_t{2});
}

absl::Status WriteMetadata(const ModelFile& model, std::optional<DType> quantise,
                           GgufWriter& writer) {
  const ModelConfig& c = model.config;
  const std::string prefix = c.architecture + ".";
  writer.Set("general.architecture", std::string_view(c.architecture));
  writer.Set("general.name", std::string_view(model.info.name));
  writer.Set("general.file_type", FileType(quantise.value_or(MainType(model.tensors()))));
  writer.Set("general.quantization_version", uint32_t{2});
  WriteSizes(c, prefix, writer);
  WriteRope(*model.folder, prefix, writer);
  WriteGeneration(model.info.generation, writer);
  return WriteTokenizer(model.folder->path(), model.info, writer);
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
