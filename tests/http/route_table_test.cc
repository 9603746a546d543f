#include "http/route_table.h"

#include <gtest/gtest.h>

#include "base/errors.h"

namespace sluice {
namespace {

constexpr PortRules kPublic{false, false};
constexpr PortRules kAdmin{true, false};

int StatusOf(std::string_view method, std::string_view target, PortRules port = kPublic) {
  const RouteMatch match = FindRoute(method, target, port);
  return match.status.ok() ? 200 : ToWireError(match.status).http_status;
}

TEST(RouteTable, FindsRoutesByMethodAndPath) {
  EXPECT_EQ(FindRoute("POST", "/v1/chat/completions", kPublic).route->id, RouteId::kChat);
  EXPECT_EQ(FindRoute("POST", "/v1/chat/completions?x=1#y", kPublic).route->id, RouteId::kChat);
  EXPECT_EQ(FindRoute("GET", "http://host:1/livez", kPublic).route->id, RouteId::kLive);
  EXPECT_EQ(FindRoute("HEAD", "/livez", kPublic).route->id, RouteId::kLive);
  EXPECT_EQ(FindRoute("GET", "http://host", kPublic).route->id, RouteId::kIndex);
  EXPECT_EQ(StatusOf("GET", "/v1/chat/completions/"), 404);
  EXPECT_EQ(StatusOf("GET", ""), 404);
  EXPECT_EQ(StatusOf("OPTIONS", "*"), 404);
}

TEST(RouteTable, ModelNamesMayHoldSlashesAndEscapes) {
  const RouteMatch match = FindRoute("GET", "/v1/models/org/na%20me", kPublic);
  ASSERT_NE(match.route, nullptr);
  EXPECT_EQ(match.route->id, RouteId::kModel);
  EXPECT_EQ(match.tail, "org/na me");
  EXPECT_EQ(RouteName(match), "/v1/models/*");
  EXPECT_EQ(StatusOf("GET", "/v1/models/%zz"), 400);
  EXPECT_EQ(StatusOf("GET", "/v1/models/%4"), 400);
}

TEST(RouteTable, WrongMethodsAreToldWhichAreRight) {
  const RouteMatch match = FindRoute("DELETE", "/v1/models", kPublic);
  EXPECT_EQ(ToWireError(match.status).http_status, 405);
  EXPECT_EQ(match.allow, "GET, HEAD");
  EXPECT_EQ(FindRoute("GET", "/tokenize", kPublic).allow, "POST");
  EXPECT_EQ(RouteName(match), "unknown");
}

TEST(RouteTable, RoutesOfLaterAreNotImplemented) {
  for (const std::string_view path : {"/v1/audio/speech", "/v1/images/edits", "/v1/files",
                                      "/v1/batches/b1", "/v1/responses", "/v2/models/m/infer"}) {
    const RouteMatch match = FindRoute("POST", path, kPublic);
    EXPECT_EQ(ToWireError(match.status).http_status, 404) << path;
    EXPECT_EQ(ErrorCode(match.status), "not_implemented") << path;
  }
}

TEST(RouteTable, AdminHasItsOwnPort) {
  EXPECT_EQ(StatusOf("POST", "/admin/drain"), 404);
  EXPECT_EQ(StatusOf("GET", "/admin/health"), 404);
  EXPECT_EQ(StatusOf("POST", "/admin/drain", kAdmin), 200);
  EXPECT_EQ(StatusOf("GET", "/metrics", kAdmin), 200);
  EXPECT_EQ(StatusOf("POST", "/v1/chat/completions", kAdmin), 404);
  const PortRules hidden{false, true};
  for (const std::string_view path : {"/metrics", "/health", "/livez", "/readyz"}) {
    EXPECT_EQ(StatusOf("GET", path), 200) << path;
    EXPECT_EQ(StatusOf("GET", path, hidden), 404) << path;
  }
}

}  // namespace
}  // namespace sluice
