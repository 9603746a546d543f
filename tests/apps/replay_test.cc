#include "apps/replay.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice {
namespace {

// Steps of 1 ms and 10 us a token.
ReplayOptions Options() {
  return {.scheduler = {.max_rows = 4,
                        .max_step_tokens = 64,
                        .num_kv_blocks = 64,
                        .max_model_len = 512,
                        .max_waiting_sequences = 8,
                        .max_steps_in_flight = 1}};
}

ReplayResult ResultOf(const std::vector<TraceRequest>& trace, const ReplayOptions& options) {
  auto result = Replay(trace, options);
  EXPECT_TRUE(result.ok()) << result.status();
  return *result;
}

TEST(Replay, OneRequestTakesItsSteps) {
  // Two chunks of 64 and 36 tokens, then 9 steps of one token.
  const auto r = ResultOf({{.at_s = 2, .prompt_tokens = 100, .output_tokens = 10}}, Options());
  EXPECT_EQ(r.completed, 1);
  EXPECT_EQ(r.output_tokens, 10);
  EXPECT_NEAR(r.ttft.p50, 0.00164 + 0.00136, 1e-6);
  EXPECT_NEAR(r.itl.mean, 0.00101, 1e-6);
  EXPECT_EQ(r.itl.count, 9);
  EXPECT_NEAR(r.seconds, 0.003 + 9 * 0.00101, 1e-6);
  EXPECT_NEAR(r.busy_seconds, r.seconds, 1e-6);
  EXPECT_EQ(r.idle_seconds, 0);
}

TEST(Replay, AnArrivalWaitsForTheStepsInFlight) {
  // The second comes 0.1 ms into the first's step.
  const std::vector<TraceRequest> trace = {
      {.at_s = 0, .prompt_tokens = 60, .output_tokens = 50},
      {.at_s = 0.0001, .prompt_tokens = 10, .output_tokens = 1}};
  ReplayOptions options = Options();
  // One in flight: 1.6 ms less 0.1 ms, and a step of 11 tokens.
  EXPECT_NEAR(ResultOf(trace, options).ttft.max, 0.0015 + 0.00111, 1e-6);
  // Two: a step of one token was planned already.
  options.scheduler.max_steps_in_flight = 2;
  EXPECT_NEAR(ResultOf(trace, options).ttft.max, 0.0015 + 0.00101 + 0.00111, 1e-6);
}

TEST(Replay, FindsSharedPrefixesOfOneTenant) {
  std::vector<TraceRequest> trace;
  for (int i = 0; i < 3; ++i) {
    trace.push_back({.at_s = i * 1.0, .prompt_tokens = 40, .output_tokens = 2, .prefix = {5, 6}});
  }
  trace[2].tenant = "another";
  EXPECT_EQ(ResultOf(trace, Options()).cached_tokens, 32);
}

TEST(Replay, RefusesAsTheEngineDoes) {
  std::vector<TraceRequest> trace(20, {.at_s = 0, .prompt_tokens = 10, .output_tokens = 5});
  ReplayOptions options = Options();
  // All come before a step is planned: the queue takes 8.
  auto r = ResultOf(trace, options);
  EXPECT_EQ(r.completed, 8);
  EXPECT_EQ(r.refused, 12);
  options.scheduler.max_waiting_tokens = 25;
  r = ResultOf(trace, options);
  EXPECT_EQ(r.completed, 2);
  trace.resize(1);
  trace[0].prompt_tokens = 510;
  r = ResultOf(trace, options);
  EXPECT_EQ(r.too_long, 1);
  EXPECT_EQ(r.refused, 0);
}

// Three times what the device can do, for 10 s: who would wait too long is refused.
TEST(Replay, RefusesWhatWouldWaitTooLong) {
  std::vector<TraceRequest> trace;
  for (int i = 0; i < 10'000; ++i)
    trace.push_back({.at_s = i * 0.001, .prompt_tokens = 100, .output_tokens = 20});
  ReplayOptions options = Options();
  options.scheduler.max_waiting_sequences = 10'000;
  const auto all = ResultOf(trace, options);
  EXPECT_EQ(all.refused, 0);
  EXPECT_GT(all.ttft.max, 5);
  options.max_wait = absl::Milliseconds(500);
  const auto some = ResultOf(trace, options);
  EXPECT_GT(some.refused, 1000);
  EXPECT_EQ(some.completed + some.refused, 10'000);
  EXPECT_LT(some.ttft.p99, 1);
  EXPECT_GT(static_cast<double>(some.completed) / some.seconds,
            0.9 * static_cast<double>(all.completed) / all.seconds);
}

TEST(Replay, SurvivesALackOfBlocks) {
  std::vector<TraceRequest> trace(4, {.at_s = 0, .prompt_tokens = 100, .output_tokens = 150});
  ReplayOptions options = Options();
  options.scheduler.num_kv_blocks = 40;
  options.scheduler.max_steps_in_flight = 2;
  const auto r = ResultOf(trace, options);
  EXPECT_EQ(r.completed, 4);
  EXPECT_GT(r.preemptions, 0);
  EXPECT_GT(r.kv_peak, 0.9);
}

TEST(Replay, GoodputNeedsBothLimits) {
  const std::vector<TraceRequest> trace = {{.at_s = 0, .prompt_tokens = 60, .output_tokens = 20},
                                           {.at_s = 1, .prompt_tokens = 60, .output_tokens = 20}};
  ReplayOptions options = Options();
  options.slo_ttft_s = 0.0017;
  options.slo_itl_s = 0.0011;
  EXPECT_EQ(ResultOf(trace, options).good, 2);
  options.slo_itl_s = 0.001;
  EXPECT_EQ(ResultOf(trace, options).good, 0);
  options.slo_itl_s = 0.0011;
  options.slo_ttft_s = 0.0015;
  EXPECT_EQ(ResultOf(trace, options).good, 0);
}

TEST(Replay, CostIsTimeTimesItsPrice) {
  ReplayOptions options = Options();
  options.cost_per_hour = 3.6;
  const auto r = ResultOf({{.at_s = 5, .prompt_tokens = 60, .output_tokens = 11}}, options);
  EXPECT_NEAR(r.cost, r.seconds / 1000, 1e-9);
  EXPECT_NEAR(r.cost_per_million_output_tokens, r.cost / 11 * 1e6, 1e-6);
}

TEST(Replay, GivesTheSameBytesForTheSameTrace) {
  std::vector<TraceRequest> trace;
  for (int i = 0; i < 300; ++i) {
    trace.push_back({.at_s = i * 0.002,
                     .prompt_tokens = 20 + i * 7 % 200,
                     .output_tokens = 1 + i % 50,
                     .prefix = {static_cast<uint64_t>(i % 3)},
                     .tenant = i % 2 == 0 ? "a" : "b",
                     .priority = i % 5});
  }
  ReplayOptions options = Options();
  options.scheduler.max_steps_in_flight = 2;
  options.scheduler.max_waiting_sequences = 300;
  const std::string first = ReplayJson(ResultOf(trace, options), options, "w");
  EXPECT_EQ(ReplayJson(ResultOf(trace, options), options, "w"), first);
  EXPECT_NE(first.find("\"simulated\":true"), std::string::npos);
  const std::string table = ReplayTable(ResultOf(trace, options), options, "w");
  EXPECT_EQ(table.find("simulated: w\n"), 0U);
}

TEST(Replay, PercentilesAreNearestRanks) {
  std::vector<float> values;
  for (int i = 100; i > 0; --i) values.push_back(static_cast<float>(i));
  const Distribution d = DistributionOf(values);
  EXPECT_EQ(d.mean, 50.5);
  EXPECT_EQ(d.p50, 50);
  EXPECT_EQ(d.p90, 90);
  EXPECT_EQ(d.p99, 99);
  EXPECT_EQ(d.max, 100);
  EXPECT_EQ(DistributionOf({7}).p99, 7);
  EXPECT_EQ(DistributionOf({}).count, 0);
}

}  // namespace
}  // namespace sluice
