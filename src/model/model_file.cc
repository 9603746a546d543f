#include "model/model_file.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "model/gguf_config.h"
#include "model/gguf_encoder.h"
#include "model/gguf_info.h"

namespace sluice {

namespace {

// What of an encoder's numbers has the same meaning as a decoder's.
ModelConfig Describe(const EncoderConfig& encoder) {
  ModelConfig config;
  config.architecture = "bert";
  config.model_dim = encoder.model_dim;
  config.ffn_dim = encoder.ffn_dim;
  config.vocab_size = encoder.vocab_size;
  config.num_layers = encoder.num_layers;
  config.num_q_heads = config.num_kv_heads = encoder.num_heads;
  config.head_dim = encoder.head_dim();
  config.max_context = encoder.max_positions;
  config.norm_eps = encoder.norm_eps;
  return config;
}

absl::StatusOr<ModelFile> OpenBert(const std::string& path) {
  ModelFile model;
  ASSIGN_OR_RETURN(model.bert, BertFolder::Open(path));
  EncoderFile& encoder = model.encoder.emplace();
  encoder.config = model.bert->config();
  model.config = Describe(encoder.config);
  ASSIGN_OR_RETURN(encoder.weights, FindEncoder(model.bert->tensors(), encoder.config));
  ASSIGN_OR_RETURN(model.info, model.bert->ReadInfo());
  return model;
}

absl::StatusOr<ModelFile> OpenGgufEncoder(std::unique_ptr<GgufFile> gguf) {
  ModelFile model;
  ASSIGN_OR_RETURN(const GgufEncoder read, ReadGgufEncoder(*gguf));
  const EncoderConfig& c = read.config;
  EncoderFile& encoder = model.encoder.emplace();
  encoder.config = c;
  model.config = Describe(c);
  ASSIGN_OR_RETURN(encoder.weights, FindEncoder(gguf->tensors(), c));
  ASSIGN_OR_RETURN(model.info, ReadGgufInfo(*gguf, model.config));
  model.info.max_model_len = read.max_model_len;
  model.info.task = c.num_labels > 0 ? ModelTask::kScore : ModelTask::kEmbed;
  model.info.vector_dim = c.output_dim();
  model.info.normalise = c.normalise;
  model.gguf = std::move(gguf);
  return model;
}

absl::StatusOr<ModelFile> OpenFolder(const std::string& path, bool keep_fp8) {
  const std::string config = (std::filesystem::path(path) / "config.json").string();
  ASSIGN_OR_RETURN(const HfJson json, HfJson::Open(config, HfFolder::kMaxConfigBytes));
  if (IsBertFolder(json.root())) return OpenBert(path);
  ModelFile model;
  ASSIGN_OR_RETURN(model.folder, HfFolder::Open(path, keep_fp8));
  model.config = model.folder->config().config;
  ASSIGN_OR_RETURN(model.weights, FindWeights(model.folder->tensors(), model.config));
  ASSIGN_OR_RETURN(model.info, model.folder->ReadInfo());
  return model;
}

}  // namespace

absl::StatusOr<ModelFile> ModelFile::Open(const std::string& path, bool keep_fp8) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return OpenFolder(path, keep_fp8);
  ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> gguf, GgufFile::Open(path));
  return FromGguf(std::move(gguf));
}

absl::StatusOr<ModelFile> ModelFile::FromGguf(std::unique_ptr<GgufFile> gguf) {
  ASSIGN_OR_RETURN(const int64_t parts, gguf->GetIntOr("split.count", 0, 65535, 1));
  if (parts > gguf->num_parts()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: one of {} parts of a model; the others are not there", gguf->name(), parts));
  }
  if (IsGgufEncoder(*gguf)) return OpenGgufEncoder(std::move(gguf));
  ModelFile model;
  ASSIGN_OR_RETURN(model.config, ReadGgufConfig(*gguf));
  ASSIGN_OR_RETURN(model.weights, FindWeights(gguf->tensors(), model.config));
  ASSIGN_OR_RETURN(model.info, ReadGgufInfo(*gguf, model.config));
  ASSIGN_OR_RETURN(model.pooling, ReadGgufPooling(*gguf, model.config.architecture));
  model.gguf = std::move(gguf);
  return model;
}

}  // namespace sluice
