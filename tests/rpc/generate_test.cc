// Generate and the small methods over a real channel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using GenerateTest = RpcTest;

TEST_P(GenerateTest, TheAnswerCarriesEveryFactOfTheEvents) {
  service_.script = [](const FakeService::Call& call) {
    TokenEvent first;
    first.content = Text("Hel");
    first.tokens = {5};
    first.logprobs = {{.token = 5,
                       .bytes = Text("Hel"),
                       .logprob = -0.5F,
                       .top = {{.token = 5, .bytes = Text("Hel"), .logprob = -0.5F},
                               {.token = 6, .bytes = Text("\xff"), .logprob = -2.0F}}}};
    TokenEvent second;
    second.index = 1;
    second.content = Text("lo");
    second.tokens = {6, 9};
    second.finish = FinishReason::kLength;
    TokenEvent other;
    other.choice = 1;
    other.content = Text("Bye");
    other.tokens = {4};
    other.finish = FinishReason::kStop;
    End end;
    end.usage = {.prompt_tokens = 11, .output_tokens = 4, .cached_tokens = 2};
    call.Publish(
        {Accepted{
             .model = "fake-1", .seed = 99, .prompt_tokens = 11, .system_fingerprint = "fp_fake"},
         other, first});
    call.Publish({second, end});
  };
  StartServer();
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "r-17");
  v1::GenerateResponse answer;
  const grpc::Status status = Stub()->Generate(&context, TextRequest("hi"), &answer);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(answer.request_id(), "r-17");
  EXPECT_EQ(answer.model(), "fake-1");
  EXPECT_EQ(answer.seed(), 99U);
  EXPECT_EQ(answer.system_fingerprint(), "fp_fake");
  ASSERT_EQ(answer.choices_size(), 2);
  EXPECT_EQ(answer.choices(0).content(), "Hello");
  EXPECT_THAT(answer.choices(0).tokens(), ElementsAre(5, 6, 9));
  EXPECT_EQ(answer.choices(0).finish_reason(), v1::FINISH_REASON_LENGTH);
  ASSERT_EQ(answer.choices(0).logprobs_size(), 1);
  EXPECT_EQ(answer.choices(0).logprobs(0).top(1).token_bytes(), "\xff");
  EXPECT_FLOAT_EQ(answer.choices(0).logprobs(0).logprob(), -0.5F);
  EXPECT_EQ(answer.choices(1).index(), 1);
  EXPECT_EQ(answer.choices(1).content(), "Bye");
  EXPECT_EQ(answer.usage().prompt_tokens(), 11);
  EXPECT_EQ(answer.usage().output_tokens(), 4);
  EXPECT_EQ(answer.usage().cached_tokens(), 2);
  const auto id = context.GetServerInitialMetadata().find("x-request-id");
  ASSERT_NE(id, context.GetServerInitialMetadata().end());
  EXPECT_EQ(std::string(id->second.data(), id->second.size()), "r-17");
  ExpectAllStreamsClosed();
}

