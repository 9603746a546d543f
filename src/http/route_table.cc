#include "http/route_table.h"

#include <fmt/format.h>

#include <optional>

#include "base/errors.h"

namespace sluice {
namespace {

constexpr Route kRoutes[] = {
    {RouteId::kChat, "POST", "/v1/chat/completions", Door::kPublic, true},
    {RouteId::kCompletion, "POST", "/v1/completions", Door::kPublic, true},
    {RouteId::kEmbeddings, "POST", "/v1/embeddings", Door::kPublic, true},
    {RouteId::kRerank, "POST", "/v1/rerank", Door::kPublic, true},
    {RouteId::kRerank, "POST", "/rerank", Door::kPublic, true},
    {RouteId::kScore, "POST", "/v1/score", Door::kPublic, true},
    {RouteId::kScore, "POST", "/score", Door::kPublic, true},
    {RouteId::kTokenize, "POST", "/tokenize", Door::kPublic, true},
    {RouteId::kDetokenize, "POST", "/detokenize", Door::kPublic, true},
    {RouteId::kModels, "GET", "/v1/models", Door::kPublic, true},
    {RouteId::kModel, "GET", "/v1/models/*", Door::kPublic, true},
    {RouteId::kOpenApi, "GET", "/openapi.json", Door::kPublic, true},
    {RouteId::kIndex, "GET", "/", Door::kPublic, true},
    {RouteId::kVersion, "GET", "/version", Door::kOperations, false},
    {RouteId::kHealth, "GET", "/health", Door::kOperations, false},
    {RouteId::kLive, "GET", "/livez", Door::kOperations, false},
    {RouteId::kReady, "GET", "/readyz", Door::kOperations, false},
    {RouteId::kMetrics, "GET", "/metrics", Door::kOperations, false},
    {RouteId::kAdminDrain, "POST", "/admin/drain", Door::kAdmin, true},
    {RouteId::kAdminLoadModel, "POST", "/admin/models/load", Door::kAdmin, true},
    {RouteId::kAdminUnloadModel, "POST", "/admin/models/unload", Door::kAdmin, true},
    {RouteId::kAdminHealth, "GET", "/admin/health", Door::kAdmin, true},
    {RouteId::kNotImplemented, "", "/v1/responses", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v1/responses/*", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v1/audio/*", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v1/images/*", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v1/files", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v1/files/*", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v1/batches", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v1/batches/*", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v2", Door::kPublic, true},
    {RouteId::kNotImplemented, "", "/v2/*", Door::kPublic, true},
};

bool AnswersAt(const Route& route, const PortRules& port) {
  switch (route.door) {
    case Door::kPublic:
      return !port.admin;
    case Door::kAdmin:
      return port.admin;
    case Door::kOperations:
      return port.admin || !port.admin_only_metrics || route.id == RouteId::kVersion;
  }
  return false;
}

bool PathMatches(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) return path == pattern;
  pattern.remove_suffix(1);
  return path.starts_with(pattern) && path.size() > pattern.size();
}

// The path of a target in origin form, or in absolute form as proxies send it.
std::string_view PathOf(std::string_view target) {
  if (const size_t scheme = target.find("://");
      !target.starts_with('/') && scheme != std::string_view::npos) {
    const size_t path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? "/" : target.substr(path);
  }
  return target.substr(0, target.find_first_of("?#"));
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> PercentDecode(std::string_view path) {
  std::string out;
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      out += path[i];
      continue;
    }
    if (i + 2 >= path.size()) return std::nullopt;
    const int high = HexDigit(path[i + 1]);
    const int low = HexDigit(path[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

bool MethodMatches(const Route& route, std::string_view method) {
  return route.method.empty() || method == route.method ||
         (method == "HEAD" && route.method == "GET");
}

void AddAllowed(const Route& route, std::string& allow) {
  if (!allow.empty()) allow += ", ";
  allow += route.method;
  if (route.method == "GET") allow += ", HEAD";
}

}  // namespace

RouteMatch FindRoute(std::string_view method, std::string_view target, const PortRules& port) {
  RouteMatch match;
  const std::optional<std::string> path = PercentDecode(PathOf(target));
  if (!path) {
    match.status = absl::InvalidArgumentError("the request's path has a broken percent-encoding");
    return match;
  }
  for (const Route& route : kRoutes) {
    if (!AnswersAt(route, port) || !PathMatches(route.pattern, *path)) continue;
    if (route.id == RouteId::kNotImplemented) {
      match.route = &route;
      match.status = WithErrorCode(absl::NotFoundError(fmt::format("{} is not implemented", *path)),
                                   "not_implemented");
      return match;
    }
    AddAllowed(route, match.allow);
    if (!MethodMatches(route, method)) continue;
    match.route = &route;
    if (route.pattern.ends_with('*')) match.tail = path->substr(route.pattern.size() - 1);
    return match;
  }
  if (!match.allow.empty()) {
    match.status = HttpError(
        405, fmt::format("{} does not take this method; it takes {}", *path, match.allow));
  } else {
    match.status = WithErrorCode(absl::NotFoundError("there is no such route"), "unknown_route");
  }
  return match;
}

std::string_view RouteName(const RouteMatch& match) {
  return match.route == nullptr ? "unknown" : match.route->pattern;
}

}  // namespace sluice
