#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/errors.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {
namespace {

using testing::ElementsAre;

class EmbedTest : public RpcTest {};

v1::EmbedRequest TextsRequest(int count) {
  v1::EmbedRequest request;
  request.set_model("fake-1");
  for (int i = 0; i < count; ++i) request.add_inputs()->set_text("text");
  return request;
}

TEST_P(EmbedTest, TheServiceGetsEveryFieldAndTheClientEveryVectorInOrder) {
  service_.script = [](const FakeService::Call& call) {
    End end;
    end.usage.prompt_tokens = 7;
    call.Publish({Accepted{.model = "fake-1"}, VectorEvent{1, {0.5F}}, VectorEvent{0, {1, -2}}});
    call.Publish({VectorEvent{2, {3}}, end});
  };
  StartServer();
  v1::EmbedRequest request = TextsRequest(1);
  request.add_inputs()->mutable_tokens()->add_ids(5);
  request.add_inputs()->mutable_pair()->set_second("b");
  request.set_dimensions(2);
  request.set_normalise(false);
  request.set_priority(-1);
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "r-1");
  v1::EmbedResponse answer;
  const grpc::Status status = Stub()->Embed(&context, request, &answer);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(answer.vectors_size(), 3);
  EXPECT_THAT(answer.vectors(0).values(), ElementsAre(1, -2));
  EXPECT_THAT(answer.vectors(1).values(), ElementsAre(0.5F));
  EXPECT_EQ(answer.usage().prompt_tokens(), 7);
  EXPECT_EQ(answer.request_id(), "r-1");
  const EmbedRequest got = service_.WaitForCall().embed;
  ASSERT_EQ(got.inputs.size(), 3U);
  EXPECT_EQ(std::get<Text>(got.inputs[0]), Text("text"));
  EXPECT_THAT(std::get<std::vector<TokenId>>(got.inputs[1]), ElementsAre(5));
  EXPECT_EQ(std::get<TextPair>(got.inputs[2]).second, Text("b"));
  EXPECT_EQ(got.dimensions, 2);
  EXPECT_EQ(got.normalise, false);
  EXPECT_EQ(got.priority, -1);
  ExpectAllStreamsClosed();
}

TEST_P(EmbedTest, ARefusalNamesTheFieldOfTheMessage) {
  service_.script = [](const FakeService::Call& call) {
    call.EndWith(FieldError("input", "input 3 has 900 tokens; the model allows 512",
                            "context_length_exceeded"));
  };
  StartServer();
  grpc::ClientContext context;
  v1::EmbedResponse answer;
  const grpc::Status status = Stub()->Embed(&context, TextsRequest(4), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "input 3 has 900 tokens; the model allows 512");
  const auto field = context.GetServerTrailingMetadata().find("sluice-error-field");
  ASSERT_NE(field, context.GetServerTrailingMetadata().end());
  EXPECT_EQ(std::string(field->second.data(), field->second.size()), "inputs");
}

TEST_P(EmbedTest, AnInputWithoutAKindIsRefused) {
  StartServer();
  v1::EmbedRequest request = TextsRequest(1);
  request.add_inputs();
  grpc::ClientContext context;
  v1::EmbedResponse answer;
  const grpc::Status status = Stub()->Embed(&context, request, &answer);
  EXPECT_EQ(status.error_message(), "inputs[1] has no text, tokens or pair");
}

TEST_P(EmbedTest, AClientThatLeavesCancelsTheCall) {
  StartServer();
  auto stub = Stub();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::EmbedResponse answer;
  std::thread leaver([&] {
    const FakeService::Call call = service_.WaitForCall();
    context.TryCancel();
    EXPECT_TRUE(service_.WaitForCancel(call.id));
  });
  EXPECT_EQ(stub->Embed(&context, TextsRequest(1), &answer).error_code(),
            grpc::StatusCode::CANCELLED);
  leaver.join();
  ExpectAllStreamsClosed();
}

INSTANTIATE_TEST_SUITE_P(Transports, EmbedTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
