// What a stream puts on the wire, and that a whole answer says the same.
#include <boost/json.hpp>

#include "base/errors.h"
#include "tests/http/server_fixture.h"

namespace sluice {
namespace {

namespace json = boost::json;

class Streaming : public ServerFixture {};

TEST_F(Streaming, ChatAnswersWhole) {
  Start();
  AnswerAll({"Hel", "lo \"you\"\n"});
  const RawResponse response = Ask(Post("/v1/chat/completions", kChatBody));
  ASSERT_EQ(response.status, 200) << response.body;
  const json::object answer = json::parse(response.body).as_object();
  EXPECT_EQ(answer.at("object"), "chat.completion");
  EXPECT_EQ(answer.at("model"), "fake/model");
  EXPECT_EQ(answer.at("system_fingerprint"), "fp_fake");
  EXPECT_TRUE(std::string(answer.at("id").as_string()).starts_with("chatcmpl-"));
  const json::object& choice = answer.at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("message").at("content"), "Hello \"you\"\n");
  EXPECT_EQ(choice.at("message").at("role"), "assistant");
  EXPECT_EQ(choice.at("finish_reason"), "stop");
  EXPECT_TRUE(choice.at("logprobs").is_null());
  EXPECT_EQ(answer.at("usage").at("total_tokens"), 5);
  EXPECT_EQ(answer.at("usage").at("prompt_tokens_details").at("cached_tokens"), 2);
}

TEST_F(Streaming, ChatStreamsRoleTextReasonAndDone) {
  Start();
  AnswerAll({"Hel", "lo"});
  const RawResponse response = Ask(Post("/v1/chat/completions", kStreamBody));
  ASSERT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(response.headers.at("x-sluice-seed"), "42");
  const std::vector<std::string> events = response.Events();
  ASSERT_GE(events.size(), 3U);
  EXPECT_EQ(events.back(), "[DONE]");
  const json::value first = json::parse(events.front());
  EXPECT_EQ(first.at("object"), "chat.completion.chunk");
  EXPECT_EQ(first.at("choices").at(0).at("delta").at("role"), "assistant");
  std::string text;
  std::string reason;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const json::value chunk = json::parse(events[i]);
    EXPECT_EQ(chunk.at("id"), first.at("id"));
    const json::object& choice = chunk.at("choices").at(0).as_object();
    if (const json::value* content = choice.at("delta").as_object().if_contains("content")) {
      text += std::string(content->as_string());
    }
    if (choice.at("finish_reason").is_string())
      reason += std::string(choice.at("finish_reason").as_string());
  }
  EXPECT_EQ(text, "Hello");
  EXPECT_EQ(reason, "stop");
}

TEST_F(Streaming, CompletionsSpeakTheirOwnForm) {
  Start();
  AnswerAll({"a", "b"});
  const json::value whole =
      json::parse(Ask(Post("/v1/completions", R"({"model":"default","prompt":"x"})")).body);
  EXPECT_EQ(whole.at("object"), "text_completion");
  EXPECT_EQ(whole.at("choices").at(0).at("text"), "ab");
  EXPECT_TRUE(std::string(whole.at("id").as_string()).starts_with("cmpl-"));
  const RawResponse streamed =
      Ask(Post("/v1/completions", R"({"model":"default","prompt":"x","stream":true})"));
  std::string text;
  const std::vector<std::string> events = streamed.Events();
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    text += std::string(json::parse(events[i]).at("choices").at(0).at("text").as_string());
  }
  EXPECT_EQ(text, "ab");
}

