#include "apps/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace sluice {
namespace {

constexpr char kGood[] = R"({"at_s":0.5,"prompt_tokens":40,"output_tokens":8})";

std::string ErrorOf(const std::string& line) {
  const auto trace = ParseTrace(line, "t");
  EXPECT_FALSE(trace.ok()) << line;
  EXPECT_EQ(trace.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(trace.status().message());
}

TEST(Trace, ReadsEveryField) {
  const auto trace = ParseTrace(
      "{\"at_s\":0,\"prompt_tokens\":40,\"output_tokens\":8,\"prefix\":[7,\"7\"],"
      "\"prefix_tokens\":20,\"tenant\":\"a\",\"priority\":-2}\n\n" +
          std::string(kGood) + "\r\n",
      "t");
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2U);
  const TraceRequest& first = trace->front();
  EXPECT_EQ(first.prompt_tokens, 40);
  EXPECT_EQ(first.output_tokens, 8);
  EXPECT_EQ(first.prefix.size(), 2U);
  EXPECT_NE(first.prefix[0], first.prefix[1]);  // a number is not the text of it
  EXPECT_EQ(first.prefix_tokens, 20);
  EXPECT_EQ(first.tenant, "a");
  EXPECT_EQ(first.priority, -2);
  EXPECT_EQ(trace->back().at_s, 0.5);
  EXPECT_EQ(trace->back().prefix_tokens, 16);
}

TEST(Trace, NamesTheLineAndTheField) {
  EXPECT_EQ(ErrorOf(std::string(kGood) + "\n{\"at_s\":1,\"prompt_tokens\":0,\"output_tokens\":1}"),
            "t: line 2: prompt_tokens must be a whole number between 1 and 16777216");
}

TEST(Trace, RefusesWhatIsNotATrace) {
  EXPECT_EQ(ErrorOf(""), "t: no requests");
  EXPECT_EQ(ErrorOf("[1]"), "t: line 1: the line is no JSON object");
  EXPECT_EQ(ErrorOf("{"), "t: line 1: the line is no JSON object");
  EXPECT_EQ(ErrorOf(std::string(10000, '[')), "t: line 1: the line is no JSON object");
  EXPECT_EQ(ErrorOf("{}"), "t: line 1: at_s is missing");
  EXPECT_EQ(ErrorOf(R"({"at_s":0,"prompt_tokens":1,"output_tokens":1,"prompt":"hello"})"),
            "t: line 1: the line has an unknown field \"prompt\"");
  EXPECT_EQ(ErrorOf(std::string(2 << 20, ' ') + "{}"),
            "t: line 1: the line has more than 1048576 bytes");
}

TEST(Trace, RefusesNumbersOutOfRange) {
  const auto at = [](const std::string& time) {
    return ErrorOf(R"({"prompt_tokens":1,"output_tokens":1,"at_s":)" + time + "}");
  };
  const std::string range = "t: line 1: at_s must be a number between 0 and 10000000";
  EXPECT_EQ(at("-1"), range);
  EXPECT_EQ(at("1e8"), range);
  EXPECT_EQ(at("\"0\""), range);
  EXPECT_EQ(at("NaN"), "t: line 1: the line is no JSON object");
  EXPECT_NE(at("1e999"), "");
  const auto tokens = [](const std::string& number) {
    return ErrorOf(R"({"at_s":0,"prompt_tokens":1,"output_tokens":)" + number + "}");
  };
  const std::string whole =
      "t: line 1: output_tokens must be a whole number between 1 and 16777216";
  EXPECT_EQ(tokens("1.5"), whole);
  EXPECT_EQ(tokens("18446744073709551615"), whole);
  EXPECT_EQ(tokens("-3"), whole);
  EXPECT_EQ(tokens("null"), whole);
}

TEST(Trace, RefusesTimesThatGoBack) {
  EXPECT_EQ(
      ErrorOf(std::string(kGood) + "\n{\"at_s\":0.25,\"prompt_tokens\":1,\"output_tokens\":1}"),
      "t: line 2: at_s is 0.25; the line before has 0.5");
}

TEST(Trace, RefusesPrefixesThatDoNotFit) {
  const auto prefix = [](const std::string& list) {
    return ErrorOf(R"({"at_s":0,"prompt_tokens":32,"output_tokens":1,"prefix":)" + list + "}");
  };
  EXPECT_EQ(prefix("[1,2,3]"),
            "t: line 1: prefix has 3 pieces of 16 tokens; the prompt has 32 tokens");
  EXPECT_EQ(prefix("7"), "t: line 1: prefix must be a list");
  const std::string kinds =
      "t: line 1: prefix must hold whole numbers and texts of at most 64 bytes";
  EXPECT_EQ(prefix("[-1]"), kinds);
  EXPECT_EQ(prefix("[1.5]"), kinds);
  EXPECT_EQ(prefix("[[1]]"), kinds);
  EXPECT_EQ(prefix("[\"" + std::string(65, 'a') + "\"]"), kinds);
}

TEST(Trace, RefusesMoreThanItsLimits) {
  const std::string line = R"({"at_s":0,"prompt_tokens":32,"output_tokens":5,"prefix":[1,2]})";
  const auto refused = [&](const TraceLimits& limits) {
    return !ParseTrace(line + "\n" + line, "t", limits).ok() && ParseTrace(line, "t", limits).ok();
  };
  EXPECT_TRUE(refused({.max_requests = 1}));
  EXPECT_TRUE(refused({.max_prefix_pieces = 3}));
  EXPECT_TRUE(refused({.max_output_tokens = 9}));
}

TEST(Trace, PromptsShareWhatTheTraceSaysAndNothingElse) {
  TraceRequest a{.prompt_tokens = 40, .prefix = {1, 2}}, b{.prompt_tokens = 36, .prefix = {1, 3}};
  const auto first = PromptOf(a, 0), again = PromptOf(a, 0), second = PromptOf(b, 1);
  EXPECT_EQ(first, again);
  ASSERT_EQ(first.size(), 40U);
  ASSERT_EQ(second.size(), 36U);
  EXPECT_TRUE(std::equal(first.begin(), first.begin() + 16, second.begin()));
  for (size_t i = 16; i < 36; ++i) EXPECT_NE(first[i], second[i]);
  EXPECT_GE(*std::ranges::min_element(first), 0);
}

TEST(Trace, SaysWhichFileIsNotThere) {
  const auto trace = ReadTrace("/nowhere/trace.jsonl");
  EXPECT_EQ(trace.status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace sluice
