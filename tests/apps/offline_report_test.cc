#include "apps/offline_report.h"

#include <gtest/gtest.h>

#include <string>

#include "bench/serve/summary.h"
#include "bench/serve/text.h"

namespace sluice {
namespace {

using load::NumberAt;

constexpr std::string_view kPage =
    "# HELP sluice_steps_total Steps of the engine\n"
    "sluice_steps_total{model_name=\"m\"} 12\n"
    "sluice_steps_total_of_another{model_name=\"m\"} 1000\n"
    "sluice_step_duration_seconds_sum{model_name=\"m\"} 1.5\n"
    "sluice_step_duration_seconds_count{model_name=\"m\"} 12\n"
    "sluice_kv_blocks{model_name=\"m\",state=\"free\"} 60\n"
    "sluice_kv_blocks{model_name=\"m\",state=\"cached\"} 30\n"
    "sluice_kv_blocks{model_name=\"m\",state=\"referenced\"} 10\n"
    "sluice_preemptions_total{model_name=\"m\"} 3\n"
    "sluice_prefix_cache_queries_tokens_total{model_name=\"m\"} 640\n"
    "sluice_prefix_cache_hits_tokens_total{model_name=\"m\"} 64\n";

TEST(EngineFacts, AreReadFromThePage) {
  const EngineFacts facts = EngineFacts::Of(kPage);
  EXPECT_EQ(facts.steps, 12);
  EXPECT_EQ(facts.step_seconds, 1.5);
  EXPECT_EQ(facts.kv_blocks, 100);
  EXPECT_EQ(facts.kv_referenced_blocks, 10);
  EXPECT_EQ(facts.preemptions, 3);
  EXPECT_EQ(facts.prefix_query_tokens, 640);
  EXPECT_EQ(facts.prefix_hit_tokens, 64);
  EXPECT_EQ(EngineFacts::Of("").steps, 0);
}

OfflineFacts Facts(const std::string& backend) {
  return {.version = {.backend = backend, .isa = "avx2"},
          .model = "m",
          .before = {.steps = 2},
          .after = EngineFacts::Of(kPage),
          .kv_peak_blocks = 25};
}

// Two seconds; one request of 100 prompt and 40 output tokens a chunk each, 1 s to the first.
load::Measurement Measured() {
  constexpr int64_t kSecond = 1'000'000'000;
  load::Measurement measured(kSecond, kSecond, 3 * kSecond, {});
  load::Exchange exchange;
  exchange.scheduled_ns = kSecond;
  measured.Start(exchange, kSecond);
  exchange.prompt_tokens = 100;
  for (int i = 0; i < 40; ++i) measured.Text(exchange, "", 2 * kSecond + i * kSecond / 50);
  exchange.output_tokens = 40;
  measured.End(exchange, 3 * kSecond - 1);
  return measured;
}

TEST(OfflineReport, AThroughputHasItsRatesAndTheEnginesFacts) {
  const auto result = ThroughputResult(Facts("cpu"), {{"requests", 1}}, Measured());
  EXPECT_EQ(NumberAt(result, "rates.completed_per_s"), 0.5);
  EXPECT_EQ(NumberAt(result, "rates.prompt_tokens_per_s"), 50);
  EXPECT_EQ(NumberAt(result, "rates.output_tokens_per_s"), 20);
  EXPECT_EQ(NumberAt(result, "rates.total_tokens_per_s"), 70);
  EXPECT_EQ(NumberAt(result, "engine.steps"), 10);
  EXPECT_EQ(NumberAt(result, "kv.peak_referenced_blocks"), 25);
  const std::string text = ThroughputText(result);
  const std::string last = text.substr(text.rfind('\n', text.size() - 2) + 1);
  EXPECT_TRUE(
      last.starts_with("throughput: 0.50 requests/s, 50.0 prompt tokens/s, 20.0 output "
                       "tokens/s, 70.0 total tokens/s; KV at most 25 of 100 blocks"))
      << last;
}

TEST(OfflineReport, ALatencyHasItsSpread) {
  load::Histogram batch;
  for (int64_t ms = 1; ms <= 100; ++ms) batch.Record(ms * 1'000'000);
  const auto result = LatencyResult(Facts("cpu"), {{"batch", 1}}, Measured(), batch);
  EXPECT_NEAR(NumberAt(result, "latency_ms.batch.spread"), 160, 2);  // (90 - 10) / 50
  EXPECT_EQ(NumberAt(result, "latency_ms.ttft.spread"), 0);
  EXPECT_NEAR(NumberAt(result, "latency_ms.tpot.p50"), 20, 0.1);
}

TEST(OfflineReport, EveryLineOfASimulationSaysSo) {
  const OfflineFacts facts = Facts("sim");
  for (const std::string& text :
       {ThroughputText(ThroughputResult(facts, {}, Measured())),
        LatencyText(LatencyResult(facts, {}, Measured(), load::Histogram()))}) {
    size_t lines = 0;
    for (const std::string_view line : load::Split(text, '\n')) {
      if (line.empty()) continue;
      EXPECT_TRUE(line.starts_with("simulated")) << line;
      ++lines;
    }
    EXPECT_GE(lines, 6U);
  }
  EXPECT_EQ(
      LatencyText(LatencyResult(Facts("cpu"), {}, Measured(), load::Histogram())).find("simulated"),
      std::string::npos);
}

}  // namespace
}  // namespace sluice
