#include "bench/serve/conversation.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>
#include <utility>

namespace sluice::load {
namespace {

int64_t CountWords(const std::string& text) {
  return std::count(text.begin(), text.end(), ' ') + 1;
}

TEST(Lengths, EachDistributionHasItsMoments) {
  Random random(5);
  const auto mean = [&](const char* text) {
    const auto lengths = Lengths::Parse(text);
    EXPECT_TRUE(lengths.ok()) << text;
    double sum = 0;
    for (int i = 0; i < 20000; ++i) sum += static_cast<double>(lengths->Draw(random));
    return sum / 20000;
  };
  EXPECT_EQ(mean("37"), 37);
  EXPECT_NEAR(mean("uniform:10,30"), 20, 0.3);
  EXPECT_NEAR(mean("normal:200,20"), 200, 1);
  EXPECT_NEAR(mean("lognormal:100,0.5"), 100 * 1.1331, 2);  // exp(sigma^2 / 2)
}

TEST(Lengths, NonsenseIsRefused) {
  for (const char* bad : {"", "0", "-3", "x", "uniform:3", "uniform:9,3", "normal:nan,1",
                          "normal:1,inf", "zipf:1,2", "1,2", "1000001", "uniform:1,2,3", "a:b:c"})
    EXPECT_FALSE(Lengths::Parse(bad).ok()) << bad;
}

TEST(PromptSource, SyntheticPromptsHaveTheLengthsAndAreTheSeedsOwn) {
  const PromptOptions options{.prompt_tokens = "uniform:5,9", .output_tokens = "12", .seed = 3};
  auto a = PromptSource::Create(options), b = PromptSource::Create(options);
  std::set<std::string> different;
  for (int i = 0; i < 50; ++i) {
    const Conversation one = a->Next(nullptr), same = b->Next(nullptr);
    ASSERT_EQ(one.messages.size(), 1U);
    EXPECT_EQ(one.messages[0].content, same.messages[0].content);
    EXPECT_GE(CountWords(one.messages[0].content), 5);
    EXPECT_LE(CountWords(one.messages[0].content), 9);
    EXPECT_EQ(one.max_tokens, 12);
    different.insert(one.messages[0].content);
  }
  EXPECT_EQ(different.size(), 50U);
}

TEST(PromptSource, GroupsShareTheirBeginning) {
  auto source = PromptSource::Create({.prefix_groups = 3, .prefix_tokens = 40, .seed = 1});
  std::set<std::string> prefixes;
  for (int i = 0; i < 60; ++i) {
    const Conversation one = source->Next(nullptr);
    ASSERT_EQ(one.messages.size(), 2U);
    EXPECT_EQ(one.messages[0].role, "system");
    EXPECT_EQ(CountWords(one.messages[0].content), 40);
    prefixes.insert(one.messages[0].content);
  }
  EXPECT_EQ(prefixes.size(), 3U);
}

TEST(PromptSource, ATracesLengthsWin) {
  auto source = PromptSource::Create({.prompt_tokens = "5", .output_tokens = "6", .turns = 3});
  const TraceArrival arrival{.at_s = 0, .prompt_tokens = 11, .output_tokens = 13};
  const Conversation one = source->Next(&arrival);
  EXPECT_EQ(CountWords(one.messages[0].content), 11);
  EXPECT_EQ(one.max_tokens, 13);
  EXPECT_EQ(one.later_turns.size(), 2U);
}

class PromptFile : public testing::Test {
 protected:
  absl::StatusOr<PromptSource> Source(PromptOptions options, const std::string& text) {
    options.file = testing::TempDir() + "prompts-" + std::to_string(getpid());
    std::ofstream(options.file) << text;
    auto source = PromptSource::Create(options);
    std::remove(options.file.c_str());
    return source;
  }
};

TEST_F(PromptFile, JsonLinesAreReadAndBegunAgain) {
  auto source = Source({.source = "jsonl"},
                       "{\"prompt\":\"one\",\"max_tokens\":3}\n\n"
                       "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
                       "\"content\":\"two\"}]}\n");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->Next(nullptr).max_tokens, 3);
  const Conversation two = source->Next(nullptr);
  EXPECT_EQ(two.messages.at(1).content, "two");
  EXPECT_EQ(two.max_tokens, 128);
  EXPECT_EQ(source->Next(nullptr).messages.at(0).content, "one");
}

TEST_F(PromptFile, ShareGptGivesWhatPeopleSaidAndHowLongTheAnswersWere) {
  const std::string text =
      R"([{"conversations":[{"from":"system","value":"be kind"},{"from":"human","value":"q1"},
          {"from":"gpt","value":"0123456789012345678901234567890123456789"},{"from":"human","value":"q2"},
          {"from":"gpt","value":"a"}]},{"conversations":[{"from":"gpt","value":"only"}]},{"other":1}])";
  auto source = Source({.source = "sharegpt", .turns = 5}, text);
  ASSERT_TRUE(source.ok()) << source.status();
  const Conversation one = source->Next(nullptr);
  ASSERT_EQ(one.messages.size(), 2U);
  EXPECT_EQ(one.messages[0].role, "system");
  EXPECT_EQ(one.messages[1].content, "q1");
  EXPECT_EQ(one.later_turns, std::vector<std::string>{"q2"});
  EXPECT_EQ(one.max_tokens, 10);
  auto single = Source({.source = "sharegpt", .output_tokens = "7"}, text);
  EXPECT_TRUE(single->Next(nullptr).later_turns.empty());
  EXPECT_EQ(single->Next(nullptr).max_tokens, 7);
}

TEST_F(PromptFile, WhatIsWrongIsRefused) {
  EXPECT_FALSE(Source({.source = "jsonl"}, "").ok());
  EXPECT_FALSE(Source({.source = "jsonl"}, "{\"prompt\":3}").ok());
  EXPECT_FALSE(Source({.source = "jsonl"}, "{\"messages\":[]}").ok());
  EXPECT_FALSE(Source({.source = "sharegpt"}, "{}").ok());
  EXPECT_FALSE(Source({.source = "sharegpt"}, "[]").ok());
  EXPECT_FALSE(Source({.source = "telepathy"}, "").ok());
  EXPECT_FALSE(PromptSource::Create({.source = "jsonl", .file = "/nowhere"}).ok());
}

}  // namespace
}  // namespace sluice::load
