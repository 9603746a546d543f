// What a stream puts on the wire, and that a whole answer says the same.
#include <boost/json.hpp>

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

}  // namespace
}  // namespace sluice
