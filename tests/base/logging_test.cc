#include "base/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "sluice/types.h"

namespace sluice {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

static_assert(!std::is_constructible_v<LogValue, Text>, "prompt and output text cannot be logged");

class LoggingTest : public ::testing::Test {
 protected:
  void TearDown() override { ASSERT_TRUE(SetUpLogging("info", "text").ok()); }
  static std::string Line(LogFields fields) {
    ::testing::internal::CaptureStderr();
    Log(LogLevel::kInfo, "request", fields);
    return ::testing::internal::GetCapturedStderr();
  }
  static std::string Value(std::string_view value) { return Line({{"v", value}}); }
};

TEST_F(LoggingTest, TextIsTimeLevelEventAndFields) {
  ASSERT_TRUE(SetUpLogging("info", "text").ok());
  EXPECT_THAT(
      Line({{"id", "r-1"},
            {"tokens", 7},
            {"ok", true},
            {"s", absl::Milliseconds(1500)},
            {"what", "two words"}}),
      MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9:.]+Z info request id=r-1 tokens=7 ok=true s=1.5 "
                   "what=\"two words\"\n"));
}

TEST_F(LoggingTest, JsonIsOneObjectALine) {
  ASSERT_TRUE(SetUpLogging("info", "json").ok());
  EXPECT_THAT(
      Line({{"id", "r-1"},
            {"seed", std::numeric_limits<uint64_t>::max()},
            {"n", int64_t{-1}},
            {"ok", false},
            {"nan", std::numeric_limits<double>::quiet_NaN()},
            {"text", "a \"b\" \\"}}),
      MatchesRegex(
          R"(\{"time":"[0-9T:.Z-]+","level":"info","event":"request","id":"r-1",)"
          R"("seed":18446744073709551615,"n":-1,"ok":false,"nan":null,"text":"a \\"b\\" \\\\"\})"
          "\n"));
}

TEST_F(LoggingTest, ClientBytesCannotForgeALineOrMoveTheTerminal) {
  for (const char* format : {"text", "json"}) {
    ASSERT_TRUE(SetUpLogging("info", format).ok());
    const std::string newline = Value("a\nb\r2026 info forged x=1");
    EXPECT_EQ(std::count(newline.begin(), newline.end(), '\n'), 1) << newline;
    EXPECT_THAT(newline, HasSubstr("\"a\\nb\\u000d2026 info forged x=1\""));
    EXPECT_THAT(Value("\x1b[2J"), HasSubstr("\"\\u001b[2J\""));
    EXPECT_THAT(Value(std::string_view("\0", 1)), HasSubstr("\"\\u0000\""));
    EXPECT_THAT(Value("\x7f"), HasSubstr("\"\\u007f\""));
    EXPECT_THAT(Value("\xc2\x9b"
                      "31m"),
                HasSubstr("\"\\u009b31m\""));                      // CSI in C1
    EXPECT_THAT(Value("\xe2\x80\xa8"), HasSubstr("\"\\u2028\""));  // line separator
    EXPECT_THAT(Value("\xe2\x80\xae"
                      "gnp"),
                HasSubstr("\"\\u202egnp\""));  // right-to-left override
    EXPECT_THAT(Value("a\"b"), HasSubstr("\"a\\\"b\""));
    EXPECT_THAT(Value(""), HasSubstr("\"\""));
  }
}

TEST_F(LoggingTest, InvalidUtf8BecomesTheReplacementCharacterAndValidTextStays) {
  ASSERT_TRUE(SetUpLogging("info", "json").ok());
  EXPECT_THAT(Value("caf\xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80"),
              HasSubstr("\"caf\xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80\""));
  EXPECT_THAT(Value("\xff"), HasSubstr("\"\\ufffd\""));
  EXPECT_THAT(Value("\xc0\xaf"), HasSubstr("\"\\ufffd\\ufffd\""));  // overlong '/'
  EXPECT_THAT(Value("\xe0\x80\xaf"), HasSubstr("\"\\ufffd\\ufffd\\ufffd\""));
  EXPECT_THAT(Value("\xed\xa0\x80"), HasSubstr("\"\\ufffd\\ufffd\\ufffd\""));  // surrogate
  EXPECT_THAT(Value("\xf4\x90\x80\x80"), HasSubstr("\"\\ufffd\\ufffd\\ufffd\\ufffd\""));
  EXPECT_THAT(Value("ab\xe6\xbc"), HasSubstr("\"ab\\ufffd\\ufffd\""));  // cut short
}

TEST_F(LoggingTest, LongValuesAreCut) {
  const std::string line = Value(std::string(1U << 20U, 'x'));
  EXPECT_LT(line.size(), 2200U);
  EXPECT_THAT(line, EndsWith("xxx...\"\n"));
}

TEST_F(LoggingTest, LevelsBelowTheChosenOneAreSilent) {
  ASSERT_TRUE(SetUpLogging("warn", "text").ok());
  EXPECT_EQ(Line({}), "");
  ::testing::internal::CaptureStderr();
  Log(LogLevel::kError, "broken");
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr(" error broken\n"));
}

TEST_F(LoggingTest, UnknownLevelOrFormatIsRefusedByName) {
  EXPECT_THAT(std::string(SetUpLogging("loud", "text").message()),
              HasSubstr("log-level is \"loud\""));
  EXPECT_THAT(std::string(SetUpLogging("info", "xml").message()),
              HasSubstr("log-format is \"xml\""));
}

TEST_F(LoggingTest, LinesOfManyThreadsDoNotMix) {
  ::testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 200; ++i) Log(LogLevel::kInfo, "e", {{"v", "0123456789"}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string all = ::testing::internal::GetCapturedStderr();
  size_t lines = 0;
  for (size_t at = 0; at < all.size(); ++lines) {
    const size_t end = all.find('\n', at);
    ASSERT_THAT(all.substr(at, end - at), EndsWith("Z info e v=0123456789"));
    at = end + 1;
  }
  EXPECT_EQ(lines, 800U);
}

}  // namespace
}  // namespace sluice
