// The request codec: what is understood, and that each refusal names its field.
#include "http/openai_request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "base/errors.h"

namespace sluice {
namespace {

constexpr int kDepth = 32;

absl::StatusOr<OpenAiRequest> Chat(const std::string& fields) {
  return ParseGenerate(Endpoint::kChat,
                       R"({"model":"m","messages":[{"role":"user","content":"hi"}])" +
                           (fields.empty() ? "" : "," + fields) + "}",
                       kDepth);
}
absl::StatusOr<OpenAiRequest> Completion(const std::string& fields) {
  return ParseGenerate(Endpoint::kCompletion,
                       R"({"model":"m","prompt":"hi")" + (fields.empty() ? "" : "," + fields) + "}",
                       kDepth);
}
absl::StatusOr<OpenAiRequest> Messages(const std::string& messages) {
  return ParseGenerate(Endpoint::kChat, R"({"model":"m","messages":)" + messages + "}", kDepth);
}

struct Bad {
  std::string_view fields;
  std::string_view param;
};

void ExpectRefused(const absl::StatusOr<OpenAiRequest>& request, const Bad& bad) {
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument) << bad.fields;
  EXPECT_EQ(ErrorParam(request.status()), bad.param) << bad.fields << ": " << request.status();
  EXPECT_EQ(ToWireError(request.status()).http_status, 400) << bad.fields;
}

TEST(OpenAiRequest, RefusesWrongFieldsOfBothEndpointsByName) {
  const Bad kBad[] = {
      {R"("temperature":"1")", "temperature"},
      {R"("temperature":true)", "temperature"},
      {R"("top_p":[])", "top_p"},
      {R"("top_k":1.5)", "top_k"},
      {R"("top_k":1e300)", "top_k"},
      {R"("top_k":9223372036854775808)", "top_k"},
      {R"("top_k":true)", "top_k"},
      {R"("min_p":{})", "min_p"},
      {R"("n":0)", "n"},
      {R"("n":129)", "n"},
      {R"("n":"1")", "n"},
      {R"("n":1.5)", "n"},
      {R"("max_tokens":"9")", "max_tokens"},
      {R"("min_tokens":false)", "min_tokens"},
      {R"("stream":1)", "stream"},
      {R"("stream":"true")", "stream"},
      {R"("stream_options":{})", "stream_options"},
      {R"("stream":true,"stream_options":[])", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage"},
      {R"("stop":5)", "stop"},
      {R"("stop":["a",5])", "stop"},
      {R"("stop":["","","","","","","","","","","","","","","","",""])", "stop"},
      {R"("stop_token_ids":[1,-1])", "stop_token_ids"},
      {R"("stop_token_ids":[2147483648])", "stop_token_ids"},
      {R"("stop_token_ids":7)", "stop_token_ids"},
      {R"("presence_penalty":"x")", "presence_penalty"},
      {R"("frequency_penalty":[1])", "frequency_penalty"},
      {R"("repetition_penalty":{})", "repetition_penalty"},
      {R"("logit_bias":[])", "logit_bias"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"1 ":1})", "logit_bias"},
      {R"("logit_bias":{"1":"1"})", "logit_bias"},
      {R"("logit_bias":{"99999999999":1})", "logit_bias"},
      {R"("seed":1.5)", "seed"},
      {R"("seed":"1")", "seed"},
      {R"("ignore_eos":0)", "ignore_eos"},
      {R"("skip_special_tokens":"no")", "skip_special_tokens"},
      {R"("include_stop_str_in_output":1)", "include_stop_str_in_output"},
      {R"("priority":2147483648)", "priority"},
      {R"("priority":"high")", "priority"},
      {R"("request_id":"a b")", "request_id"},
      {R"("request_id":"")", "request_id"},
      {R"("request_id":5)", "request_id"},
      {R"("return_token_ids":1)", "return_token_ids"},
      {R"("model":"")", "model"},
      {R"("model":5)", "model"},
      {R"("model":null)", "model"},
      {R"("response_format":{"type":"json_object"})", "response_format"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format"},
      {R"("response_format":{})", "response_format.type"},
      {R"("response_format":"text")", "response_format"},
      {R"("echo":true)", "echo"},
      {R"("use_beam_search":true)", "use_beam_search"},
      {R"("guided_json":{})", "guided_json"},
      {R"("prompt_logprobs":0)", "prompt_logprobs"},
      {R"("truncate_prompt_tokens":5)", "truncate_prompt_tokens"},
      {R"("allowed_token_ids":[1])", "allowed_token_ids"},
  };
  for (const Bad& bad : kBad) {
    ExpectRefused(Chat(std::string(bad.fields)), bad);
    ExpectRefused(Completion(std::string(bad.fields)), bad);
  }
}

TEST(OpenAiRequest, RefusesWrongChatFieldsByName) {
  const Bad kBad[] = {
      {R"("max_completion_tokens":"9")", "max_completion_tokens"},
      {R"("max_tokens":8,"max_completion_tokens":9)", "max_completion_tokens"},
      {R"("logprobs":1)", "logprobs"},
      {R"("top_logprobs":1)", "top_logprobs"},
      {R"("logprobs":false,"top_logprobs":1)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":-1)", "top_logprobs"},
      {R"("tools":[{"type":"function"}])", "tools"},
      {R"("tools":5)", "tools"},
      {R"("tool_choice":"auto")", "tool_choice"},
      {R"("tool_choice":{"type":"function"})", "tool_choice"},
      {R"("functions":[{}])", "functions"},
      {R"("function_call":"auto")", "function_call"},
      {R"("modalities":["text","audio"])", "modalities"},
      {R"("modalities":"text")", "modalities"},
      {R"("audio":{"voice":"alloy"})", "audio"},
      {R"("prediction":{"type":"content"})", "prediction"},
      {R"("chat_template":"x")", "chat_template"},
      {R"("continue_final_message":true)", "continue_final_message"},
      {R"("add_generation_prompt":"yes")", "add_generation_prompt"},
  };
  for (const Bad& bad : kBad) ExpectRefused(Chat(std::string(bad.fields)), bad);
}

TEST(OpenAiRequest, RefusesWrongCompletionFieldsByName) {
  const Bad kBad[] = {
      {R"("logprobs":true)", "logprobs"},
      {R"("logprobs":21)", "logprobs"},
      {R"("suffix":"x")", "suffix"},
      {R"("best_of":2)", "best_of"},
      {R"("n":2,"best_of":3)", "best_of"},
      {R"("best_of":"1")", "best_of"},
      {R"("add_special_tokens":false)", "add_special_tokens"},
      {R"("parse_special":1)", "parse_special"},
      {R"("prompt":5)", "prompt"},
      {R"("prompt":null)", "prompt"},
      {R"("prompt":[])", "prompt"},
      {R"("prompt":[[]])", "prompt"},
      {R"("prompt":["a","b"])", "prompt"},
      {R"("prompt":[[1],[2]])", "prompt"},
      {R"("prompt":[1,"a"])", "prompt"},
      {R"("prompt":[1,-1])", "prompt"},
      {R"("prompt":[1.5])", "prompt"},
      {R"("prompt":[true])", "prompt"},
      {R"("prompt":[2147483648])", "prompt"},
      {R"("prompt":{"text":"a"})", "prompt"},
  };
  for (const Bad& bad : kBad) ExpectRefused(Completion(std::string(bad.fields)), bad);
}

TEST(OpenAiRequest, RefusesWrongMessagesByTheirPlace) {
  const Bad kBad[] = {
      {"5", "messages"},
      {"[]", "messages"},
      {"null", "messages"},
      {"{}", "messages"},
      {"[5]", "messages[0]"},
      {"[{}]", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"user","content":null}])", "messages[0].content"},
      {R"([{"role":"user","content":5}])", "messages[0].content"},
      {R"([{"role":5,"content":"a"}])", "messages[0].role"},
      {R"([{"role":"tool","content":"a"}])", "messages[0].role"},
      {R"([{"role":"user","content":"a"},{"role":"robot","content":"a"}])", "messages[1].role"},
      {R"([{"role":"user","content":["a"]}])", "messages[0].content[0]"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])",
       "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"text":"x"}]}])", "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text"}]}])",
       "messages[0].content[1].text"},
      {R"([{"role":"user","content":[{"type":"text","text":5}]}])", "messages[0].content[0].text"},
      {R"([{"role":"assistant","content":"","tool_calls":[{"id":"x"}]}])",
       "messages[0].tool_calls"},
  };
  for (const Bad& bad : kBad) ExpectRefused(Messages(std::string(bad.fields)), bad);
}

