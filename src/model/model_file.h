// A model's file, opened and checked: what it says about itself, its forward pass and its weights.
// Immutable.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/gguf.h"
#include "model/model_config.h"
#include "model/weight_views.h"
#include "sluice/model_info.h"

namespace sluice {

struct ModelFile {
  std::unique_ptr<GgufFile> gguf;  // the views below point into it
  ModelInfo info;                  // info.name: the file's stem
  ModelConfig config;
  WeightViews weights;

  // Errors: those of GgufFile::Open; InvalidArgument for keys or tensors that are missing, of the
  // wrong type or shape, or beyond a limit; Unimplemented for an architecture that is not
  // supported, with the list of those that are.
  static absl::StatusOr<ModelFile> Open(const std::string& path);
  static absl::StatusOr<ModelFile> FromGguf(std::unique_ptr<GgufFile> gguf);
};

}  // namespace sluice
