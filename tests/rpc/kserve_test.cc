// inference.GRPCInferenceService but for its stream, by a generated client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "tests/rpc/kserve_fixture.h"

namespace sluice::rpc {
namespace {

using ::testing::HasSubstr;

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
