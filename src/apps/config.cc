#include "apps/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <type_traits>

#include "apps/settings.h"
#include "base/status_macros.h"

namespace sluice {
namespace {

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

template <class T>
absl::Status SetNumber(const Setting& setting, std::string_view text, T* out) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return absl::InvalidArgumentError(
        fmt::format("{:?} is no {}", text, std::is_integral_v<T> ? "integer" : "number"));
  }
  if (!(static_cast<double>(value) >= setting.min && static_cast<double>(value) <= setting.max)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is not between {} and {}", text, setting.min, setting.max));
  }
  *out = value;
  return absl::OkStatus();
}

absl::Status SetFromText(const Setting& setting, std::string_view text, Config* config) {
  return std::visit(
      [&](auto field) -> absl::Status {
        auto& out = config->*field;
        using T = std::remove_reference_t<decltype(out)>;
        if constexpr (std::is_same_v<T, std::string>) {
          const auto choices = Split(setting.choices, '|');
          const bool empty_allowed = setting.choices.starts_with('|');
          if (!choices.empty() &&
              std::find(choices.begin(), choices.end(), text) == choices.end() &&
              !(empty_allowed && text.empty())) {
            return absl::InvalidArgumentError(
                fmt::format("{:?} is none of {}", text, fmt::join(choices, ", ")));
          }
          out = text;
        } else if constexpr (std::is_same_v<T, bool>) {
          if (text != "true" && text != "false")
            return absl::InvalidArgumentError(fmt::format("{:?} is neither true nor false", text));
          out = text == "true";
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          out = Split(text, ',');
        } else {
          return SetNumber(setting, text, &out);
        }
        return absl::OkStatus();
      },
      setting.field);
}

absl::Status Set(const Setting& setting, std::string_view source, std::string_view text,
                 Config* config) {
  absl::Status status = SetFromText(setting, text, config);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(fmt::format("{}: {}", source, std::string(status.message())));
}

absl::StatusOr<std::string> TomlText(const Setting& setting, const toml::node& node) {
  if (node.is_string()) return std::string(node.value_or(std::string_view()));
  if (node.is_boolean()) return std::string(node.value_or(false) ? "true" : "false");
  if (node.is_integer()) return fmt::to_string(node.value_or<int64_t>(0));
  if (node.is_floating_point()) return fmt::to_string(node.value_or(0.0));
  if (const toml::array* array = node.as_array(); array && IsList(setting)) {
    std::vector<std::string> parts;
    for (const toml::node& part : *array) {
      if (!part.is_string()) return absl::InvalidArgumentError("a list holds strings only");
      parts.emplace_back(part.value_or(std::string_view()));
    }
    return fmt::format("{}", fmt::join(parts, ","));
  }
  return absl::InvalidArgumentError("the value has a type that no setting takes");
}

absl::StatusOr<toml::table> ParseFile(const std::string& file) {
  try {
    return toml::parse_file(file);
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: line {}: {}", file, error.source().begin.line, std::string(error.description())));
  } catch (const std::exception& error) {
    return absl::NotFoundError(fmt::format("{}: {}", file, error.what()));
  }
}

// The setting `name`, of those that a model may have if `of_model`.
absl::StatusOr<const Setting*> FindSetting(std::string_view source, std::string_view name,
                                           bool of_model) {
  const auto& settings = Settings();
  const auto it = std::find_if(settings.begin(), settings.end(),
                               [&](const Setting& s) { return s.name == name; });
  if (it == settings.end()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: unknown key {:?}; docs/configuration.md lists the keys", source, name));
  }
  if (of_model && !it->of_model) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} is a setting of the server, not of a model", source, name));
  }
  return &*it;
}

absl::Status ReadTable(const toml::table& table, const std::string& source, bool of_model,
                       Config* config) {
  for (const auto& [key, node] : table) {
    const std::string_view name = key.str();
    ASSIGN_OR_RETURN(const Setting* setting, FindSetting(source, name, of_model));
    const auto text = TomlText(*setting, node);
    const std::string place = fmt::format("{}: {}", source, name);
    if (!text.ok())
      return absl::InvalidArgumentError(
          fmt::format("{}: {}", place, std::string(text.status().message())));
    RETURN_IF_ERROR(Set(*setting, place, *text, config));
  }
  return absl::OkStatus();
}

