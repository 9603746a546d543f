// GenerateStream: order, merging, cancellation, deadlines, and the books of open streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TokenEvent Tokens(const std::string& text, int32_t index, int32_t choice = 0) {
  TokenEvent event;
  event.choice = choice;
  event.index = index;
  event.content = Text(text);
  event.tokens = {index};
  return event;
}

class StreamTest : public RpcTest {
 protected:
  std::unique_ptr<grpc::ClientReader<v1::GenerateEvent>> Open(grpc::ClientContext& context) {
    stub_ = Stub();
    return stub_->GenerateStream(&context, TextRequest("hi"));
  }
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_P(StreamTest, EventsOfOneBatchMergeIntoOneDeltaAChoice) {
  service_.script = [](const FakeService::Call& call) {
    std::vector<decltype(StreamEvent::event)> events;
    events.emplace_back(Accepted{
        .model = "fake-1", .seed = 5, .prompt_tokens = 2, .system_fingerprint = "fp_fake"});
    for (int i = 0; i < 50; ++i) {
      events.emplace_back(Tokens("a", i, 0));
      events.emplace_back(Tokens("b", i, 1));
    }
    TokenEvent last = Tokens("!", 50, 1);
    last.finish = FinishReason::kStop;
    events.emplace_back(last);
    End end;
    end.usage.output_tokens = 101;
    events.emplace_back(end);
    call.Publish(std::move(events));
  };
  StartServer();
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "abc");
  const auto reader = Open(context);
  std::vector<v1::GenerateEvent> got;
  for (v1::GenerateEvent event; reader->Read(&event);) got.push_back(event);
  ASSERT_TRUE(reader->Finish().ok());
  ASSERT_EQ(got.size(), 4U);
  EXPECT_EQ(got[0].accepted().seed(), 5U);
  EXPECT_EQ(got[0].accepted().request_id(), "abc");
  EXPECT_EQ(got[0].accepted().prompt_tokens(), 2);
  EXPECT_EQ(got[0].accepted().system_fingerprint(), "fp_fake");
  EXPECT_EQ(got[1].delta().choice(), 0);
  EXPECT_EQ(got[1].delta().content(), std::string(50, 'a'));
  EXPECT_EQ(got[1].delta().index(), 0);
  EXPECT_EQ(got[1].delta().tokens_size(), 50);
  EXPECT_EQ(got[1].delta().finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(got[2].delta().choice(), 1);
  EXPECT_EQ(got[2].delta().content(), std::string(50, 'b') + "!");
  EXPECT_EQ(got[2].delta().finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(got[3].end().usage().output_tokens(), 101);
  ExpectAllStreamsClosed();
}

TEST_P(StreamTest, TokensArriveWhileTheAnswerIsBeingMade) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = Open(context);
  const FakeService::Call call = service_.WaitForCall();
  v1::GenerateEvent event;
  call.Publish({Accepted{}});
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_accepted());
  for (int i = 0; i < 20; ++i) {
    call.Publish({Tokens("t", i)});
    ASSERT_TRUE(reader->Read(&event));
    ASSERT_TRUE(event.has_delta());
    EXPECT_EQ(event.delta().index(), i);
    EXPECT_THAT(event.delta().tokens(), ElementsAre(i));
  }
  call.Publish({End{}});
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_end());
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(service_.num_cancels(call.id), 0U);
}

TEST_P(StreamTest, WhatCameBeforeAnErrorIsDelivered) {
  service_.script = [](const FakeService::Call& call) {
    call.Publish({Accepted{}, Tokens("half", 0)});
    call.EndWith(absl::InternalError("the step failed"));
  };
  StartServer();
  grpc::ClientContext context;
  const auto reader = Open(context);
  std::string text;
  for (v1::GenerateEvent event; reader->Read(&event);) {
    EXPECT_FALSE(event.has_end());
    text += event.delta().content();
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(text, "half");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "the step failed");
  ExpectAllStreamsClosed();
}

TEST_P(StreamTest, ARefusalHasNoEventsAndSaysWhenToComeBack) {
  service_.script = [](const FakeService::Call& call) {
    call.EndWith(absl::UnavailableError("the server is draining"), absl::Seconds(30));
  };
  StartServer();
  grpc::ClientContext context;
  const auto reader = Open(context);
  v1::GenerateEvent event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Trailing(context, "retry-after"), "30");
}

TEST_P(StreamTest, ACancelReachesTheServiceOnceAndTheStreamClosesWithItsEnd) {
  service_.end_on_cancel = false;
  StartServer();
  grpc::ClientContext context;
  const auto reader = Open(context);
  const FakeService::Call call = service_.WaitForCall();
  call.Publish({Accepted{}, Tokens("a", 0)});
  v1::GenerateEvent event;
  ASSERT_TRUE(reader->Read(&event));
  context.TryCancel();
  EXPECT_TRUE(service_.WaitForCancel(call.id));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(metrics_->orphans.OpenStreams(), 1) << "the engine has not said End yet";
  call.Publish({Tokens("too late", 1)});
  call.EndWith(absl::CancelledError("cancelled"));
  ExpectAllStreamsClosed();
  EXPECT_EQ(service_.num_cancels(call.id), 1U);
}