TEST_P(GenerateTest, TheServiceGetsEveryFieldOfTheRequest) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  StartServer();
  v1::GenerateRequest request;
  request.set_model("m");
  v1::ChatPrompt& chat = *request.mutable_chat();
  chat.set_add_generation_prompt(false);
  chat.add_messages()->set_role("user");
  chat.mutable_messages(0)->set_content("hello");
  v1::Sampling& sampling = *request.mutable_sampling();
  sampling.set_temperature(0);
  sampling.set_top_k(5);
  sampling.set_top_p(0.5);
  sampling.set_min_p(0.1);
  sampling.set_repetition_penalty(1.5);
  sampling.set_presence_penalty(-1);
  sampling.set_frequency_penalty(2);
  (*sampling.mutable_logit_bias())[7] = -100;
  sampling.set_min_tokens(1);
  sampling.set_max_tokens(64);
  sampling.add_stop("END");
  sampling.add_stop_token_ids(2);
  sampling.set_ignore_eos(true);
  sampling.set_seed(123);
  sampling.set_n(2);
  sampling.set_logprobs(3);
  request.set_skip_special_tokens(false);
  request.set_include_stop_str_in_output(true);
  request.set_stream_interval(4);
  request.set_priority(-4);
  request.set_request_id("mine");
  request.set_idempotency_key("once");
  request.add_resume_output_tokens(31);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(100));
  v1::GenerateResponse answer;
  ASSERT_TRUE(Stub()->Generate(&context, request, &answer).ok());
  const GenerateRequest got = service_.WaitForCall().request;
  EXPECT_EQ(got.model, "m");
  const auto& messages = std::get<std::vector<ChatMessage>>(got.prompt);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].role, "user");
  EXPECT_EQ(messages[0].content, Text("hello"));
  EXPECT_FALSE(got.add_generation_prompt);
  EXPECT_TRUE(got.parse_special);
  EXPECT_FALSE(got.skip_special_tokens);
  EXPECT_TRUE(got.include_stop_str_in_output);
  EXPECT_EQ(got.stream_interval, 4);
  EXPECT_EQ(got.sampling.temperature, 0);
  EXPECT_EQ(got.sampling.top_k, 5);
  EXPECT_EQ(got.sampling.top_p, 0.5);
  EXPECT_EQ(got.sampling.min_p, 0.1);
  EXPECT_EQ(got.sampling.repetition_penalty, 1.5);
  EXPECT_EQ(got.sampling.presence_penalty, -1);
  EXPECT_EQ(got.sampling.frequency_penalty, 2);
  EXPECT_EQ(got.sampling.logit_bias.at(7), -100);
  EXPECT_EQ(got.sampling.min_tokens, 1);
  EXPECT_EQ(got.sampling.max_tokens, 64);
  EXPECT_EQ(got.sampling.stop.at(0), Text("END"));
  EXPECT_THAT(got.sampling.stop_token_ids, ElementsAre(2));
  EXPECT_TRUE(got.sampling.ignore_eos);
  EXPECT_EQ(got.sampling.seed, 123U);
  EXPECT_EQ(got.sampling.n, 2);
  EXPECT_EQ(got.sampling.num_logprobs, 3);
  EXPECT_EQ(got.default_max_tokens, 0);
  EXPECT_EQ(got.priority, -4);
  EXPECT_EQ(got.tenant, "default");
  EXPECT_EQ(got.request_id, "mine");
  EXPECT_EQ(answer.request_id(), "mine");
  EXPECT_EQ(got.idempotency_key, "once");
  EXPECT_THAT(got.resume_output_tokens, ElementsAre(31));
  EXPECT_GT(got.deadline, absl::Now() + absl::Seconds(80));
  EXPECT_LT(got.deadline, absl::Now() + absl::Seconds(101));
}

TEST_P(GenerateTest, FieldsLeftOutStayEmptyAndThereIsNoDeadline) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  StartServer();
  v1::GenerateRequest request;
  request.mutable_tokens()->add_ids(1);
  grpc::ClientContext context;
  v1::GenerateResponse answer;
  ASSERT_TRUE(Stub()->Generate(&context, request, &answer).ok());
  const GenerateRequest got = service_.WaitForCall().request;
  EXPECT_THAT(std::get<std::vector<TokenId>>(got.prompt), ElementsAre(1));
  EXPECT_FALSE(got.sampling.temperature || got.sampling.top_k || got.sampling.seed ||
               got.sampling.max_tokens || got.sampling.num_logprobs);
  EXPECT_EQ(got.sampling.n, 1);
  EXPECT_EQ(got.default_max_tokens, 16);
  EXPECT_EQ(got.deadline, absl::InfiniteFuture());
  EXPECT_THAT(got.request_id, StartsWith("req-"));
  EXPECT_EQ(answer.request_id(), got.request_id);
}