TEST(OpenAiRequest, RefusesMalformedJsonWithoutAParam) {
  const std::string_view kBad[] = {
      "",
      " ",
      "{",
      "[]",
      "5",
      "null",
      R"("x")",
      R"({"a":1,})",
      R"({'a':1})",
      R"({"a":1} x)",
      R"({"a":1}{"b":2})",
      R"({"a":NaN})",
      R"({"a":Infinity})",
      R"({"a":01})",
      R"({"a":+1})",
      R"({"a":1e999999999999})",
      "{\"a\":\"\xff\"}",
      "{\"a\":\"\xc0\x80\"}",
      "{\"a\":\"\xed\xa0\x80\"}",
      "{\"a\":\"\xf4\x90\x80\x80\"}",
      R"({"a":"\ud800"})",
      R"({"a":"\ud800x"})",
      R"({"a":"\udc00"})",
      R"({"a":"\ud800\ud800"})",
      R"({"a":"\u12"})",
      R"({"a":"\x"})",
      "{\"a\":\"line\nbreak\"}",
      "{\"a\":\"nul\0\"}",
      "\xef\xbb\xbf{}",
      "/* c */ {}",
  };
  for (const std::string_view body : kBad) {
    const absl::Status status = ParseGenerate(Endpoint::kChat, body, kDepth).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body;
    EXPECT_EQ(ErrorParam(status), "") << body;
    EXPECT_EQ(ErrorCode(status), "invalid_json") << body << status;
  }
}

