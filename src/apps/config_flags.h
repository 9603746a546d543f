// A subcommand's flags for settings. Values stay text here: LoadConfig checks them all alike.
#pragma once

#include <CLI/CLI.hpp>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "apps/config.h"
#include "apps/settings.h"

namespace sluice {

class ConfigFlags {
 public:
  // Every setting, and --config for a file of them. This object outlives `app`'s parsing and stays
  // where it is.
  void AddTo(CLI::App* app);
  // These settings alone.
  void AddTo(CLI::App* app, std::span<const std::string_view> names);

  // What was given on the command line.
  [[nodiscard]] RawSettings Given(const CLI::App& app) const;
  // The flags over the environment over the file. Errors: those of LoadConfig.
  [[nodiscard]] absl::StatusOr<Config> Load(const CLI::App& app) const;

 private:
  void Add(CLI::App* app, const Setting& setting);

  std::list<std::pair<std::string, std::string>> values_;  // a list: CLI11 keeps addresses
  std::string file_;
};

}  // namespace sluice
