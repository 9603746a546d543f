// inference.GRPCInferenceService by a generated client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "kserve/inference.grpc.pb.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {
namespace {

using inference::GRPCInferenceService;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;
using ::testing::HasSubstr;

TokenEvent Tokens(const std::string& text, int32_t index) {
  TokenEvent event;
  event.index = index;
  event.content = Text(text);
  event.tokens = {index};
  return event;
}

TokenEvent LastTokens(const std::string& text, int32_t index) {
  TokenEvent event = Tokens(text, index);
  event.finish = FinishReason::kLength;
  return event;
}

ModelInferRequest Request(const std::string& id, bool stream = false) {
  ModelInferRequest request;
  request.set_model_name("fake-1");
  request.set_id(id);
  auto& tensor = *request.add_inputs();
  tensor.set_name("text_input");
  tensor.set_datatype("BYTES");
  tensor.add_shape(1);
  tensor.mutable_contents()->add_bytes_contents("hi");
  (*request.mutable_parameters())["stream"].set_bool_param(stream);
  return request;
}

std::string TextOf(const ModelInferResponse& response) {
  return response.outputs_size() == 0 ? "(none)" : response.outputs(0).contents().bytes_contents(0);
}

bool IsLast(const ModelStreamInferResponse& message) {
  return message.infer_response().parameters().at("triton_final_response").bool_param();
}

class KserveTest : public RpcTest {
 protected:
  using Stream = grpc::ClientReaderWriter<ModelInferRequest, ModelStreamInferResponse>;

  std::unique_ptr<GRPCInferenceService::Stub> Stub() {
    return GRPCInferenceService::NewStub(Connect());
  }
  std::unique_ptr<Stream> Open(grpc::ClientContext& context,
                               std::chrono::seconds timeout = std::chrono::seconds(60)) {
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    stub_ = Stub();
    return stub_->ModelStreamInfer(&context);
  }
  grpc::Status Infer(const ModelInferRequest& request, ModelInferResponse& response) {
    grpc::ClientContext context;
    return Stub()->ModelInfer(&context, request, &response);
  }

