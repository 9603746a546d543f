#include "http/admin_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "http/json_fields.h"

namespace sluice {
namespace {

constexpr size_t kMaxNameBytes = 128, kMaxPathBytes = 4096;

// A value as a flag would carry it; nothing for what no setting can be.
std::optional<std::string> SettingText(const boost::json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  if (value.is_bool()) return std::string(value.get_bool() ? "true" : "false");
  if (const auto integer = AsInteger(value)) return fmt::to_string(*integer);
  if (value.is_double()) return fmt::to_string(value.get_double());
  return std::nullopt;
}

std::string Name(JsonFields& fields) {
  const boost::json::string* name = fields.String("name");
  const bool good = name != nullptr && !name->empty() && name->size() <= kMaxNameBytes &&
                    std::ranges::all_of(*name, [](char c) { return c > 0x20 && c < 0x7F; });
  if (!good)
    fields.Refuse("name",
                  fmt::format("name must be 1 to {} visible ASCII characters", kMaxNameBytes));
  return good ? std::string(*name) : std::string();
}

}  // namespace

absl::StatusOr<LoadModelRequest> ParseLoadModel(std::string_view body, int max_json_depth) {
  LoadModelRequest request;
  const auto read = [&](const boost::json::object& object) {
    JsonFields fields(object);
    request.name = Name(fields);
    const boost::json::string* path = fields.String("path");
    if (path == nullptr || path->empty() || path->size() > kMaxPathBytes ||
        path->find('\0') != boost::json::string::npos) {
      fields.Refuse("path", fmt::format("path must be 1 to {} bytes", kMaxPathBytes));
    } else {
      request.path = std::string(*path);
    }
    if (const boost::json::object* settings = fields.Object("settings")) {
      for (const auto& [key, value] : *settings) {
        const std::optional<std::string> text = SettingText(value);
        if (!text) {
          fields.Refuse("settings", "settings must be texts, numbers, true or false");
          break;
        }
        request.settings.emplace_back(std::string(key), *text);
      }
    }
    return fields.status();
  };
  absl::Status status = ReadJsonObject(body, max_json_depth, read);
  if (!status.ok()) return status;
  return request;
}

absl::StatusOr<std::string> ParseUnloadModel(std::string_view body, int max_json_depth) {
  std::string name;
  const auto read = [&](const boost::json::object& object) {
    JsonFields fields(object);
    name = Name(fields);
    return fields.status();
  };
  absl::Status status = ReadJsonObject(body, max_json_depth, read);
  if (!status.ok()) return status;
  return name;
}

}  // namespace sluice
