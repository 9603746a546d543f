#include "model/model_file.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"

namespace sluice {
namespace {

// Limits far above any model of today and far below where a product of two would overflow 31 bits
// of a column count.
constexpr int64_t kMaxModelDim = 1 << 16, kMaxFfnDim = 1 << 19, kMaxLayers = 1024, kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 256, kMaxVocab = 1 << 21, kMaxContext = 1 << 24,
                  kMaxMerges = 1 << 22;
constexpr int64_t kMaxQkvCols = 1 << 18;
constexpr uint64_t kMaxTemplateBytes = 1 << 20;
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

absl::StatusOr<ModelConfig> ReadConfig(const GgufFile& file, std::string_view architecture) {
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

  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
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

absl::StatusOr<TokenId> ReadTokenId(const GgufFile& file, std::string_view key,
                                    int32_t vocab_size) {
  ASSIGN_OR_RETURN(const int64_t id, file.GetIntOr(key, 0, vocab_size - 1, -1));
  return static_cast<TokenId>(id);
}

absl::Status ReadTokenTypes(const GgufFile& file, TokenizerData& data) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  if (file.Find(kKey) == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<int64_t> types, file.GetInts(kKey, data.tokens.size()));
  if (types.size() != data.tokens.size()) {
    return file.KeyError(
        kKey, fmt::format("has {} elements for {} tokens", types.size(), data.tokens.size()));
  }
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 1 || types[i] > 6) {
      return file.KeyError(
          kKey, fmt::format("has {} at element {}; token types are 1 to 6", types[i], i));
    }
    data.types[i] =
        static_cast<TokenType>(types[i] - 1);  // GGUF counts from 1 in TokenType's order
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerData> ReadTokenizer(const GgufFile& file, int32_t vocab_size) {
  TokenizerData data;
  ASSIGN_OR_RETURN(data.model, file.GetString("tokenizer.ggml.model"));
  ASSIGN_OR_RETURN(data.pre_tokenizer, file.GetStringOr("tokenizer.ggml.pre", "default"));
  {
    constexpr std::string_view kKey = "tokenizer.ggml.tokens";
    ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens, file.GetStrings(kKey, kMaxVocab));
    if (tokens.size() != static_cast<size_t>(vocab_size)) {
      return file.KeyError(kKey, fmt::format("has {} tokens; 'token_embd.weight' has {} rows",
                                             tokens.size(), vocab_size));
    }
    data.tokens.assign(tokens.begin(), tokens.end());
  }
  RETURN_IF_ERROR(ReadTokenTypes(file, data));
  if (file.Find("tokenizer.ggml.scores") != nullptr) {
    ASSIGN_OR_RETURN(data.scores, file.GetFloats("tokenizer.ggml.scores", data.tokens.size()));
    if (data.scores.size() != data.tokens.size()) {
      return file.KeyError(
          "tokenizer.ggml.scores",
          fmt::format("has {} elements for {} tokens", data.scores.size(), data.tokens.size()));
    }
  }
  if (file.Find("tokenizer.ggml.merges") != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<std::string_view> merges,
                     file.GetStrings("tokenizer.ggml.merges", kMaxMerges));
    data.merges.assign(merges.begin(), merges.end());
  }
  ASSIGN_OR_RETURN(data.bos, ReadTokenId(file, "tokenizer.ggml.bos_token_id", vocab_size));
  ASSIGN_OR_RETURN(data.eos, ReadTokenId(file, "tokenizer.ggml.eos_token_id", vocab_size));
  ASSIGN_OR_RETURN(data.unknown, ReadTokenId(file, "tokenizer.ggml.unknown_token_id", vocab_size));
  ASSIGN_OR_RETURN(data.padding, ReadTokenId(file, "tokenizer.ggml.padding_token_id", vocab_size));
  ASSIGN_OR_RETURN(data.add_bos, file.GetBoolOr("tokenizer.ggml.add_bos_token", false));
  ASSIGN_OR_RETURN(data.add_eos, file.GetBoolOr("tokenizer.ggml.add_eos_token", false));
  ASSIGN_OR_RETURN(data.add_space_prefix, file.GetBoolOr("tokenizer.ggml.add_space_prefix", false));
  return data;
}

absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const GgufFile& file) {
  GenerationDefaults g;
  const auto read = [&](std::string_view key, double min, double max, float& out) -> absl::Status {
    ASSIGN_OR_RETURN(const double value, file.GetFloatOr(key, min, max, out));
    out = static_cast<float>(value);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read("general.sampling.temp", 0, 100, g.temperature));
  RETURN_IF_ERROR(read("general.sampling.top_p", 1e-6, 1, g.top_p));
  RETURN_IF_ERROR(read("general.sampling.min_p", 0, 1, g.min_p));
  RETURN_IF_ERROR(read("general.sampling.penalty_repeat", 1e-3, 100, g.repetition_penalty));
  ASSIGN_OR_RETURN(const int64_t top_k, file.GetIntOr("general.sampling.top_k", 0, kMaxVocab, 0));
  g.top_k = static_cast<int32_t>(top_k);
  return g;
}

// XXH3-128 of everything before the tensor data and of the file's size.
std::string HashOf(const GgufFile& file) {
  const std::span<const uint8_t> header = file.header();
  const int64_t size = file.num_bytes();
  const XXH128_hash_t of_header = XXH3_128bits(header.data(), header.size());
  const uint64_t parts[] = {of_header.low64, of_header.high64, static_cast<uint64_t>(size)};
  const XXH128_hash_t hash = XXH3_128bits(parts, sizeof(parts));
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

absl::Status ReadInfo(const GgufFile& file, const ModelConfig& config, ModelInfo& info) {
  info.name = std::filesystem::path(file.name()).stem().string();
  info.architecture = config.architecture;
  info.hash = HashOf(file);
  info.vocab_size = config.vocab_size;
  info.max_model_len = config.max_context;
  ASSIGN_OR_RETURN(info.tokenizer, ReadTokenizer(file, config.vocab_size));
  for (const std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"}) {
    ASSIGN_OR_RETURN(const TokenId id, ReadTokenId(file, key, config.vocab_size));
    if (id >= 0 && std::ranges::find(info.eos_ids, id) == info.eos_ids.end())
      info.eos_ids.push_back(id);
  }
  ASSIGN_OR_RETURN(info.chat_template, file.GetStringOr("tokenizer.chat_template", ""));
  if (info.chat_template.size() > kMaxTemplateBytes) {
    return file.KeyError("tokenizer.chat_template",
                         fmt::format("has {} bytes; at most {} are allowed",
                                     info.chat_template.size(), kMaxTemplateBytes));
  }
  ASSIGN_OR_RETURN(info.generation, ReadGenerationDefaults(file));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelFile> ModelFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> gguf, GgufFile::Open(path));
  return FromGguf(std::move(gguf));
}

absl::StatusOr<ModelFile> ModelFile::FromGguf(std::unique_ptr<GgufFile> gguf) {
  ModelFile model;
  ASSIGN_OR_RETURN(const std::string_view architecture, gguf->GetString("general.architecture"));
  RETURN_IF_ERROR(CheckArchitecture(*gguf, architecture));
  ASSIGN_OR_RETURN(model.config, ReadConfig(*gguf, architecture));
  ASSIGN_OR_RETURN(model.weights, FindWeights(*gguf, model.config));
  RETURN_IF_ERROR(ReadInfo(*gguf, model.config, model.info));
  model.gguf = std::move(gguf);
  return model;
}

}  // namespace sluice