  std::unique_ptr<GRPCInferenceService::Stub> stub_;
};

TEST_P(KserveTest, HealthSaysWhatTheServiceSays) {
  StartServer();
  const auto ask = [&] {
    grpc::ClientContext live_context, ready_context, model_context;
    inference::ServerLiveResponse live;
    inference::ServerReadyResponse ready;
    inference::ModelReadyRequest request;
    inference::ModelReadyResponse model;
    request.set_name("default");
    EXPECT_TRUE(Stub()->ServerLive(&live_context, {}, &live).ok());
    EXPECT_TRUE(Stub()->ServerReady(&ready_context, {}, &ready).ok());
    EXPECT_TRUE(Stub()->ModelReady(&model_context, request, &model).ok());
    return std::vector<bool>{live.live(), ready.ready(), model.ready()};
  };
  EXPECT_EQ(ask(), (std::vector<bool>{true, true, true}));
  service_.ready = false;
  EXPECT_EQ(ask(), (std::vector<bool>{true, false, false}));
  service_.live = false;
  EXPECT_EQ(ask(), (std::vector<bool>{false, false, false}));
  service_.live = service_.ready = true;
  server_->SetServing(false);
  EXPECT_EQ(ask(), (std::vector<bool>{true, false, false}));
}

TEST_P(KserveTest, ModelsThatAreNotThereAreNotReady) {
  StartServer();
  const auto ready = [&](const std::string& name, const std::string& version) {
    grpc::ClientContext context;
    inference::ModelReadyRequest request;
    request.set_name(name);
    request.set_version(version);
    inference::ModelReadyResponse response;
    EXPECT_TRUE(Stub()->ModelReady(&context, request, &response).ok());
    return response.ready();
  };
  EXPECT_TRUE(ready("fake-1", ""));
  EXPECT_TRUE(ready("fake-1", "1"));
  EXPECT_FALSE(ready("fake-1", "2"));
  EXPECT_FALSE(ready("nope", ""));
}

TEST_P(KserveTest, Metadata) {
  StartServer();
  grpc::ClientContext server_context, model_context, unknown_context;
  inference::ServerMetadataResponse server;
  ASSERT_TRUE(Stub()->ServerMetadata(&server_context, {}, &server).ok());
  EXPECT_EQ(server.name(), "sluice");
  inference::ModelMetadataRequest request;
  request.set_name("default");
  inference::ModelMetadataResponse model;
  ASSERT_TRUE(Stub()->ModelMetadata(&model_context, request, &model).ok());
  EXPECT_EQ(model.name(), "fake-1");
  EXPECT_EQ(model.inputs(0).name(), "text_input");
  EXPECT_EQ(model.outputs(0).name(), "text_output");
  request.set_name("nope");
  EXPECT_EQ(Stub()->ModelMetadata(&unknown_context, request, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_P(KserveTest, OneAnswerWithReasonAndUsage) {
  service_.script = [](const FakeService::Call& call) { call.Answer("hello"); };
  StartServer();
  ModelInferResponse response;
  ASSERT_TRUE(Infer(Request("any id, blanks too"), response).ok());
  EXPECT_EQ(response.id(), "any id, blanks too");
  EXPECT_EQ(response.model_name(), "fake-1");
  EXPECT_EQ(TextOf(response), "hello");
  EXPECT_EQ(response.parameters().at("finish_reason").string_param(), "stop");
  EXPECT_EQ(response.parameters().at("prompt_tokens").int64_param(), 3);
  EXPECT_EQ(response.parameters().at("output_tokens").int64_param(), 2);
  EXPECT_EQ(response.parameters().at("cached_tokens").int64_param(), 1);
  EXPECT_EQ(response.parameters().count("triton_final_response"), 0U);
  ExpectAllStreamsClosed();
}

TEST_P(KserveTest, RefusalsOfOneAnswerAreTheCallsStatus) {
  service_.script = [](const FakeService::Call& call) {
    call.EndWith(absl::ResourceExhaustedError("the queue is full"), absl::Seconds(2));
  };
  StartServer();
  ModelInferResponse response;
  EXPECT_EQ(Infer(Request("1"), response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const grpc::Status streamed = Infer(Request("1", true), response);
  EXPECT_EQ(streamed.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(streamed.error_message(), HasSubstr("ModelStreamInfer"));
  const grpc::Status long_id = Infer(Request(std::string(129, 'x')), response);
  EXPECT_THAT(long_id.error_message(), HasSubstr("id has 129 bytes; the limit is 128"));
  grpc::ClientContext context;
  EXPECT_EQ(
      Raw("/inference.GRPCInferenceService/ModelInfer", "\x0a\x02\xff\xfe", context).error_code(),
      grpc::StatusCode::INVALID_ARGUMENT);
  ExpectAllStreamsClosed();
}

TEST_P(KserveTest, AnEmbeddingIsOneTensor) {
  service_.task = ModelTask::kEmbed;
  service_.script = [](const FakeService::Call& call) {
    EXPECT_EQ(call.embed.inputs.size(), 1U);
    call.Publish(
        {Accepted{.model = "fake-1"}, VectorEvent{.index = 0, .values = {1, 2, 3}}, End{}});
  };
  StartServer();
  ModelInferResponse response;
  ModelInferRequest request = Request("1");
  request.mutable_parameters()->erase("stream");
  ASSERT_TRUE(Infer(request, response).ok());
  EXPECT_EQ(response.outputs(0).name(), "embedding");
  EXPECT_EQ(response.outputs(0).contents().fp32_contents_size(), 3);
}

TEST_P(KserveTest, RequestsOfOneStreamRunSideBySide) {
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

TEST_P(KserveTest, WithoutStreamTheAnswerIsOneMessage) {
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

TEST_P(KserveTest, AnEmptyLastMessageWhereOneIsAskedFor) {
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

TEST_P(KserveTest, AFailedRequestLeavesTheStreamToTheOthers) {
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

TEST_P(KserveTest, AClientThatGoesCancelsAllItsRequests) {
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

TEST_P(KserveTest, ATimeoutIsTheRequestsDeadline) {
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

TEST_P(KserveTest, AStreamsDeadlineEndsAllItsRequests) {
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

TEST_P(KserveTest, AClientThatDoesNotReadIsGivenUp) {
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

TEST_P(KserveTest, NamesThatMetadataCannotHoldAreRefused) {
  StartServer();
  for (const std::string name : {"\xc3\xa9", "a\nb", "a b", "", "a-b"}) {
    ModelInferRequest request = Request("1");
    (*request.mutable_parameters())[name].set_bool_param(true);
    ModelInferResponse response;
    const grpc::Status status = Infer(request, response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("is not 1 to 64 ASCII letters"));
  }
  ModelInferRequest request = Request("1");
  request.mutable_inputs(0)->set_name(std::string(100'000, 'n'));
  ModelInferResponse response;
  EXPECT_EQ(Infer(request, response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_P(KserveTest, ProbesWithContentAreRefused) {
  StartServer();
  grpc::ClientContext context;
  EXPECT_EQ(Raw("/inference.GRPCInferenceService/ServerLive", std::string(5000, '\n'), context)
                .error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(service_.num_prepared.load(), 0);
}

TEST_P(KserveTest, AStreamWithoutRequestsEndsWell) {
  StartServer();
  grpc::ClientContext context;
  const auto stream = Open(context);
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_P(KserveTest, ALongPromptGoesThroughThePool) {
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

TEST_P(KserveTest, MoreRequestsThanMayBeOpenWaitTheirTurn) {
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

TEST_P(KserveTest, AnOpenStreamDoesNotHoldUpTheEnd) {
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

TEST_P(KserveTest, ManyStreamsWithClientsThatComeAndGo) {
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

TEST_P(KserveTest, ProbesNeedNoKeyTheRestDoes) {
  // printf %s alpha-key | sha256sum
  config_.api_keys_file = WriteFile(
      "keys", "alice 677509799af78b2efa2f2af71d0f906e0a0c50c048efd3b515625f788e92b99a red\n");
  service_.script = [](const FakeService::Call& call) {
    EXPECT_EQ(call.request.tenant, "red");
    call.Answer("x");
  };
  StartServer();
  {
    grpc::ClientContext context;
    inference::ServerReadyResponse ready;
    EXPECT_TRUE(Stub()->ServerReady(&context, {}, &ready).ok());
  }
  {
    grpc::ClientContext context;
    inference::ModelReadyResponse ready;
    EXPECT_EQ(Stub()->ModelReady(&context, {}, &ready).error_code(),
              grpc::StatusCode::UNAUTHENTICATED);
  }
  ModelInferResponse response;
  EXPECT_EQ(Infer(Request("1"), response).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  {
    grpc::ClientContext context;
    const auto stream = Open(context);
    stream->Write(Request("1"));
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer alpha-key");
  const auto stream = Open(context);
  ASSERT_TRUE(stream->Write(Request("1")));
  ModelStreamInferResponse message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.error_message(), "");
  EXPECT_EQ(TextOf(message.infer_response()), "x");
}

INSTANTIATE_TEST_SUITE_P(Transports, KserveTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