TEST_F(Streaming, FirstByteWaitsForTheAcceptance) {
  Start();
  RawClient client(server->port());
  client.Send(Post("/v1/chat/completions", kStreamBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  service.Accept(1);
  // The head and the role are there before any token is.
  EXPECT_NE(client.ReadUntil("\"role\":\"assistant\"").find("200 OK"), std::string::npos);
  service.Say(1, "one");
  client.ReadUntil("one");
  service.Finish(1);
  service.EndOk(1);
  const auto response = client.Read();
  ASSERT_TRUE(response);
  EXPECT_GE(response->chunks.size(), 3U);
  EXPECT_EQ(response->Events().back(), "[DONE]");
}

TEST_F(Streaming, ARefusalIsAPlainErrorEvenForAStream) {
  Start();
  service.on_generate = [this](CallId call) {
    service.EndWith(call, absl::ResourceExhaustedError("256 requests wait already"),
                    absl::Milliseconds(2100));
  };
  for (const std::string& body : {kStreamBody, kChatBody}) {
    const RawResponse response = Ask(Post("/v1/chat/completions", body));
    EXPECT_EQ(response.status, 429);
    EXPECT_EQ(response.headers.at("retry-after"), "3");
    EXPECT_EQ(response.headers.at("content-type"), "application/json");
    EXPECT_EQ(json::parse(response.body).at("error").at("type"), "rate_limit_error");
  }
  service.on_generate = [this](CallId call) {
    service.EndWith(call, absl::UnavailableError("draining"));
  };
  const RawResponse draining = Ask(Post("/v1/chat/completions", kChatBody));
  EXPECT_EQ(draining.status, 503);
  EXPECT_EQ(draining.headers.at("retry-after"), "1");
}

TEST_F(Streaming, AnErrorAfterTheFirstByteStandsInTheStream) {
  Start();
  service.on_generate = [this](CallId call) {
    service.Accept(call);
    service.Say(call, "half");
    service.EndWith(call, absl::InternalError("the step failed"));
  };
  const RawResponse response = Ask(Post("/v1/chat/completions", kStreamBody));
  EXPECT_EQ(response.status, 200);
  const std::vector<std::string> events = response.Events();
  ASSERT_GE(events.size(), 3U);
  EXPECT_EQ(json::parse(events[events.size() - 2]).at("error").at("message"), "the step failed");
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_EQ(response.body.find("\"finish_reason\":\""), std::string::npos);
  // Unstreamed it is an error alone: half an answer is none.
  EXPECT_EQ(Ask(Post("/v1/chat/completions", kChatBody)).status, 500);
}

TEST_F(Streaming, ServiceRefusalsNameTheClientsField) {
  Start();
  service.on_generate = [this](CallId call) {
    service.EndWith(call, FieldError("max_tokens", "max_tokens is 0"));
  };
  const RawResponse response = Ask(Post(
      "/v1/chat/completions",
      R"({"model":"m","messages":[{"role":"user","content":"x"}],"max_completion_tokens":0})"));
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(json::parse(response.body).at("error").at("param"), "max_completion_tokens");
}

TEST_F(Streaming, ASlowClientGetsFewerAndLargerChunksAndEveryByte) {
  Start();
  RawClient client(server->port(), 4096);
  client.Send(Post("/v1/chat/completions", kStreamBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  service.Accept(1);
  std::string said;
  constexpr int kWords = 20'000;
  for (int i = 0; i < kWords; ++i) {
    const std::string word = " word" + std::to_string(i);
    service.Say(1, word);
    said += word;
  }
  service.Finish(1);
  service.EndOk(1);
  // Another connection of the same thread is not held up; once it is answered, everything above has
  // been applied.
  EXPECT_EQ(Ask(Get("/livez")).status, 200);
  const auto response = client.Read();
  ASSERT_TRUE(response);
  EXPECT_LT(response->Events().size(), kWords / 4);
  EXPECT_EQ(JoinedContent(*response), said);
  EXPECT_EQ(service.num_cancels(), 0U);
}

TEST_F(Streaming, AClientThatTakesNothingIsGivenUp) {
  config.write_timeout_s = 0.2;
  Start();
  RawClient client(server->port(), 4096);
  client.Send(Post("/v1/chat/completions", kStreamBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  service.Accept(1);
  // Until it is cancelled, so that no kernel buffer is large enough.
  for (int i = 0; i < 100'000 && service.num_cancels() == 0; ++i)
    service.Say(1, std::string(200, 'x'));
  EXPECT_TRUE(service.WaitForCancels(1));
}

TEST_F(Streaming, RequestFactsReachTheService) {
  Start();
  AnswerAll({"x"});
  const absl::Time before = absl::Now();
  Ask(Post("/v1/chat/completions", kChatBody,
           "X-Request-ID: rq-7\r\nX-Request-Timeout-Ms: 5000\r\nIdempotency-Key: ik\r\n"));
  const GenerateRequest request = service.Request(1);
  EXPECT_EQ(request.request_id, "rq-7");
  EXPECT_EQ(request.idempotency_key, "ik");
  EXPECT_EQ(request.tenant, "default");
  EXPECT_GE(request.deadline, before + absl::Seconds(5));
  EXPECT_LE(request.deadline, absl::Now() + absl::Seconds(5));
  for (const std::string_view bad : {"0", "-1", "1.5", "x", "99999999999", "5 "}) {
    const RawResponse response = Ask(Post("/v1/chat/completions", kChatBody,
                                          "X-Request-Timeout-Ms: " + std::string(bad) + "x\r\n"));
    EXPECT_EQ(response.status, 400) << bad;
    EXPECT_EQ(json::parse(response.body).at("error").at("param"), "x-request-timeout-ms");
  }
  EXPECT_EQ(Ask(Post("/v1/chat/completions", kChatBody, "Idempotency-Key: a b\r\n")).status, 400);
}

TEST_F(Streaming, BodiesThatNameTheirRequestAreAnsweredUnderThatName) {
  Start();
  AnswerAll({"x"});
  const std::string body =
      R"({"model":"m","messages":[{"role":"user","content":"x"}],"request_id":"in-body"})";
  EXPECT_EQ(Ask(Post("/v1/chat/completions", body)).headers.at("x-request-id"), "in-body");
  EXPECT_EQ(Ask(Post("/v1/chat/completions", body, "X-Request-ID: in-header\r\n"))
                .headers.at("x-request-id"),
            "in-header");
}

TEST_F(Streaming, LargeBodiesAreParsedOnThePreparePool) {
  Start();
  AnswerAll({"x"});
  const std::string text(200'000, 'a');
  const std::string body =
      R"({"model":"m","messages":[{"role":"user","content":")" + text + "\"}]}";
  EXPECT_EQ(Ask(Post("/v1/chat/completions", body)).status, 200);
  const GenerateRequest request = service.Request(1);
  EXPECT_EQ(std::get<std::vector<ChatMessage>>(request.prompt).at(0).content.size(), text.size());
  const RawResponse bad = Ask(Post("/v1/chat/completions", body + "}"));
  EXPECT_EQ(bad.status, 400);
  service.refuse_prepared = true;
  const RawResponse refused = Ask(Post("/v1/chat/completions", body));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_EQ(Ask(Post("/v1/chat/completions", kChatBody)).status, 200);
}

TEST_F(Streaming, ShutdownEndsARunningStreamWithAnError) {
  Start();
  RawClient client(server->port());
  client.Send(Post("/v1/chat/completions", kStreamBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  service.Accept(1);
  client.ReadUntil("assistant");
  server->Shutdown();
  const auto response = client.Read();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->Events().back(), "[DONE]");
  EXPECT_NE(response->body.find("\"error\""), std::string::npos);
  EXPECT_EQ(service.num_cancels(), 1U);
}

TEST_F(Streaming, ShutdownTellsWhoWaitsForAWholeAnswer) {
  Start();
  RawClient client(server->port());
  client.Send(Post("/v1/chat/completions", kChatBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  server->Shutdown();
  const auto response = client.Read();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 503);
  EXPECT_EQ(response->headers.at("retry-after"), "1");
}

}  // namespace
}  // namespace sluice
