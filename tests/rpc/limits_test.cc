// Limits, the port, and how the server ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {
namespace {

using ::testing::HasSubstr;

class LimitsTest : public RpcTest {
 protected:
  grpc::Status Call(const v1::GenerateRequest& request, grpc::ClientContext& context) {
    v1::GenerateResponse answer;
    return Stub()->Generate(&context, request, &answer);
  }
  void AnswerAll() {
    service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  }
};

TEST_P(LimitsTest, ASecondServerOnThePortIsRefusedWithTheReason) {
  StartServer();
  Config second = config_;
  second.grpc_port = server_->port();
  const absl::Status status =
      RpcServer::Start(second, &service_, keys_.get(), metrics_.get(), &clock_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("127.0.0.1:" + std::to_string(server_->port())));
  EXPECT_THAT(std::string(status.message()), HasSubstr("Address already in use"));
}

TEST_P(LimitsTest, AnAddressThatIsNotOursIsRefusedWithTheReason) {
  config_.host = "192.0.2.1";  // reserved for documentation (RFC 5737)
  keys_ = *ApiKeys::Load("");
  const absl::Status status =
      RpcServer::Start(config_, &service_, keys_.get(), metrics_.get(), &clock_).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("Cannot assign requested address"));
}

TEST_P(LimitsTest, AMessageOverTheBodyLimitIsRefused) {
  AnswerAll();
  config_.max_body_bytes = 10'000;
  StartServer();
  grpc::ClientContext good, bad;
  EXPECT_TRUE(Call(TextRequest(std::string(9'000, 'a')), good).ok());
  EXPECT_EQ(Call(TextRequest(std::string(11'000, 'a')), bad).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(service_.calls().size(), 1U);
}

TEST_P(LimitsTest, CompressedRequestsAreRefusedBeforeTheyAreUnpacked) {
  AnswerAll();
  config_.max_body_bytes = 1 << 20;
  StartServer();
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  const grpc::Status status =
      Call(TextRequest(std::string(20 << 20, 'a')), context);  // about 20 KB packed
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << status.error_message();
  EXPECT_TRUE(service_.calls().empty());
}

TEST_P(LimitsTest, MetadataOverTheHeaderLimitIsRefused) {
  AnswerAll();
  config_.max_header_bytes = 4096;
  StartServer();
  grpc::ClientContext context;
  context.AddMetadata("x-filler", std::string(8192, 'f'));
  EXPECT_EQ(Call(TextRequest("hi"), context).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(service_.calls().empty());
}

TEST_P(LimitsTest, MoreOpenCallsThanAllowedAreRefused) {
  config_.max_connections = 1;
  StartServer();
  const auto stub = Stub(), other = Stub();
  grpc::ClientContext first, second;
  const auto reader = stub->GenerateStream(&first, TextRequest("hi"));
  const FakeService::Call call = service_.WaitForCall();
  v1::GenerateResponse answer;
  const grpc::Status status = other->Generate(&second, TextRequest("hi"), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "more than 1 calls are open");
  call.EndWith(absl::OkStatus());
  v1::GenerateEvent event;
  while (reader->Read(&event)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_P(LimitsTest, ShutdownWaitsForOpenCalls) {
  StartServer();
  const auto stub = Stub();
  grpc::ClientContext context;
  const auto reader = stub->GenerateStream(&context, TextRequest("hi"));
  const FakeService::Call call = service_.WaitForCall();
  std::thread shutdown([this] { server_->Shutdown(absl::Now() + absl::Seconds(20)); });
  call.Answer("whole");
  std::string text;
  for (v1::GenerateEvent event; reader->Read(&event);) text += event.delta().content();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "whole");
  shutdown.join();
  EXPECT_EQ(service_.num_cancels(call.id), 0U);
}

TEST_P(LimitsTest, CallsLeftAtTheShutdownDeadlineAreCancelled) {
  StartServer();
  const auto stub = Stub();
  grpc::ClientContext context;
  const auto reader = stub->GenerateStream(&context, TextRequest("hi"));
  const FakeService::Call call = service_.WaitForCall();
  server_->Shutdown(absl::Now() + absl::Milliseconds(100));
  EXPECT_EQ(service_.num_cancels(call.id), 1U);
  EXPECT_EQ(metrics_->orphans.OpenStreams(), 0);
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_P(LimitsTest, AnEngineThatNeverSaysEndDoesNotHoldUpTheProcess) {
  service_.end_on_cancel = false;
  StartServer();
  const auto stub = Stub();
  grpc::ClientContext context;
  const auto reader = stub->GenerateStream(&context, TextRequest("hi"));
  const FakeService::Call call = service_.WaitForCall();
  // Left behind on purpose, once a transport; a static root tells the leak checker so.
  static auto& kept = *new std::vector<EventQueue*>;
  kept.push_back(call.queue);
  ASSERT_NE(call.queue, nullptr);
  const absl::Time begin = absl::Now();
  server_->Shutdown(absl::Now());
  server_ = nullptr;
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  call.EndWith(absl::CancelledError("late"));  // the queue is still there to be written to
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_P(LimitsTest, WorkOfACallThatWaitsOnThePreparePoolMayOutliveTheServer) {
  service_.hold_prepared = true;
  StartServer();
  const auto stub = Stub();
  grpc::ClientContext context;
  const auto reader = stub->GenerateStream(&context, TextRequest(std::string(200'000, 'a')));
  ASSERT_TRUE(Eventually([this] { return service_.num_prepared == 1; }));
  server_->Shutdown(absl::Now());
  server_ = nullptr;
  service_.RunHeld();
  EXPECT_TRUE(service_.calls().empty());
  EXPECT_FALSE(reader->Finish().ok());
  EXPECT_EQ(metrics_->orphans.OpenStreams(), 0);
}

TEST_P(LimitsTest, FreshServersListenOnTheSamePortAgain) {
  AnswerAll();
  StartServer();
  config_.grpc_port = server_->port();
  server_ = nullptr;
  StartServer();
  grpc::ClientContext context;
  EXPECT_TRUE(Call(TextRequest("hi"), context).ok());
}

INSTANTIATE_TEST_SUITE_P(Transports, LimitsTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
