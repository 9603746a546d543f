#include "apps/config_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace sluice {

void ConfigFlags::AddTo(CLI::App* app) {
  app->add_option("--config", file_, "TOML file with settings");
  for (const Setting& setting : Settings()) Add(app, setting);
}

void ConfigFlags::AddTo(CLI::App* app, std::span<const std::string_view> names) {
  for (const Setting& setting : Settings()) {
    if (std::ranges::find(names, setting.name) != names.end()) Add(app, setting);
  }
}

void ConfigFlags::Add(CLI::App* app, const Setting& setting) {
  auto& value = values_.emplace_back(std::string(setting.name), std::string());
  const std::string flag = fmt::format("--{}", setting.name);
  if (IsBool(setting)) {
    app->add_flag(flag + "{true}", value.second, std::string(setting.help));
  } else {
    app->add_option(flag, value.second, std::string(setting.help));
  }
}

RawSettings ConfigFlags::Given(const CLI::App& app) const {
  RawSettings raw;
  for (const auto& [name, value] : values_) {
    if (app.count("--" + name) > 0) raw[name] = value;
  }
  return raw;
}

absl::StatusOr<Config> ConfigFlags::Load(const CLI::App& app) const {
  return LoadConfig(Given(app), [](const char* name) { return std::getenv(name); }, file_);
}

}  // namespace sluice