TEST(OpenAiRequest, RefusesNestingBeyondTheLimitOnly) {
  const auto nested = [](int depth) {
    return R"({"model":"m","prompt":"hi","x":)" + std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']') + "}";
  };
  EXPECT_TRUE(ParseGenerate(Endpoint::kCompletion, nested(kDepth - 1), kDepth).ok());
  const absl::Status status = ParseGenerate(Endpoint::kCompletion, nested(kDepth), kDepth).status();
  EXPECT_EQ(ErrorCode(status), "invalid_json");
  EXPECT_NE(status.message().find("32 levels"), absl::string_view::npos) << status;
  EXPECT_FALSE(ParseGenerate(Endpoint::kCompletion, std::string(1'000'000, '['), kDepth).ok());
}

TEST(OpenAiRequest, FillsEverySamplingField) {
  const auto request = Completion(
      R"("temperature":0.5,"top_p":1,"top_k":5.0,"min_p":0.25,"repetition_penalty":1.5,"presence_penalty":-1,)"
      R"("frequency_penalty":2,"logit_bias":{"7":-100,"9":1.5},"min_tokens":2,"max_tokens":9,"stop":["a","b"],)"
      R"("stop_token_ids":[3,4.0],"ignore_eos":true,"seed":18446744073709551615,"n":3,"logprobs":4,)"
      R"("best_of":3,"priority":-2,"request_id":"r-1","skip_special_tokens":false,)"
      R"("include_stop_str_in_output":true,"return_token_ids":true,"stream_interval":8,"stream":true,)"
      R"("stream_options":{"include_usage":true,"continuous_usage_stats":true},"user":"u","unknown":[{}])");
  ASSERT_TRUE(request.ok()) << request.status();
  const SamplingOptions& s = request->generate.sampling;
  EXPECT_EQ(s.temperature, 0.5);
  EXPECT_EQ(s.top_p, 1.0);
  EXPECT_EQ(s.top_k, 5);
  EXPECT_EQ(s.min_p, 0.25);
  EXPECT_EQ(s.repetition_penalty, 1.5);
  EXPECT_EQ(s.presence_penalty, -1.0);
  EXPECT_EQ(s.frequency_penalty, 2.0);
  EXPECT_EQ(s.logit_bias, (std::map<int64_t, double>{{7, -100.0}, {9, 1.5}}));
  EXPECT_EQ(s.min_tokens, 2);
  EXPECT_EQ(s.max_tokens, 9);
  EXPECT_EQ(s.stop, (std::vector<Text>{Text("a"), Text("b")}));
  EXPECT_EQ(s.stop_token_ids, (std::vector<int64_t>{3, 4}));
  EXPECT_TRUE(s.ignore_eos);
  EXPECT_EQ(s.seed, 18446744073709551615U);
  EXPECT_EQ(s.n, 3);
  EXPECT_EQ(s.num_logprobs, 4);
  EXPECT_EQ(request->generate.priority, -2);
  EXPECT_EQ(request->generate.request_id, "r-1");
  EXPECT_FALSE(request->generate.skip_special_tokens);
  EXPECT_TRUE(request->generate.include_stop_str_in_output);
  EXPECT_TRUE(request->return_token_ids);
  EXPECT_EQ(request->generate.stream_interval, 8);
  EXPECT_TRUE(request->stream && request->include_usage && request->continuous_usage);
  EXPECT_EQ(request->generate.default_max_tokens, 16);
  EXPECT_TRUE(request->generate.parse_special);
  EXPECT_TRUE(std::get<Text>(request->generate.prompt) == Text("hi"));
}