TEST_P(StreamTest, ACancelDuringGenerateIsNotLost) {
  grpc::ClientContext context;
  service_.script = [&context](const FakeService::Call& /*call*/) { context.TryCancel(); };
  StartServer();
  const auto reader = Open(context);
  const FakeService::Call call = service_.WaitForCall();
  EXPECT_TRUE(service_.WaitForCancel(call.id));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ExpectAllStreamsClosed();
}

TEST_P(StreamTest, ACancelOfAUnaryCallReachesTheService) {
  StartServer();
  grpc::ClientContext context;
  std::thread canceller([this, &context] {
    service_.WaitForCall();
    context.TryCancel();
  });
  v1::GenerateResponse answer;
  EXPECT_EQ(Stub()->Generate(&context, TextRequest("hi"), &answer).error_code(),
            grpc::StatusCode::CANCELLED);
  canceller.join();
  EXPECT_TRUE(service_.WaitForCancel(service_.WaitForCall().id));
  ExpectAllStreamsClosed();
}

TEST_P(StreamTest, AnExpiredCallIsLeftToTheEngineWhichKnowsTheTrueReason) {
  StartServer();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  const auto reader = Open(context);
  const FakeService::Call call = service_.WaitForCall();
  EXPECT_LT(call.request.deadline, absl::Now() + absl::Milliseconds(201));
  v1::GenerateEvent event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  call.EndWith(absl::DeadlineExceededError("the deadline has passed"));
  ExpectAllStreamsClosed();
  EXPECT_EQ(service_.num_cancels(call.id), 0U);
}

TEST_P(StreamTest, AnEngineThatMissesADeadlineIsToldToCancel) {
  StartServer();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  const auto reader = Open(context);
  const FakeService::Call call = service_.WaitForCall();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(service_.WaitForCancel(call.id));
  ExpectAllStreamsClosed();
}

TEST_P(StreamTest, AClientThatTakesNothingIsCancelled) {
  config_.write_timeout_s = 0.1;
  StartServer();
  grpc::ClientContext context;
  const auto reader = Open(context);
  const FakeService::Call call = service_.WaitForCall();
  for (int i = 0; i < 16; ++i) call.Publish({Tokens(std::string(1U << 20U, 'x'), i)});
  EXPECT_TRUE(service_.WaitForCancel(call.id));
  ExpectAllStreamsClosed();
  size_t messages = 0;
  for (v1::GenerateEvent event; reader->Read(&event);) ++messages;
  EXPECT_LT(messages, 16U);
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_P(StreamTest, EventsForNoStreamAreDropped) {
  StartServer();
  grpc::ClientContext context;
  const auto reader = Open(context);
  FakeService::Call call = service_.WaitForCall();
  const StreamTag tag = call.tag;
  call.tag = 123456;
  call.Publish({Tokens("stray", 0), End{}});
  call.tag = tag;
  call.Answer("fine");
  call.Answer("after the End");
  std::string text;
  for (v1::GenerateEvent event; reader->Read(&event);) text += event.delta().content();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "fine");
  ExpectAllStreamsClosed();
}

// A fake engine that streams to every call until it is cancelled or has said all.
class Feeder {
 public:
  explicit Feeder(FakeService* service) : service_(service), thread_([this] { Run(); }) {}
  ~Feeder() {
    stop_ = true;
    thread_.join();
  }

 private:
  void Run() {
    std::vector<int> steps;
    while (!stop_) {
      const std::vector<FakeService::Call> calls = service_->calls();
      steps.resize(calls.size(), 0);
      for (size_t i = 0; i < calls.size(); ++i) {
        if (steps[i] > 40 || service_->num_cancels(calls[i].id) != 0) continue;
        if (steps[i] == 0) calls[i].Publish({Accepted{}});
        calls[i].Publish({Tokens("token ", steps[i])});
        if (++steps[i] > 40) calls[i].Publish({End{}});
      }
      std::this_thread::yield();
    }
  }
  FakeService* const service_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_P(StreamTest, ClientsThatLeaveAtAnyMomentLeaveNothingBehind) {
  StartServer();
  constexpr int kThreads = 8;
  constexpr int kCalls = 60;
  {
    const Feeder feeder(&service_);
    std::vector<std::thread> clients;
    for (int t = 0; t < kThreads; ++t) {
      clients.emplace_back([this, t] {
        const auto stub = Stub();
        std::mt19937 random(static_cast<uint32_t>(t));  // fixed seeds: 0 to 7
        for (int i = 0; i < kCalls; ++i) {
          grpc::ClientContext context;
          const auto reader = stub->GenerateStream(&context, TextRequest("hi"));
          const uint64_t reads = random() % 40;
          v1::GenerateEvent event;
          for (uint64_t r = 0; r < reads && reader->Read(&event); ++r) {
          }
          if (random() % 4 != 0) context.TryCancel();
          while (reader->Read(&event)) {
          }
          reader->Finish();
        }
      });
    }
    for (std::thread& client : clients) client.join();
    ExpectAllStreamsClosed();
  }
  // What was cancelled and what was served adds up, and nobody was cancelled twice.
  size_t cancelled = 0;
  for (const FakeService::Call& call : service_.calls()) {
    EXPECT_LE(service_.num_cancels(call.id), 1U);
    cancelled += service_.num_cancels(call.id);
  }
  EXPECT_GT(cancelled, 0U);
  EXPECT_LT(cancelled, service_.calls().size());
}

INSTANTIATE_TEST_SUITE_P(Transports, StreamTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
