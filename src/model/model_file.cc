#include "model/model_file.h"

#include <utility>

#include "base/status_macros.h"
#include "model/gguf_config.h"
#include "model/gguf_info.h"

namespace sluice {

absl::StatusOr<ModelFile> ModelFile::Open(const std::string& path) {
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
