// For programs that embed Sluice: the same Service that the server's front ends use.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "sluice/config.h"
#include "sluice/service.h"

namespace sluice {

// Loads config.model and starts its engine; the front-end settings are not used. Takes seconds for
// a large model. Errors: what is wrong with the file or the settings, in one sentence.
absl::StatusOr<std::unique_ptr<Service>> CreateService(const Config& config);

}  // namespace sluice
