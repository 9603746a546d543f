// What a GGUF file's metadata says about the model besides its forward pass: tokenizer, chat
// template, sampling defaults.
#pragma once

#include "absl/status/statusor.h"
#include "model/gguf.h"
#include "model/model_config.h"
#include "sluice/model_info.h"

namespace sluice {

// Errors: InvalidArgument for keys that are missing, of the wrong type or beyond a limit.
absl::StatusOr<ModelInfo> ReadGgufInfo(const GgufFile& file, const ModelConfig& config);

}  // namespace sluice
