// The answers' JSON: escaping, logprobs, and that cutting a stream anywhere changes no byte of the
// text.
#include "http/openai_response.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "base/errors.h"
#include "base/utf8.h"
#include "http/json_text.h"

namespace sluice {
namespace {

namespace json = boost::json;

AnswerFacts Facts(Endpoint endpoint) {
  AnswerFacts facts;
  facts.endpoint = endpoint;
  facts.id = "id-1";
  facts.created = 7;
  facts.model = "m\"odel";
  facts.system_fingerprint = "fp_x";
  return facts;
}

TokenEvent Event(std::string text, int32_t choice = 0) {
  TokenEvent event;
  event.choice = choice;
  event.content = Text(std::move(text));
  event.tokens = {5};
  return event;
}

TokenLogprob Logprob(TokenId token, std::string bytes, float logprob) {
  TokenLogprob entry;
  entry.token = token;
  entry.bytes = Text(std::move(bytes));
  entry.logprob = logprob;
  return entry;
}

std::vector<json::value> Chunks(const std::string& stream) {
  std::vector<json::value> chunks;
  for (size_t begin = 0; begin < stream.size();) {
    const size_t end = stream.find("\n\n", begin);
    EXPECT_EQ(stream.substr(begin, 6), "data: ");
    const std::string data = stream.substr(begin + 6, end - begin - 6);
    if (data != "[DONE]") chunks.push_back(json::parse(data));
    begin = end + 2;
  }
  return chunks;
}

TEST(JsonText, EscapesWhatJsonDemandsAndReplacesBrokenUtf8) {
  EXPECT_EQ(JsonString("a\"b\\c\n\r\t\x01\x1f\x7f/é"),
            "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\x7f/é\"");
  EXPECT_EQ(JsonString(std::string("\0", 1)), "\"\\u0000\"");
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(JsonString("\xff"), "\"" + r + "\"");
  EXPECT_EQ(JsonString("a\xe2\x80z"), "\"a" + r + "z\"");          // one per maximal subpart
  EXPECT_EQ(JsonString("\xf0\x80\x80"), "\"" + r + r + r + "\"");  // no such lead and second byte
  EXPECT_EQ(JsonString("\xed\xa0\x80"), "\"" + r + r + r + "\"");  // a surrogate
  EXPECT_EQ(JsonString("\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"");
}

TEST(JsonText, AnyBytesReadBackAsTheSameTextOnceReplaced) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 3 == 0 ? 0x80 | random() : random());
    json::error_code error;
    const json::value value = json::parse(JsonString(bytes), error);
    ASSERT_FALSE(error) << "seed 1, round " << round << ": " << error.message();
    if (IsValidUtf8(bytes)) {
      EXPECT_EQ(std::string(value.as_string()), bytes);
    }
  }
}

TEST(JsonText, FloatsAreAlwaysJson) {
  const auto text = [](float value) {
    std::string out;
    AppendJsonFloat(out, value);
    return out;
  };
  EXPECT_EQ(text(-0.5F), "-0.5");
  EXPECT_EQ(text(-std::numeric_limits<float>::infinity()), "-9999.0");
  EXPECT_EQ(text(std::nanf("")), "-9999.0");
  EXPECT_EQ(json::parse(text(-1e-20F)).to_number<float>(), -1e-20F);
}

TEST(Answers, StreamedPiecesJoinToTheWholeWhereverTheyAreCut) {
  std::mt19937 random(2);
  for (const Endpoint endpoint : {Endpoint::kChat, Endpoint::kCompletion}) {
    AnswerFacts facts = Facts(endpoint);
    facts.num_choices = 3;
    StreamedAnswer streamed;
    WholeAnswer whole;
    streamed.Start(facts);
    whole.Start(facts);
    std::string stream;
    for (int i = 0; i < 300; ++i) {
      const TokenEvent event = Event(i % 7 == 0   ? "\"\\\n"
                                     : i % 5 == 0 ? "é😀"
                                                  : "w" + std::to_string(i),
                                     static_cast<int32_t>(random() % 3));
      streamed.Add(event);
      whole.Add(event);
      if (random() % 4 == 0) streamed.Take(stream);
    }
    for (int32_t choice = 0; choice < 3; ++choice) {
      TokenEvent event = Event("", choice);
      event.finish = choice == 1 ? FinishReason::kLength : FinishReason::kStop;
      streamed.Add(event);
      whole.Add(event);
    }
    streamed.Take(stream);
    EXPECT_FALSE(streamed.has_pending());
    std::string joined[3];
    std::string reasons[3];
    for (const json::value& chunk : Chunks(stream)) {
      const json::object& choice = chunk.at("choices").at(0).as_object();
      const auto index = static_cast<size_t>(choice.at("index").as_int64());
      const json::value* text = endpoint == Endpoint::kChat
                                    ? choice.at("delta").as_object().if_contains("content")
                                    : choice.if_contains("text");
      if (text != nullptr) joined[index] += std::string(text->as_string());
      if (choice.at("finish_reason").is_string())
        reasons[index] += std::string(choice.at("finish_reason").as_string());
    }
    const json::value answer = json::parse(whole.Json({3, 4, 1}));
    EXPECT_EQ(answer.at("model"), "m\"odel");
    for (size_t i = 0; i < 3; ++i) {
      const json::object& choice = answer.at("choices").at(i).as_object();
      EXPECT_EQ(
          endpoint == Endpoint::kChat ? choice.at("message").at("content") : choice.at("text"),
          json::value(joined[i]));
      EXPECT_EQ(choice.at("finish_reason"), json::value(reasons[i]));
    }
    EXPECT_EQ(reasons[1], "length");
  }
}

TEST(Answers, ChatLogprobsCarryBytesOfPartialCharacters) {
  AnswerFacts facts = Facts(Endpoint::kChat);
  facts.logprobs = true;
  WholeAnswer whole;
  whole.Start(facts);
  TokenEvent event = Event("é");
  event.tokens = {1, 2};
  event.logprobs = {Logprob(1, "\xC3", -0.5F), Logprob(2, "\xA9", -1.0F)};
  TokenLogprob::Alternative alternative;
  alternative.token = 9;
  alternative.bytes = Text("x\"");
  alternative.logprob = -2.0F;
  event.logprobs[0].top = {alternative};
  whole.Add(event);
  const json::value answer = json::parse(whole.Json({}));
  const json::array& content = answer.at("choices").at(0).at("logprobs").at("content").as_array();
  ASSERT_EQ(content.size(), 2U);
  EXPECT_EQ(content[0].at("token"), "\xEF\xBF\xBD");
  EXPECT_EQ(content[0].at("bytes"), json::parse("[195]"));
  EXPECT_EQ(content[0].at("logprob").to_number<double>(), -0.5);
  EXPECT_EQ(content[0].at("top_logprobs").at(0).at("token"), "x\"");
  EXPECT_EQ(content[1].at("bytes"), json::parse("[169]"));
}

TEST(Answers, CompletionLogprobsAreParallelListsWithOffsetsInCharacters) {
  AnswerFacts facts = Facts(Endpoint::kCompletion);
  facts.logprobs = true;
  StreamedAnswer streamed;
  streamed.Start(facts);
  std::string stream;
  for (const auto& [token, text] : {std::pair<TokenId, std::string>{1, "éa"}, {2, "b"}}) {
    TokenEvent event = Event(text);
    event.logprobs = {Logprob(token, text, -1.0F)};
    streamed.Add(event);
    streamed.Take(stream);
  }
  TokenEvent part = Event("");
  part.logprobs = {Logprob(3, "\xE2\x80", -3.0F)};
  streamed.Add(part);
  streamed.Take(stream);
  const std::vector<json::value> chunks = Chunks(stream);
  ASSERT_EQ(chunks.size(), 3U);
  EXPECT_EQ(chunks[0].at("choices").at(0).at("logprobs").at("text_offset"), json::parse("[0]"));
  const json::value& second = chunks[1].at("choices").at(0).at("logprobs");
  EXPECT_EQ(second.at("text_offset"), json::parse("[2]"));
  EXPECT_EQ(second.at("tokens"), json::parse(R"(["b"])"));
  EXPECT_EQ(second.at("top_logprobs").at(0).as_object().size(), 1U);
  EXPECT_EQ(chunks[2].at("choices").at(0).at("logprobs").at("tokens").at(0), "bytes:\\xe2\\x80");
}

TEST(Answers, InventNoFinishReason) {
  StreamedAnswer streamed;
  streamed.Start(Facts(Endpoint::kChat));
  TokenEvent event = Event("x");
  event.finish = FinishReason::kCancelled;
  streamed.Add(event);
  std::string stream;
  streamed.Take(stream);
  EXPECT_TRUE(Chunks(stream).at(0).at("choices").at(0).at("finish_reason").is_null());
  streamed.AppendError(WithErrorCode(absl::InternalError("the step failed"), "step_failed"),
                       stream);
  const json::value error = Chunks(stream).at(1);
  EXPECT_EQ(error.at("error").at("code"), "step_failed");
  EXPECT_TRUE(error.at("error").at("param").is_null());
  EXPECT_TRUE(stream.ends_with("data: [DONE]\n\n"));
}

TEST(Answers, UsageComesAsAskedFor) {
  AnswerFacts facts = Facts(Endpoint::kChat);
  facts.include_usage = true;
  facts.prompt_tokens = 3;
  for (const bool continuous : {false, true}) {
    facts.continuous_usage = continuous;
    StreamedAnswer streamed;
    streamed.Start(facts);
    std::string stream;
    streamed.AppendOpening(stream);
    streamed.Add(Event("x"));
    streamed.Take(stream);
    streamed.AppendEnd({3, 1, 0}, stream);
    const std::vector<json::value> chunks = Chunks(stream);
    ASSERT_EQ(chunks.size(), 3U);
    EXPECT_EQ(chunks[1].at("usage").is_null(), !continuous);
    if (continuous) {
      EXPECT_EQ(chunks[1].at("usage").at("completion_tokens"), 1);
    }
    EXPECT_TRUE(chunks[2].at("choices").as_array().empty());
    EXPECT_EQ(chunks[2].at("usage").at("total_tokens"), 4);
  }
}

TEST(Answers, TokenIdsOnlyIfAskedFor) {
  AnswerFacts facts = Facts(Endpoint::kChat);
  for (const bool wanted : {false, true}) {
    facts.token_ids = wanted;
    WholeAnswer whole;
    whole.Start(facts);
    whole.Add(Event("a"));
    whole.Add(Event("b"));
    const json::value answer = json::parse(whole.Json({}));
    const json::value* ids = answer.at("choices").at(0).as_object().if_contains("token_ids");
    EXPECT_EQ(ids != nullptr, wanted);
    if (wanted) {
      EXPECT_EQ(*ids, json::parse("[5,5]"));
    }
  }
}

TEST(Errors, ComeInOpenAisForm) {
  const json::value error = json::parse(ErrorJson(FieldError("top_p", "top_p is \"2\"", "bad")));
  EXPECT_EQ(error.at("error").at("message"), "top_p is \"2\"");
  EXPECT_EQ(error.at("error").at("type"), "invalid_request_error");
  EXPECT_EQ(error.at("error").at("param"), "top_p");
  EXPECT_EQ(error.at("error").at("code"), "bad");
}

}  // namespace
}  // namespace sluice
