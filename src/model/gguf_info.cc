#include "model/gguf_info.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "model/gguf_tokenizer.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

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

}  // namespace

absl::StatusOr<ModelInfo> ReadGgufInfo(const GgufFile& file, const ModelConfig& config) {
  ModelInfo info;
  info.name = std::filesystem::path(file.name()).stem().string();
  info.architecture = config.architecture;
  info.hash = HashOf(file);
  info.vocab_size = config.vocab_size;
  info.max_model_len = config.max_context;
  ASSIGN_OR_RETURN(info.tokenizer, ReadGgufTokenizer(file, config.vocab_size));
  for (const std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"}) {
    ASSIGN_OR_RETURN(const TokenId id, ReadGgufTokenId(file, key, config.vocab_size));
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
  return info;
}

}  // namespace sluice