TEST_P(GenerateTest, ACallWithoutDeadlineGetsTheConfiguredOne) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  config_.default_deadline_s = 50;
  StartServer();
  grpc::ClientContext context;
  v1::GenerateResponse answer;
  ASSERT_TRUE(Stub()->Generate(&context, TextRequest("hi"), &answer).ok());
  const GenerateRequest got = service_.WaitForCall().request;
  EXPECT_GT(got.deadline, absl::Now() + absl::Seconds(30));
  EXPECT_LT(got.deadline, absl::Now() + absl::Seconds(51));
}

TEST_P(GenerateTest, ARefusalCarriesItsCodeAndWhenToComeBack) {
  service_.script = [](const FakeService::Call& call) {
    call.EndWith(absl::ResourceExhaustedError("256 requests wait; the limit is 256"),
                 absl::Milliseconds(1500));
  };
  StartServer();
  grpc::ClientContext context;
  v1::GenerateResponse answer;
  const grpc::Status status = Stub()->Generate(&context, TextRequest("hi"), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "256 requests wait; the limit is 256");
  EXPECT_EQ(Trailing(context, "retry-after"), "2");
  EXPECT_EQ(Trailing(context, "grpc-retry-pushback-ms"), "1500");
  // google.rpc.Status{8, message, Any{type, RetryInfo{Duration{1, 500000000}}}}, byte by byte.
  EXPECT_EQ(status.error_details(), std::string("\x08\x08\x12\x23") + status.error_message() +
                                        "\x1a\x36\x0a\x28" +
                                        "type.googleapis.com/google.rpc.RetryInfo" +
                                        "\x12\x0a\x0a\x08\x08\x01\x10" + "\x80\xca\xb5\xee\x01");
  ExpectAllStreamsClosed();
}

TEST_P(GenerateTest, AFieldErrorNamesTheProtoField) {
  service_.script = [](const FakeService::Call& call) {
    call.EndWith(FieldError("top_p", "top_p is 2; it is in (0, 1]", "out_of_range"));
  };
  StartServer();
  grpc::ClientContext context;
  v1::GenerateResponse answer;
  const grpc::Status status = Stub()->Generate(&context, TextRequest("hi"), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Trailing(context, "sluice-error-field"), "sampling.top_p");
  EXPECT_EQ(Trailing(context, "sluice-error-code"), "out_of_range");
  EXPECT_EQ(Trailing(context, "retry-after"), "(absent)");
}

TEST_P(GenerateTest, AnErrorAfterOutputIsTheStatus) {
  service_.script = [](const FakeService::Call& call) {
    TokenEvent tokens;
    tokens.content = Text("half");
    call.Publish({Accepted{}, tokens});
    call.EndWith(absl::InternalError("the step failed"));
  };
  StartServer();
  grpc::ClientContext context;
  v1::GenerateResponse answer;
  const grpc::Status status = Stub()->Generate(&context, TextRequest("hi"), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "the step failed");
}

TEST_P(GenerateTest, ARequestWithoutPromptIsRefusedHere) {
  StartServer();
  grpc::ClientContext context;
  v1::GenerateResponse answer;
  const grpc::Status status = Stub()->Generate(&context, v1::GenerateRequest(), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Trailing(context, "sluice-error-field"), "prompt");
  EXPECT_TRUE(service_.calls().empty());
  EXPECT_EQ(metrics_->orphans.OpenStreams(), 0);
}