// What no single setting can tell.
absl::Status CheckTogether(const Config& config) {
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    return absl::InvalidArgumentError("tls-cert and tls-key must be given together");
  }
  if (!config.tls_client_ca.empty() && config.tls_cert.empty()) {
    return absl::InvalidArgumentError("tls-client-ca needs tls-cert and tls-key");
  }
  if (config.max_step_tokens < config.max_rows) {
    return absl::InvalidArgumentError(fmt::format(
        "max-step-tokens is {} and max-rows is {}; a step must hold a token of every row",
        config.max_step_tokens, config.max_rows));
  }
  if (config.backend != "sim" && !(config.sim_device.empty() && config.model_shape.empty())) {
    return absl::InvalidArgumentError(fmt::format(
        "sim-device and model-shape are for backend sim; backend is {}", config.backend));
  }
  if (!config.model_shape.empty() && !config.quantize.empty()) {
    return absl::InvalidArgumentError("quantize and model-shape both say what the weights take");
  }
  if (config.admin_only_metrics && config.admin_port < 0) {
    return absl::InvalidArgumentError("admin-only-metrics needs admin-port");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Config> LoadConfig(const RawSettings& flags, const Environment& environment,
                                  const std::string& file) {
  Config config;
  if (!file.empty()) {
    ASSIGN_OR_RETURN(const toml::table table, ParseFile(file));
    RETURN_IF_ERROR(ReadTable(table, file, false, &config));
  }
  for (const Setting& setting : Settings()) {
    const std::string name = EnvironmentName(setting.name);
    if (const char* text = environment(name.c_str()))
      RETURN_IF_ERROR(Set(setting, name, text, &config));
    const auto flag = flags.find(setting.name);
    if (flag != flags.end())
      RETURN_IF_ERROR(Set(setting, fmt::format("--{}", setting.name), flag->second, &config));
  }
  RETURN_IF_ERROR(CheckTogether(config));
  return config;
}

absl::StatusOr<std::vector<Config>> ConfigsOfModels(const Config& config) {
  if (config.models.empty()) return std::vector<Config>{config};
  if (!config.model.empty()) return absl::InvalidArgumentError("model and models are both set");
  ASSIGN_OR_RETURN(const toml::table file, ParseFile(config.models));
  const toml::array* entries = file["model"].as_array();
  if (file.size() != 1 || entries == nullptr || entries->empty() ||
      !entries->is_homogeneous(toml::node_type::table)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: it must hold [[model]] tables and nothing else", config.models));
  }
  std::vector<Config> out;
  for (const toml::node& entry : *entries) {
    Config& model = out.emplace_back(config);
    const std::string source = fmt::format("{}: model {}", config.models, out.size());
    RETURN_IF_ERROR(ReadTable(*entry.as_table(), source, true, &model));
    if (model.model.empty())
      return absl::InvalidArgumentError(fmt::format("{}: model is not set", source));
    const absl::Status together = CheckTogether(model);
    if (!together.ok())
      return absl::InvalidArgumentError(
          fmt::format("{}: {}", source, std::string(together.message())));
  }
  return out;
}

absl::StatusOr<Config> ConfigOfModel(const Config& config, const LoadModelRequest& request) {
  namespace fs = std::filesystem;
  if (config.model_dir.empty())
    return absl::PermissionDeniedError("model-dir is not set: no model can be loaded");
  std::error_code error;
  const fs::path folder = fs::canonical(config.model_dir, error);
  if (error) {
    return absl::NotFoundError(fmt::format("model-dir {}: {}", config.model_dir, error.message()));
  }
  // Links are followed before the check: what they lead to must be below the folder, too.
  const fs::path path = fs::canonical(folder / request.path, error);
  const bool below =
      !error &&
      std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
  if (error || !below) {
    // Whether a file outside of the folder exists is nobody's business.
    return absl::PermissionDeniedError(
        fmt::format("path {:?} is nothing below model-dir", request.path.substr(0, 128)));
  }
  Config model = config;
  model.model_alias.clear();
  for (const auto& [name, text] : request.settings) {
    ASSIGN_OR_RETURN(const Setting* setting, FindSetting("settings", name, true));
    RETURN_IF_ERROR(Set(*setting, name, text, &model));
  }
  model.model = path.string();
  model.served_model_name = request.name;
  RETURN_IF_ERROR(CheckTogether(model));
  return model;
}

}  // namespace sluice
