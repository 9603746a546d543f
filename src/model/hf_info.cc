#include "model/hf_info.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "model/hf_folder.h"
#include "model/hf_tokenizer.h"
#include "model/mapped_file.h"
#include "model/model_limits.h"

namespace sluice {
namespace {

namespace json = boost::json;

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

absl::StatusOr<std::optional<HfJson>> OpenIfThere(const std::string& path, int64_t max_bytes) {
  if (!Exists(path)) return std::nullopt;
  ASSIGN_OR_RETURN(HfJson file, HfJson::Open(path, max_bytes));
  return file;
}

absl::Status CheckTemplateSize(const std::string& source, size_t size) {
  if (size <= kMaxTemplateBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: the chat template has {} bytes; at most {} are allowed", source, size,
                  kMaxTemplateBytes));
}

// Of a list of {"name": ..., "template": ...}.
absl::StatusOr<std::string_view> DefaultTemplate(const HfObject& config, const json::array& list) {
  constexpr std::string_view kKey = "chat_template";
  for (const json::value& element : list) {
    if (!element.is_object())
      return config.KeyError(kKey, "is a list of other things than objects");
    const HfObject named(config.source(), element.get_object(), "chat_template.");
    ASSIGN_OR_RETURN(const std::string_view name, named.GetString("name"));
    if (name == "default") return named.GetString("template");
  }
  return config.KeyError(kKey, "is a list of templates without one named 'default'");
}

}  // namespace

absl::StatusOr<GenerationDefaults> ReadHfGeneration(const HfObject& root) {
  GenerationDefaults g;
  const struct {
    std::string_view key;
    double min, max;
    float* out;
  } kNumbers[] = {{"temperature", 0, 100, &g.temperature},
                  {"top_p", 1e-6, 1, &g.top_p},
                  {"min_p", 0, 1, &g.min_p},
                  {"repetition_penalty", 1e-3, 100, &g.repetition_penalty}};
  for (const auto& number : kNumbers) {
    ASSIGN_OR_RETURN(const double value,
                     root.GetFloatOr(number.key, number.min, number.max, *number.out));
    *number.out = static_cast<float>(value);
  }
  ASSIGN_OR_RETURN(const int64_t top_k, root.GetIntOr("top_k", 0, kMaxVocab, 0));
  g.top_k = static_cast<int32_t>(top_k);
  return g;
}

absl::StatusOr<std::vector<TokenId>> ReadHfTokenIds(const HfObject& root, std::string_view key,
                                                    int32_t vocab_size) {
  std::vector<TokenId> ids;
  const json::value* value = root.Find(key);
  if (value == nullptr) return ids;
  if (!value->is_array()) {
    ASSIGN_OR_RETURN(const int64_t id, root.GetInt(key, 0, vocab_size - 1));
    ids.push_back(static_cast<TokenId>(id));
    return ids;
  }
  constexpr size_t kMaxEndTokens = 256;
  ASSIGN_OR_RETURN(const std::vector<double> numbers,
                   root.GetFloats(key, 0, vocab_size - 1, kMaxEndTokens));
  for (const double number : numbers) {
    const auto id = static_cast<TokenId>(number);
    if (static_cast<double>(id) != number)
      return root.KeyError(key, "has a token id with a fraction");
    ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<std::string> ReadHfChatTemplate(const std::string& folder,
                                               const std::optional<HfObject>& config) {
  const std::string path = (std::filesystem::path(folder) / "chat_template.jinja").string();
  if (Exists(path)) {
    ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    RETURN_IF_ERROR(CheckTemplateSize(path, file.bytes().size()));
    return std::string(file.bytes().begin(), file.bytes().end());
  }
  constexpr std::string_view kKey = "chat_template";
  const json::value* value = config.has_value() ? config->Find(kKey) : nullptr;
  if (value == nullptr) return std::string();
  ASSIGN_OR_RETURN(const std::string_view text, value->is_array()
                                                    ? DefaultTemplate(*config, value->get_array())
                                                    : config->GetString(kKey));
  RETURN_IF_ERROR(CheckTemplateSize(config->source(), text.size()));
  return std::string(text);
}

absl::StatusOr<ModelInfo> HfFolder::ReadInfo() const {
  const ModelConfig& c = config_.config;
  ModelInfo info;
  const std::filesystem::path absolute = std::filesystem::absolute(path_).lexically_normal();
  // "dir/name/" has an empty last part.
  info.name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
  info.architecture = c.architecture;
  info.hash = Hash();
  info.vocab_size = c.vocab_size;
  info.max_model_len = c.max_context;
  ASSIGN_OR_RETURN(info.tokenizer, ReadHfTokenizer(path_, c.vocab_size));

  ASSIGN_OR_RETURN(const std::optional<HfJson> generation,
                   OpenIfThere(File("generation_config.json"), kMaxConfigBytes));
  std::vector<HfObject> sources;  // of end tokens; the first that names some is the model's first
  if (generation.has_value()) {
    sources.push_back(generation->root());
    ASSIGN_OR_RETURN(info.generation, ReadHfGeneration(generation->root()));
  }
  sources.push_back(json_.root());
  if (config_.nested) {
    ASSIGN_OR_RETURN(const HfObject text, json_.root().GetObject("text_config"));
    sources.push_back(text);
  }
  for (const HfObject& source : sources) {
    ASSIGN_OR_RETURN(std::vector<TokenId> ids,
                     ReadHfTokenIds(source, "eos_token_id", c.vocab_size));
    if (info.tokenizer.eos >= 0) ids.push_back(info.tokenizer.eos);
    for (const TokenId id : ids) {
      if (std::ranges::find(info.eos_ids, id) == info.eos_ids.end()) info.eos_ids.push_back(id);
    }
  }
  if (info.tokenizer.eos < 0 && !info.eos_ids.empty()) info.tokenizer.eos = info.eos_ids.front();
  if (info.tokenizer.bos < 0) {
    ASSIGN_OR_RETURN(const std::vector<TokenId> bos,
                     ReadHfTokenIds(json_.root(), "bos_token_id", c.vocab_size));
    if (!bos.empty()) info.tokenizer.bos = bos.front();
  }
  ASSIGN_OR_RETURN(const std::optional<HfJson> tokenizer,
                   OpenIfThere(File("tokenizer_config.json"), kMaxTokenizerConfigBytes));
  std::optional<HfObject> root;
  if (tokenizer.has_value()) root.emplace(tokenizer->root());
  ASSIGN_OR_RETURN(info.chat_template, ReadHfChatTemplate(path_, root));
  return info;
}

}  // namespace sluice
