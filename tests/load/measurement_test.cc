#include "bench/serve/measurement.h"

#include <gtest/gtest.h>

#include <string>

#include "bench/serve/slo.h"

namespace sluice::load {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;

// A request of known timing: scheduled, sent late by `late`, first token after `ttft`, then
// `tokens` - 1 gaps of `gap`.
Exchange Play(Measurement& m, int64_t scheduled, int64_t late, int64_t ttft, int64_t gap,
              int64_t tokens, const std::string& error = "") {
  Exchange exchange{.scheduled_ns = scheduled};
  m.Start(exchange, scheduled + late);
  int64_t now = scheduled + ttft;
  for (int64_t i = 0; i < tokens; ++i) {
    if (i > 0) now += gap;
    m.Text(exchange, "x", now);
  }
  exchange.output_tokens = tokens;
  exchange.error = error;
  m.End(exchange, now);
  return exchange;
}

TEST(Measurement, PercentilesOfAScriptedRunAreRightToOnePercent) {
  Measurement m(0, 0, 1000 * kSecond, {});
  for (int64_t i = 1; i <= 1000; ++i)
    Play(m, i * kSecond / 2, kMs, i * kMs, i % 2 == 0 ? 20 * kMs : 40 * kMs, 11);
  for (const double q : {0.5, 0.9, 0.99, 0.999})
    EXPECT_NEAR(static_cast<double>(m.ttft.Quantile(q)), q * 1000 * kMs, q * 10 * kMs);
  EXPECT_EQ(m.itl.Count(), 10000);
  EXPECT_NEAR(static_cast<double>(m.itl.Quantile(0.5)), 20 * kMs, kMs / 5.0);
  EXPECT_NEAR(static_cast<double>(m.itl.Quantile(0.51)), 40 * kMs, kMs / 2.5);
  EXPECT_NEAR(static_cast<double>(m.tpot.Quantile(0.9)), 40 * kMs, kMs / 2.5);
  EXPECT_NEAR(static_cast<double>(m.e2e.Quantile(1)), 1400 * kMs, 14.0 * kMs);
}

// Coordinated omission: a stall of the server or the harness is seen by all who were due meanwhile.
TEST(Measurement, LatenciesCountFromTheSchedule) {
  Measurement m(0, 0, kSecond, {});
  Play(m, 0, 300 * kMs, 310 * kMs, kMs, 2);
  EXPECT_EQ(m.ttft.Max(), 310 * kMs);
  EXPECT_EQ(m.e2e.Max(), 311 * kMs);
  EXPECT_EQ(m.late.Max(), 300 * kMs);
}

TEST(Measurement, OnlyRequestsScheduledInsideTheWindowCount) {
  Measurement m(0, kSecond, 2 * kSecond, {});
  Play(m, kSecond - 1, 0, kMs, kMs, 5);
  Play(m, kSecond, 0, kMs, kMs, 5);
  Play(m, 2 * kSecond - 1, 0, kMs, kMs, 5);
  Play(m, 2 * kSecond, 0, kMs, kMs, 5);
  EXPECT_EQ(m.scheduled, 2);
  EXPECT_EQ(m.output_tokens, 10);
  EXPECT_EQ(m.all_ended, 4);
  EXPECT_EQ(m.ttft.Count(), 2);
  // Tokens of the window are those that arrived in it, whoever's they were.
  EXPECT_DOUBLE_EQ(m.WindowTokens(), 10);
  EXPECT_DOUBLE_EQ(m.WindowSeconds(), 1);
  m.CutWindow(3 * kSecond);
  EXPECT_DOUBLE_EQ(m.WindowSeconds(), 1);
  m.CutWindow(kSecond + kSecond / 2);
  EXPECT_DOUBLE_EQ(m.WindowSeconds(), 0.5);
}

TEST(Measurement, MergedChunksAreCountedAsWhatTheyHold) {
  Measurement m(0, 0, 10 * kSecond, {});
  Exchange exchange{.scheduled_ns = 0};
  m.Start(exchange, 0);
  m.Text(exchange, "a", kMs);
  m.Text(exchange, "bcd", 2 * kMs);
  exchange.output_tokens = 4;
  m.End(exchange, 3 * kMs);
  EXPECT_DOUBLE_EQ(m.ChunksPerToken(), 0.5);
  EXPECT_DOUBLE_EQ(m.WindowTokens(), 4);
  EXPECT_EQ(m.tpot.Max(), kMs / 3);
}

TEST(Measurement, GoodputNeedsEveryLimit) {
  const auto slo = ParseSlo("ttft=100ms, itl=50ms,tpot=30ms,e2e=1s");
  ASSERT_TRUE(slo.ok()) << slo.status();
  Measurement m(0, 0, 10 * kSecond, *slo);
  Play(m, 0, 0, 100 * kMs, 30 * kMs, 10);  // keeps all, at the limits
  EXPECT_EQ(m.good, 1);
  Play(m, 0, 0, 101 * kMs, 30 * kMs, 10);
  Play(m, 0, 0, 100 * kMs, 31 * kMs, 10);
  Play(m, 0, 0, 100 * kMs, 30 * kMs, 40);
  Play(m, 0, 0, 1 * kMs, 1 * kMs, 2, "http_500");
  EXPECT_EQ(m.good, 1);
  EXPECT_EQ(m.completed, 4);
  EXPECT_EQ(m.failed, 1);
}

TEST(Measurement, FailuresAreCountedByKindAndKeptOutOfLatencies) {
  Measurement m(0, 0, 10 * kSecond, {});
  Play(m, 0, 0, kMs, kMs, 3, "http_429");
  Play(m, 0, 0, kMs, kMs, 3, "http_429");
  Play(m, 0, 0, kMs, kMs, 3, "timeout");
  EXPECT_EQ(m.errors.at("http_429").count, 2);
  EXPECT_EQ(m.errors.at("http_429").after.Count(), 2);
  EXPECT_GE(m.errors.at("http_429").after.Min(), kMs);
  EXPECT_EQ(m.errors.at("timeout").count, 1);
  EXPECT_EQ(m.ttft.Count(), 0);
  EXPECT_EQ(m.timeline.at(0).failed, 3);
}

TEST(Measurement, TheKindsOfErrorsAreBounded) {
  Measurement m(0, 0, 10 * kSecond, {});
  for (int i = 0; i < 1000; ++i) Play(m, 0, 0, 0, 0, 0, "kind_" + std::to_string(i));
  EXPECT_LE(m.errors.size(), 200U);
  EXPECT_EQ(m.failed, 1000);
}

TEST(Slo, NonsenseIsRefused) {
  for (const char* bad : {"ttft", "ttft=", "ttft=5", "ttft=-1ms", "ttft=0ms", "speed=1ms",
                          "ttft=1ms,ttft=2ms", "ttft=1ms,", "itl=inf", "e2e=48h"})
    EXPECT_FALSE(ParseSlo(bad).ok()) << bad;
  EXPECT_FALSE(ParseSlo("")->Any());
}

}  // namespace
}  // namespace sluice::load
