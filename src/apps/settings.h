// The one table of settings: their flags, ranges and help, and the page made of it. Defaults are
// those of include/sluice/config.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sluice/config.h"

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
// "http-port" → "SLUICE_HTTP_PORT"
[[nodiscard]] std::string EnvironmentName(std::string_view setting);
[[nodiscard]] bool IsBool(const Setting& setting);
[[nodiscard]] bool IsList(const Setting& setting);

// docs/configuration.md, whole.
[[nodiscard]] std::string ConfigurationDocument();

}  // namespace sluice
