// Settings from flags, environment and a TOML file, all from one table. Flags win over the
// environment, the environment over the file, the file over the defaults in
// include/sluice/config.h.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/config.h"
#include "sluice/service.h"

namespace sluice {

struct Setting {
  using Field = std::variant<std::string Config::*, int32_t Config::*, int64_t Config::*,
                             double Config::*, bool Config::*, std::vector<std::string> Config::*>;
  std::string_view name;  // flag without dashes, TOML key
  Field field;
  std::string_view help;
  double min = 0, max = 0;        // for numbers
  std::string_view choices = {};  // "a|b|c" for strings; empty: any
  bool of_model = false;          // may differ between the models of one server
};

[[nodiscard]] const std::vector<Setting>& Settings();
[[nodiscard]] std::string EnvironmentName(
    std::string_view setting);  // "http-port" → "SLUICE_HTTP_PORT"
[[nodiscard]] bool IsBool(const Setting& setting);
[[nodiscard]] bool IsList(const Setting& setting);

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

// docs/configuration.md, whole.
[[nodiscard]] std::string ConfigurationDocument();

}  // namespace sluice
