// Settings from flags, environment and a TOML file. Flags win over the environment, the environment
// over the file, the file over the defaults in include/sluice/config.h.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/config.h"
#include "sluice/service.h"

namespace sluice {

// What was written on the command line, by setting name; lists are comma-separated.
using RawSettings = std::map<std::string, std::string, std::less<>>;
using Environment = std::function<const char*(const char*)>;

// Errors: InvalidArgument or NotFound, naming the source, the setting, the value and what is
// allowed. Environment variables that are no setting are ignored: orchestrators put their own
// SLUICE_* there.
absl::StatusOr<Config> LoadConfig(const RawSettings& flags, const Environment& environment,
                                  const std::string& file);

// One Config a model: `config` itself, or what config.models says on top of it. Errors: those of
// LoadConfig.
absl::StatusOr<std::vector<Config>> ConfigsOfModels(const Config& config);
// The same for a model that is loaded later; `config` is the server's. Errors: PermissionDenied for
// a path that is not below config.model_dir.
absl::StatusOr<Config> ConfigOfModel(const Config& config, const LoadModelRequest& request);

}  // namespace sluice