TEST_P(GenerateTest, HostileBytesAreInvalidArgument) {
  StartServer();
  std::string flood;  // 70,000 empty chat messages: 140 KB on the wire, 4 MB as objects; 16 MB
                      // would be half a gigabyte
  for (int i = 0; i < 70'000; ++i) flood += std::string("\x0a\x00", 2);
  const std::string chat = std::string("\x1a\xe0\xc5\x08", 4) + flood;  // field 3, 140,000 bytes
  const struct {
    std::string bytes, message;
  } kCases[] = {
      {"\x12\x03"
       "a\xff"
       "b",
       "is not UTF-8"},                                      // text
      {"\x1a\x06\x0a\x04\x12\x02\xc3\x28", "is not UTF-8"},  // chat.messages[0].content
      {"\x12\x7f"
       "abc",
       "not a GenerateRequest"},                              // length past the end
      {"\x1a\xff\xff\xff\xff\x0f", "not a GenerateRequest"},  // a length of 4 GiB
      {std::string(1000, '\xff'), "not a GenerateRequest"},
      {std::string("\x00", 1), "not a GenerateRequest"},  // field number 0
      {"\x1c", "not a GenerateRequest"},                  // the end of a group that never began
      {std::string(70'000, '\x0b'), "GenerateRequest"},   // groups within groups
      {chat, "more than 65536 fields"},
  };
  for (const char* method : {"Generate", "GenerateStream"}) {
    for (const auto& c : kCases) {
      grpc::ClientContext context;
      const grpc::Status status =
          Raw(std::string("/sluice.v1.Inference/") + method, c.bytes, context);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
          << c.message << ": " << status.error_message();
      EXPECT_THAT(status.error_message(), HasSubstr(c.message));
    }
  }
  EXPECT_TRUE(service_.calls().empty());
  EXPECT_EQ(metrics_->orphans.OpenStreams(), 0);
}

TEST_P(GenerateTest, ALongRequestIsParsedByThePreparePool) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  StartServer();
  const std::string text(200'000, 'a');
  v1::GenerateResponse answer;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(Stub()->Generate(&context, TextRequest(text), &answer).ok());
    EXPECT_EQ(service_.num_prepared.load(), 1);
    EXPECT_EQ(std::get<Text>(service_.WaitForCall().request.prompt), Text(text));
  }
  service_.prepare_full = true;
  grpc::ClientContext context;
  const grpc::Status status = Stub()->Generate(&context, TextRequest(text), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Trailing(context, "retry-after"), "1");
  ExpectAllStreamsClosed();
}

TEST_P(GenerateTest, OnlySoundRequestIdsAreTaken) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  StartServer();
  for (const std::string& id : {std::string("has blank"), std::string(129, 'x')}) {
    grpc::ClientContext context;
    context.AddMetadata("x-request-id", id);
    v1::GenerateResponse answer;
    ASSERT_TRUE(Stub()->Generate(&context, TextRequest("hi"), &answer).ok());
    EXPECT_THAT(answer.request_id(), StartsWith("req-"));
  }
  for (const std::string& id :
       {std::string("line\nbreak"), std::string(129, 'x'), std::string("caf\xc3\xa9")}) {
    grpc::ClientContext context;
    v1::GenerateRequest request = TextRequest("hi");
    request.set_request_id(id);
    v1::GenerateResponse answer;
    const grpc::Status status = Stub()->Generate(&context, request, &answer);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(Trailing(context, "sluice-error-field"), "request_id");
  }
  {
    grpc::ClientContext context;
    v1::GenerateRequest request = TextRequest("hi");
    request.set_idempotency_key("two words");
    v1::GenerateResponse answer;
    EXPECT_EQ(Stub()->Generate(&context, request, &answer).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(Trailing(context, "sluice-error-field"), "idempotency_key");
  }
  grpc::ClientContext context;  // as over HTTP, the header goes before the body
  context.AddMetadata("x-request-id", "from-metadata");
  v1::GenerateRequest request = TextRequest("hi");
  request.set_request_id("from-message");
  v1::GenerateResponse answer;
  ASSERT_TRUE(Stub()->Generate(&context, request, &answer).ok());
  EXPECT_EQ(answer.request_id(), "from-metadata");
}

TEST_P(GenerateTest, TokenizeDetokenizeAndListModels) {
  StartServer();
  const auto stub = Stub();
  {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.set_text("ab");
    v1::TokenizeResponse answer;
    ASSERT_TRUE(stub->Tokenize(&context, request, &answer).ok());
    EXPECT_THAT(answer.tokens(), ElementsAre(97, 98));
    EXPECT_THAT(answer.token_bytes(), ElementsAre("a", "b"));
    EXPECT_EQ(answer.max_model_len(), 2048);
  }
  {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.mutable_chat()->set_add_generation_prompt(false);
    request.set_parse_special(false);
    v1::TokenizeResponse answer;
    ASSERT_TRUE(stub->Tokenize(&context, request, &answer).ok());
    EXPECT_THAT(answer.tokens(), ElementsAre(0, 0, 1));
  }
  {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.set_text(std::string(100'000, 'z'));
    v1::TokenizeResponse answer;
    ASSERT_TRUE(stub->Tokenize(&context, request, &answer).ok());
    EXPECT_EQ(answer.tokens_size(), 100'000);
    EXPECT_EQ(service_.num_prepared.load(), 1);
  }
  {
    grpc::ClientContext context;
    v1::TokenizeRequest request;
    request.set_model("none");
    request.set_text("x");
    v1::TokenizeResponse answer;
    EXPECT_EQ(stub->Tokenize(&context, request, &answer).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  {
    grpc::ClientContext context;
    v1::TokenizeResponse answer;
    EXPECT_EQ(stub->Tokenize(&context, v1::TokenizeRequest(), &answer).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(Trailing(context, "sluice-error-field"), "prompt");
  }
  {
    grpc::ClientContext context;
    v1::DetokenizeRequest request;
    request.add_tokens('h');
    request.add_tokens('i');
    v1::DetokenizeResponse answer;
    ASSERT_TRUE(stub->Detokenize(&context, request, &answer).ok());
    EXPECT_EQ(answer.text(), "hi");
  }
  {
    grpc::ClientContext context;
    v1::DetokenizeRequest request;
    request.add_tokens(-1);
    v1::DetokenizeResponse answer;
    EXPECT_EQ(stub->Detokenize(&context, request, &answer).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(Trailing(context, "sluice-error-field"), "tokens[0]");
  }
  {
    grpc::ClientContext context;
    v1::ListModelsResponse answer;
    ASSERT_TRUE(stub->ListModels(&context, v1::ListModelsRequest(), &answer).ok());
    ASSERT_EQ(answer.models_size(), 1);
    EXPECT_EQ(answer.models(0).id(), "fake-1");
    EXPECT_THAT(answer.models(0).aliases(), ElementsAre("default"));
    EXPECT_EQ(answer.models(0).max_model_len(), 2048);
  }
  for (const char* method : {"Tokenize", "Detokenize", "ListModels"}) {
    grpc::ClientContext context;
    EXPECT_EQ(Raw(std::string("/sluice.v1.Inference/") + method, "\xff\xff", context).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
  grpc::ClientContext context;
  EXPECT_EQ(Raw("/sluice.v1.Inference/Nothing", "", context).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_P(GenerateTest, EveryCallIsCountedWithItsCode) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  StartServer();
  v1::GenerateResponse answer;
  grpc::ClientContext good, bad;
  ASSERT_TRUE(Stub()->Generate(&good, TextRequest("hi"), &answer).ok());
  ASSERT_FALSE(Stub()->Generate(&bad, v1::GenerateRequest(), &answer).ok());
  server_->Shutdown(absl::Now() + absl::Seconds(5));
  server_ = nullptr;
  const std::string page = metrics_->Render();
  EXPECT_THAT(page, HasSubstr("method=\"Generate\""));
  EXPECT_THAT(page, HasSubstr("code=\"OK\""));
  EXPECT_THAT(page, HasSubstr("code=\"INVALID_ARGUMENT\""));
}

INSTANTIATE_TEST_SUITE_P(Transports, GenerateTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
