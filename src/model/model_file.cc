#include "model/model_file.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "model/gguf_config.h"
#include "model/gguf_info.h"

namespace sluice {

namespace {

absl::StatusOr<ModelFile> OpenFolder(const std::string& path) {
  ModelFile model;
  ASSIGN_OR_RETURN(model.folder, HfFolder::Open(path));
  model.config = model.folder->config().config;
  ASSIGN_OR_RETURN(model.weights, FindWeights(model.folder->tensors(), model.config));
  ASSIGN_OR_RETURN(model.info, model.folder->ReadInfo());
  return model;
}

}  // namespace

absl::StatusOr<ModelFile> ModelFile::Open(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return OpenFolder(path);
  ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> gguf, GgufFile::Open(path));
  return FromGguf(std::move(gguf));
}

absl::StatusOr<ModelFile> ModelFile::FromGguf(std::unique_ptr<GgufFile> gguf) {
  ModelFile model;
  ASSIGN_OR_RETURN(model.config, ReadGgufConfig(*gguf));
  ASSIGN_OR_RETURN(model.weights, FindWeights(gguf->tensors(), model.config));
  ASSIGN_OR_RETURN(model.info, ReadGgufInfo(*gguf, model.config));
  model.gguf = std::move(gguf);
  return model;
}

}  // namespace sluice
