#include "service/tenant_rules.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <optional>
#include <string_view>
#include <utility>

#include "base/status_macros.h"

namespace sluice {
namespace {

constexpr double kMax = 1e12;
constexpr size_t kMaxTenants = 4096;

struct Key {
  std::string_view name;
  double min, max;
  bool integer;
  void (*set)(TenantRule& rule, double value);
};
constexpr Key kKeys[] = {
    {"weight", 1, 100, true, [](TenantRule& r, double v) { r.weight = static_cast<int32_t>(v); }},
    {"max-requests-per-s", 0, kMax, false,
     [](TenantRule& r, double v) { r.max_requests_per_s = v; }},
    {"max-tokens-per-min", 0, kMax, true,
     [](TenantRule& r, double v) { r.max_tokens_per_min = static_cast<int64_t>(v); }},
    {"max-concurrent", 0, kMax, true,
     [](TenantRule& r, double v) { r.max_concurrent = static_cast<int64_t>(v); }},
    {"max-queue-share", 1e-6, 1, false, [](TenantRule& r, double v) { r.max_queue_share = v; }},
    {"best-priority", -2147483648.0, 2147483647, true,
     [](TenantRule& r, double v) { r.best_priority = static_cast<int32_t>(v); }},
};

const Key* FindKey(std::string_view name) {
  for (const Key& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

absl::Status Wrong(std::string_view place, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", place, what));
}

// `place`: the file and the table, for messages.
absl::Status ReadRule(const toml::table& table, const std::string& place, TenantRule* rule) {
  for (const auto& [name, node] : table) {
    if (name.str() == "name") continue;
    const Key* key = FindKey(name.str());
    if (key == nullptr) return Wrong(place, fmt::format("unknown key {:?}", name.str()));
    const bool number = key->integer ? node.is_integer() : node.is_number();
    const double value = node.value_or(0.0);
    if (!number || !(value >= key->min && value <= key->max)) {
      return Wrong(place, fmt::format("{} is no {} between {} and {}", key->name,
                                      key->integer ? "integer" : "number", key->min, key->max));
    }
    key->set(*rule, value);
  }
  return absl::OkStatus();
}

absl::StatusOr<toml::table> Parse(const std::string& path) {
  try {
    return toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    const std::string what(error.description());
    // The library tells a file that cannot be opened by an error without a place in it.
    if (error.source().begin.line == 0)
      return absl::NotFoundError(fmt::format("tenants file {}: {}", path, what));
    return absl::InvalidArgumentError(
        fmt::format("tenants file {}:{}: {}", path, error.source().begin.line, what));
  } catch (const std::exception& error) {
    return absl::NotFoundError(fmt::format("tenants file {}: {}", path, error.what()));
  }
}

}  // namespace

TenantRules::TenantRules(bool with_keys) {
  if (!with_keys) return;
  default_.max_queue_share = 0.5;
  default_.best_priority = 0;
}

absl::StatusOr<TenantRules> TenantRules::Load(const std::string& path, bool with_keys) {
  TenantRules rules(with_keys);
  if (path.empty()) return rules;
  ASSIGN_OR_RETURN(const toml::table file, Parse(path));
  const std::string place = fmt::format("tenants file {}", path);
  for (const auto& [name, node] : file) {
    const bool is_default = name.str() == "default" && node.is_table();
    if (!is_default && !(name.str() == "tenant" && node.is_array_of_tables()))
      return Wrong(place, fmt::format("{:?} is neither [default] nor [[tenant]]", name.str()));
  }
  if (const toml::table* table = file["default"].as_table())
    RETURN_IF_ERROR(ReadRule(*table, place + ": default", &rules.default_));
  const toml::array* tenants = file["tenant"].as_array();
  if (tenants == nullptr) return rules;
  for (const toml::node& node : *tenants) {
    const toml::table& table = *node.as_table();
    const std::optional<std::string> name = table["name"].value<std::string>();
    if (!name || name->empty()) return Wrong(place, "a tenant has no name");
    TenantRule rule = rules.default_;
    RETURN_IF_ERROR(ReadRule(table, fmt::format("{}: tenant {}", place, *name), &rule));
    if (!rules.by_name_.emplace(*name, rule).second)
      return Wrong(place, fmt::format("tenant {} stands there twice", *name));
    if (rules.by_name_.size() > kMaxTenants)
      return Wrong(place, fmt::format("there are more than {} tenants", kMaxTenants));
  }
  return rules;
}

const TenantRule& TenantRules::Of(const std::string& tenant) const {
  const auto found = by_name_.find(tenant);
  return found == by_name_.end() ? default_ : found->second;
}

std::vector<std::string> TenantRules::names() const {
  std::vector<std::string> names;
  names.reserve(by_name_.size());
  for (const auto& [name, rule] : by_name_) names.push_back(name);
  return names;
}

}  // namespace sluice
