// The only wiring: from settings to a running Service.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "service/local_service.h"
#include "sluice/config.h"

namespace sluice {

// As CreateService, with what only the server's own programs need.
absl::StatusOr<std::unique_ptr<LocalService>> CreateLocalService(const Config& config);

[[nodiscard]] std::string Version();

}  // namespace sluice
