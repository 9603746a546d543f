// Bodies of the admin port's requests.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "sluice/service.h"

namespace sluice {

// {"name", "path", "settings": {"kv-cache-mib": 64, ...}}. Errors: InvalidArgument with `param`.
absl::StatusOr<LoadModelRequest> ParseLoadModel(std::string_view body, int max_json_depth);
// {"name"}: the model to unload.
absl::StatusOr<std::string> ParseUnloadModel(std::string_view body, int max_json_depth);

}  // namespace sluice
