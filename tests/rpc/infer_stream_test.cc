// ModelStreamInfer: requests side by side, merging, errors, ends of all kinds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/rpc/kserve_fixture.h"

namespace sluice::rpc {
namespace {

using ::testing::HasSubstr;

class InferStreamTest : public KserveTest {};

TEST_P(InferStreamTest, RequestsOfOneStreamRunSideBySide) {
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  ASSERT_TRUE(stream->Write(Request("a", true)));
  const FakeService::Call a = service_.WaitForCall(0);
  a.Publish({Accepted{.model = "fake-1"}, Tokens("a0", 0)});
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.infer_response().id(), "a");
  EXPECT_EQ(TextOf(message.infer_response()), "a0");
  EXPECT_FALSE(IsLast(message));
  // The second comes while the first runs, and ends before it.
  ASSERT_TRUE(stream->Write(Request("b", true)));
  const FakeService::Call b = service_.WaitForCall(1);
  b.Publish({Accepted{.model = "fake-1"}, LastTokens("b0", 0), End{}});
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.infer_response().id(), "b");
  EXPECT_EQ(TextOf(message.infer_response()), "b0");
  EXPECT_TRUE(IsLast(message));
  EXPECT_EQ(message.infer_response().parameters().at("finish_reason").string_param(), "length");
  stream->WritesDone();
  a.Publish({LastTokens("a1", 1), End{}});
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(TextOf(message.infer_response()), "a1");
  EXPECT_TRUE(IsLast(message));
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_TRUE(stream->Finish().ok());
  ExpectAllStreamsClosed();
}

