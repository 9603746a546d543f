// Health over a channel, and what reflection lists.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>

#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

class HealthTest : public RpcTest {
 protected:
  grpc::Status Check(const std::string& name, HealthCheckResponse& answer) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(name);
    return grpc::health::v1::Health::NewStub(Connect())->Check(&context, request, &answer);
  }
  HealthCheckResponse::ServingStatus Checked(const std::string& name = "") {
    HealthCheckResponse answer;
    EXPECT_TRUE(Check(name, answer).ok());
    return answer.status();
  }
  std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> Watch(grpc::ClientContext& context,
                                                                 const std::string& name) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    HealthCheckRequest request;
    request.set_service(name);
    stub_ = grpc::health::v1::Health::NewStub(Connect());
    return stub_->Watch(&context, request);
  }
  static HealthCheckResponse::ServingStatus Next(grpc::ClientReader<HealthCheckResponse>& reader) {
    HealthCheckResponse answer;
    return reader.Read(&answer) ? answer.status() : HealthCheckResponse::UNKNOWN;
  }
  std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
};

TEST_P(HealthTest, CheckSaysWhatTheServiceSaysFromTheFirstMoment) {
  service_.ready = false;
  StartServer();
  EXPECT_EQ(Checked(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Checked("sluice.v1.Inference"), HealthCheckResponse::NOT_SERVING);
  service_.ready = true;
  EXPECT_EQ(Checked(), HealthCheckResponse::SERVING);
  EXPECT_EQ(Checked("sluice.v1.Inference"), HealthCheckResponse::SERVING);
  service_.live = false;
  EXPECT_EQ(Checked(), HealthCheckResponse::NOT_SERVING);
  service_.live = true;
  server_->SetServing(false);
  EXPECT_EQ(Checked(), HealthCheckResponse::NOT_SERVING);
  server_->SetServing(true);
  EXPECT_EQ(Checked(), HealthCheckResponse::SERVING);
  HealthCheckResponse answer;
  EXPECT_EQ(Check("nothing", answer).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_P(HealthTest, WatchFollowsEachChange) {
  service_.ready = false;
  StartServer();
  grpc::ClientContext context;
  const auto reader = Watch(context, "sluice.v1.Inference");
  EXPECT_EQ(Next(*reader), HealthCheckResponse::NOT_SERVING);
  service_.ready = true;
  const absl::Time changed = absl::Now();
  EXPECT_EQ(Next(*reader), HealthCheckResponse::SERVING);
  EXPECT_LT(absl::Now() - changed, absl::Seconds(2));
  service_.ready = false;
  EXPECT_EQ(Next(*reader), HealthCheckResponse::NOT_SERVING);
  service_.ready = true;
  EXPECT_EQ(Next(*reader), HealthCheckResponse::SERVING);
  server_->SetServing(false);
  EXPECT_EQ(Next(*reader), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_P(HealthTest, WatchOfAnUnknownServiceSaysSoAndStaysOpen) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = Watch(context, "nothing");
  EXPECT_EQ(Next(*reader), HealthCheckResponse::SERVICE_UNKNOWN);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_P(HealthTest, ShutdownTellsTheWatchersAndIsNotHeldUpByThem) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = Watch(context, "");
  EXPECT_EQ(Next(*reader), HealthCheckResponse::SERVING);
  const absl::Time begin = absl::Now();
  server_->Shutdown(absl::Now() + absl::Seconds(10));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  EXPECT_EQ(Next(*reader), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Next(*reader), HealthCheckResponse::UNKNOWN) << "the stream has ended";
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_P(HealthTest, MalformedHealthRequestsDoNoHarm) {
  StartServer();
  for (const char* method : {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}) {
    grpc::ClientContext context;
    EXPECT_FALSE(Raw(method, "\x0a\x02\xff\xfe", context).ok());
  }
  EXPECT_EQ(Checked(), HealthCheckResponse::SERVING);
}

TEST_P(HealthTest, ReflectionListsTheServicesAndDescribesThem) {
  StartServer();
  constexpr const char* kMethod = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const std::string services = RawStream(kMethod, "\x3a\x01*");  // list_services
  EXPECT_THAT(services, HasSubstr("sluice.v1.Inference"));
  EXPECT_THAT(services, HasSubstr("grpc.health.v1.Health"));
  const std::string file = RawStream(kMethod,
                                     "\x22\x13"
                                     "sluice.v1.Inference");  // file_containing_symbol
  EXPECT_THAT(file, HasSubstr("sluice/v1/inference.proto"));
  EXPECT_THAT(file, HasSubstr("GenerateStream"));
  EXPECT_THAT(RawStream(kMethod,
                        "\x22\x15"
                        "grpc.health.v1.Health"),
              HasSubstr("HealthCheckRequest"));
}

INSTANTIATE_TEST_SUITE_P(Transports, HealthTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
