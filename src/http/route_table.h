// Every route of the server, in one table: who may call it, where, and under which name metrics and
// logs know it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sluice {

enum class RouteId : uint8_t {
  kChat,
  kCompletion,
  kEmbeddings,
  kRerank,
  kScore,
  kTokenize,
  kDetokenize,
  kModels,
  kModel,
  kVersion,
  kHealth,
  kLive,
  kReady,
  kMetrics,
  kOpenApi,
  kIndex,
  kAdminDrain,
  kAdminHealth,
  kAdminLoadModel,
  kAdminUnloadModel,
  kNotImplemented
};

// Where a route answers.
enum class Door : uint8_t {
  kPublic,
  kAdmin,
  kOperations /* both; with admin_only_metrics the admin port alone */
};

struct Route {
  RouteId id;
  std::string_view method;   // "GET" (then also HEAD) or "POST"; empty: any
  std::string_view pattern;  // a path; ending in '*': a prefix
  Door door;
  bool needs_key;
};

// Whom a request met at which port.
struct PortRules {
  bool admin = false;               // the admin port
  bool admin_only_metrics = false;  // the config's
};

struct RouteMatch {
  const Route* route = nullptr;  // nullptr: see `status`
  std::string tail;              // what a prefix's '*' stood for, percent-decoded
  std::string allow;             // the methods the path has, for Allow
  absl::Status status;           // 404, 405 or 400 for a path that cannot be decoded
};

// `target`: the request line's, with or without query, scheme and host.
[[nodiscard]] RouteMatch FindRoute(std::string_view method, std::string_view target,
                                   const PortRules& port);

// A name for metrics and logs that no client can choose.
[[nodiscard]] std::string_view RouteName(const RouteMatch& match);

}  // namespace sluice
