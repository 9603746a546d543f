// The description of the HTTP API that /openapi.json serves.
#pragma once

#include <string_view>

namespace sluice {

// OpenAPI 3.1, a constant.
[[nodiscard]] std::string_view OpenApiDocument();

}  // namespace sluice
