// The forward pass that a GGUF file's metadata describes.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/gguf.h"
#include "model/model_config.h"

namespace sluice {

// Errors: InvalidArgument for keys that are missing, of the wrong type or beyond a limit;
// Unimplemented for an architecture that is not supported, with the list of those that are.
absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufFile& file);

// ModelConfig::windows of a file that names the window and nothing else of them.
[[nodiscard]] std::vector<int32_t> ImpliedWindows(std::string_view architecture, int32_t num_layers,
                                                  int32_t window);

}  // namespace sluice
