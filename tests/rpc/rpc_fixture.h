// A server on a free port of loopback over a FakeService, and clients of it. Every test runs on
// every transport.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/api_keys.h"
#include "base/clock.h"
#include "metrics/metrics.h"
#include "rpc/rpc_server.h"
#include "sluice/config.h"
#include "sluice/v1/inference.grpc.pb.h"
#include "tests/rpc/fake_service.h"

namespace sluice::rpc {

inline const auto kTransports = ::testing::Values("grpc", "nghttp2");
inline std::string TransportName(const ::testing::TestParamInfo<const char*>& info) {
  return info.param;
}

class RpcTest : public ::testing::TestWithParam<const char*> {
 protected:
  RpcTest();
  ~RpcTest() override;

  // With config_ as the test has set it.
  void StartServer();
  // A channel of its own connection.
  std::shared_ptr<grpc::Channel> Connect(
      std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr);
  std::unique_ptr<v1::Inference::Stub> Stub();

  // Sends bytes as they are to a unary method, "/service/Method".
  grpc::Status Raw(const std::string& method, std::string_view request,
                   grpc::ClientContext& context);
  // Sends one message over a stream of bytes and returns the first answer.
  std::string RawStream(const std::string& method, std::string_view request);

  // Until every stream has had its End; fails the test after 10 s.
  void ExpectAllStreamsClosed();
  // A file in the test's folder. Returns its path.
  std::string WriteFile(const std::string& name, const std::string& text);

  Config config_;
  FakeService service_;
  RealClock clock_;
  std::unique_ptr<Metrics> metrics_ = std::make_unique<Metrics>("fake-1", "");
  std::unique_ptr<ApiKeys> keys_;
  std::unique_ptr<RpcServer> server_;
  std::string folder_;
};

// Waits until a condition holds; false after 10 s. For what has no event to wait on.
template <typename Condition>
[[nodiscard]] bool Eventually(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return condition();
}

std::string Trailing(const grpc::ClientContext& context, const std::string& key);
v1::GenerateRequest TextRequest(const std::string& text);

}  // namespace sluice::rpc