TEST(OpenAiRequest, LeavesAbsentAndNullFieldsToTheModel) {
  const auto request = Chat(
      R"("temperature":null,"top_p":null,"stop":null,"tools":null,"response_format":null,"stream":null,"n":null,)"
      R"("logit_bias":null,"seed":null,"tools":[],"tool_choice":"none","functions":[],"modalities":["text"],)"
      R"("response_format":{"type":"text"},"store":true,"metadata":{"a":"b"},"parallel_tool_calls":true)");
  ASSERT_TRUE(request.ok()) << request.status();
  const SamplingOptions& s = request->generate.sampling;
  EXPECT_FALSE(s.temperature || s.top_p || s.max_tokens || s.seed || s.num_logprobs);
  EXPECT_EQ(s.n, 1);
  EXPECT_TRUE(s.stop.empty());
  EXPECT_FALSE(request->stream);
  EXPECT_EQ(request->generate.default_max_tokens, 0);
  EXPECT_FALSE(request->generate.parse_special);
  EXPECT_TRUE(request->generate.add_generation_prompt);
}

TEST(OpenAiRequest, LastOfEqualKeysCounts) {
  EXPECT_EQ(Chat(R"("n":5,"n":2)")->generate.sampling.n, 2);
  EXPECT_EQ(Chat(R"("model":"other")")->generate.model, "other");
}

TEST(OpenAiRequest, JoinsTextPartsAndKeepsEveryCharacter) {
  const auto request = Messages(
      R"([{"role":"developer","content":"be"},{"role":"user","name":"x","content":[{"type":"text","text":"a"},)"
      R"({"type":"text","text":"\ud83d\ude00\u0000é"}]},{"role":"assistant","content":""}])");
  ASSERT_TRUE(request.ok()) << request.status();
  const auto& messages = std::get<std::vector<ChatMessage>>(request->generate.prompt);
  ASSERT_EQ(messages.size(), 3U);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_TRUE(messages[1].content == Text(std::string("a\xF0\x9F\x98\x80\0\xC3\xA9", 8)));
  EXPECT_TRUE(messages[2].content.empty());
}