TEST_P(InferStreamTest, WithoutStreamTheAnswerIsOneMessage) {
  service_.script = [](const FakeService::Call& call) {
    call.Publish({Accepted{.model = "fake-1"}, Tokens("one ", 0)});
    call.Publish({LastTokens("two", 1), End{}});
  };
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  ASSERT_TRUE(stream->Write(Request("a")));
  stream->WritesDone();
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(TextOf(message.infer_response()), "one two");
  EXPECT_TRUE(IsLast(message));
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_P(InferStreamTest, AnEmptyLastMessageWhereOneIsAskedFor) {
  service_.script = [](const FakeService::Call& call) {
    call.Publish({Accepted{.model = "fake-1"}, LastTokens("all", 0), End{}});
  };
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  ModelInferRequest request = Request("a", true);
  (*request.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  ASSERT_TRUE(stream->Write(request));
  stream->WritesDone();
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(TextOf(message.infer_response()), "all");
  EXPECT_FALSE(IsLast(message));
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.infer_response().outputs_size(), 0);
  EXPECT_TRUE(IsLast(message));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_P(InferStreamTest, AFailedRequestLeavesTheStreamToTheOthers) {
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  ModelInferRequest wrong = Request("wrong");
  wrong.clear_inputs();
  ASSERT_TRUE(stream->Write(wrong));
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_THAT(message.error_message(), HasSubstr("text_input is missing"));
  EXPECT_EQ(message.infer_response().id(), "wrong");
  EXPECT_EQ(message.infer_response().parameters().at("grpc_status").int64_param(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(IsLast(message));

  ASSERT_TRUE(stream->Write(Request("half", true)));
  const FakeService::Call half = service_.WaitForCall(0);
  half.Publish({Accepted{.model = "fake-1"}, Tokens("text", 0)});
  half.EndWith(absl::UnavailableError("no progress"), absl::Seconds(3));
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(TextOf(message.infer_response()), "text");
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.error_message(), "no progress");
  EXPECT_EQ(message.infer_response().id(), "half");
  EXPECT_EQ(message.infer_response().parameters().at("retry-after").string_param(), "3");

  ASSERT_TRUE(stream->Write(Request("good")));
  service_.WaitForCall(1).Answer("hello");
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(TextOf(message.infer_response()), "hello");
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_TRUE(stream->Finish().ok());
  ExpectAllStreamsClosed();
}

TEST_P(InferStreamTest, AClientThatGoesCancelsAllItsRequests) {
  StartServer();
  std::vector<FakeService::Call> calls;
  {
    grpc::ClientContext context;
    const auto stream = Open(context);
    for (size_t i = 0; i < 5; ++i) {
      ASSERT_TRUE(stream->Write(Request(std::to_string(i), i % 2 == 0)));
      calls.push_back(service_.WaitForCall(i));
      calls.back().Publish({Accepted{.model = "fake-1"}, Tokens("t", 0)});
    }
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  for (const FakeService::Call& call : calls) EXPECT_TRUE(service_.WaitForCancel(call.id));
  ExpectAllStreamsClosed();
}

TEST_P(InferStreamTest, ATimeoutIsTheRequestsDeadline) {
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  ModelInferRequest request = Request("a");
  (*request.mutable_parameters())["timeout"].set_int64_param(200'000);
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(stream->Write(request));
  const FakeService::Call call = service_.WaitForCall();
  EXPECT_LT(call.request.deadline, begin + absl::Seconds(20));
  EXPECT_GE(call.request.deadline, begin + absl::Milliseconds(200));
  call.EndWith(absl::DeadlineExceededError("the deadline has passed"));
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.infer_response().parameters().at("grpc_status").int64_param(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_P(InferStreamTest, AStreamsDeadlineEndsAllItsRequests) {
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context, std::chrono::seconds(1));
  ASSERT_TRUE(stream->Write(Request("a", true)));
  const FakeService::Call call = service_.WaitForCall();
  call.Publish({Accepted{.model = "fake-1"}, Tokens("t", 0)});
  EXPECT_LT(call.request.deadline, absl::Now() + absl::Seconds(2));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  call.EndWith(absl::DeadlineExceededError("the deadline has passed"));
  ExpectAllStreamsClosed();
}

TEST_P(InferStreamTest, AClientThatDoesNotReadIsGivenUp) {
  config_.write_timeout_s = 0.5;
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  ASSERT_TRUE(stream->Write(Request("a", true)));
  const FakeService::Call call = service_.WaitForCall();
  call.Publish({Accepted{.model = "fake-1"}});
  for (int i = 0; i < 200; ++i) call.Publish({Tokens(std::string(100'000, 'x'), i)});
  EXPECT_TRUE(service_.WaitForCancel(call.id));
  ExpectAllStreamsClosed();
}

TEST_P(InferStreamTest, AStreamWithoutRequestsEndsWell) {
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_P(InferStreamTest, ALongPromptGoesThroughThePool) {
  service_.script = [](const FakeService::Call& call) {
    EXPECT_EQ(std::get<Text>(call.request.prompt).size(), 2'000'000U);
    call.Answer("x");
  };
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  ModelInferRequest request = Request("a");
  request.mutable_inputs(0)->mutable_contents()->set_bytes_contents(0, std::string(2'000'000, 'a'));
  ModelStreamInferResponse message;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stream->Write(request));
    ASSERT_TRUE(stream->Read(&message));
    EXPECT_EQ(message.error_message(), "");
  }
  EXPECT_EQ(service_.num_prepared.load(), 3);
}

TEST_P(InferStreamTest, MoreRequestsThanMayBeOpenWaitTheirTurn) {
  config_.max_body_bytes = 1 << 20;
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  constexpr size_t kRequests = 2000;  // of 4 KiB: more than a connection may leave unfinished
  constexpr size_t kOpen = 256;
  std::thread writer([&] {
    ModelInferRequest request = Request("");
    request.mutable_inputs(0)->mutable_contents()->set_bytes_contents(0, std::string(4096, 'x'));
    for (size_t i = 0; i < kRequests; ++i) {
      request.set_id(std::to_string(i));
      stream->Write(request);
    }
    stream->WritesDone();
  });
  std::map<std::string, int> answers;
  std::thread reader([&] {
    for (ModelStreamInferResponse message; stream->Read(&message);) {
      EXPECT_EQ(message.error_message(), "");
      ++answers[message.infer_response().id()];
    }
  });
  service_.WaitForCall(kOpen - 1);
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(service_.calls().size(), kOpen);
  for (size_t i = 0; i < kRequests; ++i) {
    service_.WaitForCall(i).Answer("x");
    if (i < kOpen) absl::SleepFor(absl::Milliseconds(2));  // the client sends what it may
  }
  writer.join();
  reader.join();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(answers.size(), kRequests);
  ExpectAllStreamsClosed();
}

TEST_P(InferStreamTest, AnOpenStreamDoesNotHoldUpTheEnd) {
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  ASSERT_TRUE(stream->Write(Request("a")));
  const FakeService::Call call = service_.WaitForCall();
  std::thread end([&] {
    absl::SleepFor(absl::Milliseconds(200));
    call.Answer("x");
  });
  const absl::Time begin = absl::Now();
  server_->Shutdown(absl::Now() + absl::Seconds(20));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  end.join();
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(TextOf(message.infer_response()), "x");
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_P(InferStreamTest, ManyStreamsWithClientsThatComeAndGo) {
  service_.script = [](const FakeService::Call& call) {
    call.Publish({Accepted{.model = "fake-1"}});
    for (int i = 0; i < 3; ++i) call.Publish({Tokens("t", i)});
    if (call.id % 3 != 0) call.Publish({LastTokens("t", 3), End{}});
  };
  StartServer();
  const auto stub = Stub();
  const auto work = [&](int seed) {
    for (int i = 0; i < 40; ++i) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
      const auto stream = stub->ModelStreamInfer(&context);
      for (int k = 0; k < 3; ++k) stream->Write(Request(std::to_string(k), true));
      ModelStreamInferResponse message;
      for (int k = 0; k < (seed + i) % 4; ++k) stream->Read(&message);
      context.TryCancel();
      stream->Finish();
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();
  ExpectAllStreamsClosed();
}

INSTANTIATE_TEST_SUITE_P(Transports, InferStreamTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
