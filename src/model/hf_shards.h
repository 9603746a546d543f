// The tensor files of a Hugging Face folder.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/safetensors.h"

namespace sluice {

// Reads model.safetensors.index.json and the files that it names, or else model.safetensors.
// Errors: those of SafetensorsFile; InvalidArgument for an index that names files outside the
// folder or tensors that its files do not hold.
absl::StatusOr<std::vector<SafetensorsFile>> OpenTensorFiles(const std::string& folder);

}  // namespace sluice