TEST(OpenAiRequest, TakesPromptsInEachForm) {
  const auto tokens = [](const std::string& prompt) {
    return std::get<std::vector<TokenId>>(Completion(R"("prompt":)" + prompt)->generate.prompt);
  };
  EXPECT_EQ(tokens("[1,2,3.0]"), (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(tokens("[[4,5]]"), (std::vector<TokenId>{4, 5}));
  EXPECT_TRUE(std::get<Text>(Completion(R"("prompt":["one"])")->generate.prompt) == Text("one"));
}

TEST(OpenAiRequest, ChatLogprobsAndTokenLimitsHaveTwoSpellings) {
  EXPECT_EQ(Chat(R"("logprobs":true)")->generate.sampling.num_logprobs, 0);
  EXPECT_EQ(Chat(R"("logprobs":true,"top_logprobs":20)")->generate.sampling.num_logprobs, 20);
  EXPECT_EQ(Chat(R"("logprobs":false,"top_logprobs":null)")->generate.sampling.num_logprobs,
            std::nullopt);
  EXPECT_EQ(Chat(R"("max_tokens":7)")->generate.sampling.max_tokens, 7);
  const auto newer = Chat(R"("max_completion_tokens":7)");
  EXPECT_EQ(newer->generate.sampling.max_tokens, 7);
  EXPECT_EQ(ErrorParam(RenameParam(FieldError("max_tokens", "no"), *newer)),
            "max_completion_tokens");
  EXPECT_EQ(ErrorParam(RenameParam(FieldError("temperature", "no"), *newer)), "temperature");
}

TEST(OpenAiRequest, NegativeSeedsCountByTheirBits) {
  EXPECT_EQ(Chat(R"("seed":-1)")->generate.sampling.seed, ~uint64_t{0});
  EXPECT_EQ(Chat(R"("seed":0)")->generate.sampling.seed, 0U);
}

TEST(TokenizeRequest, ReadsBothFormsAndRefusesByName) {
  const auto text = ParseTokenize(
      R"({"prompt":"a b","add_special_tokens":false,"return_token_strs":true})", kDepth);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->request.model, "default");
  EXPECT_FALSE(text->request.add_special_tokens);
  EXPECT_TRUE(text->return_token_strs);
  const auto chat = ParseTokenize(
      R"({"messages":[{"role":"user","content":"x"}],"add_generation_prompt":false})", kDepth);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_FALSE(chat->request.add_generation_prompt);
  EXPECT_EQ(ErrorParam(ParseTokenize("{}", kDepth).status()), "prompt");
  EXPECT_EQ(ErrorParam(ParseTokenize(R"({"prompt":5})", kDepth).status()), "prompt");
  EXPECT_EQ(ErrorParam(ParseTokenize(R"({"prompt":"a","messages":[{"role":"user","content":"x"}]})",
                                     kDepth)
                           .status()),
            "prompt");
  EXPECT_EQ(ErrorParam(ParseDetokenize("{}", kDepth).status()), "tokens");
  EXPECT_EQ(ErrorParam(ParseDetokenize(R"({"tokens":["a"]})", kDepth).status()), "tokens");
  EXPECT_EQ(ParseDetokenize(R"({"tokens":[1,2]})", kDepth)->tokens, (std::vector<TokenId>{1, 2}));
}

TEST(RequestIds, AreVisibleAsciiOfBoundedLength) {
  EXPECT_TRUE(IsValidId("abc-123_~"));
  EXPECT_TRUE(IsValidId(std::string(kMaxRequestIdBytes, 'x')));
  EXPECT_FALSE(IsValidId(std::string(kMaxRequestIdBytes + 1, 'x')));
  EXPECT_FALSE(IsValidId(""));
  EXPECT_FALSE(IsValidId("a b"));
  EXPECT_FALSE(IsValidId("a\n"));
  EXPECT_FALSE(IsValidId("\xC3\xA9"));
}

}  // namespace
}  // namespace sluice
