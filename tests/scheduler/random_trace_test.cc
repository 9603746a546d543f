// The promises of the scheduler under a million random steps.
#include "tests/scheduler/random_trace.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace sluice {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kTotalSteps = 20'000;
#else
constexpr int64_t kTotalSteps = 1'000'000;
#endif

struct Load {
  int steps_in_flight;
  bool prefix_cache;
  int32_t num_kv_blocks;  // 14: a sequence fills the pool and the context does not fit; 40: a few
                          // long ones do
};
constexpr std::array<Load, 8> kLoads = {{{1, true, 14},
                                         {1, true, 40},
                                         {1, false, 14},
                                         {1, false, 40},
                                         {2, true, 14},
                                         {2, true, 40},
                                         {2, false, 14},
                                         {2, false, 40}}};

class RandomTrace : public testing::TestWithParam<Load> {};

TEST_P(RandomTrace, KeepsEveryInvariant) {
  const auto [steps_in_flight, prefix_cache, num_kv_blocks] = GetParam();
  TraceOptions options;
  options.seed = 20261122 + static_cast<uint64_t>(num_kv_blocks);
  options.num_steps = kTotalSteps / static_cast<int64_t>(kLoads.size());
  options.steps_in_flight = steps_in_flight;
  options.prefix_cache = prefix_cache;
  options.num_kv_blocks = num_kv_blocks;
  const TraceSummary summary = RunTrace(options);
  fmt::print(
      "seed {}: {} steps, {} added, {} refused full, {} unfit; ends: {} stop, {} length, {} "
      "deadline, {} "
      "cancelled, {} finished; {} preemptions, {} of {} prompt tokens cached, {} rows planned "
      "ahead, {} held; "
      "longest wait of the oldest {}\n",
      options.seed, summary.num_steps, summary.num_added, summary.num_full, summary.num_unfit,
      summary.num_stopped, summary.num_length, summary.num_deadline, summary.num_cancelled,
      summary.num_finished, summary.stats.num_preemptions, summary.stats.prefix_hits,
      summary.stats.prefix_queries, summary.num_rows_planned_ahead, summary.num_held,
      summary.longest_wait_of_oldest);
  ASSERT_EQ(summary.error, "") << "seed " << options.seed;
  EXPECT_EQ(summary.num_added, summary.num_stopped + summary.num_length + summary.num_deadline +
                                   summary.num_cancelled + summary.num_finished);
  // The load was one that tests something.
  for (const int64_t count :
       {summary.num_full, summary.num_unfit, summary.num_stopped, summary.num_length,
        summary.num_deadline, summary.stats.num_preemptions}) {
    EXPECT_GT(count, 0);
  }
  EXPECT_EQ(summary.stats.prefix_hits > 0, prefix_cache);
  EXPECT_EQ(summary.num_rows_planned_ahead > 0, steps_in_flight > 1);
}

INSTANTIATE_TEST_SUITE_P(Loads, RandomTrace, testing::ValuesIn(kLoads), [](const auto& info) {
  return fmt::format("{}InFlight{}Cache{}Blocks", info.param.steps_in_flight,
                     info.param.prefix_cache ? "With" : "Without", info.param.num_kv_blocks);
});

struct PooledLoad {
  int pooled_of_ten;
  bool whole_prompts, keeps_kv, prefix_cache;
  const char* name;
};
constexpr std::array<PooledLoad, 4> kPooledLoads = {{{4, false, true, true, "SomePooled"},
                                                     {10, false, true, true, "ChunkedPrompts"},
                                                     {10, true, true, false, "WholePrompts"},
                                                     {10, true, false, false, "WithoutKv"}}};

class PooledTrace : public testing::TestWithParam<PooledLoad> {};

TEST_P(PooledTrace, KeepsEveryInvariant) {
  const PooledLoad& load = GetParam();
  for (const int steps_in_flight : {1, 2}) {
    TraceOptions options;
    options.seed = 20261123;
    options.num_steps = kTotalSteps / 40;
    options.steps_in_flight = steps_in_flight;
    options.prefix_cache = load.prefix_cache;
    options.pooled_of_ten = load.pooled_of_ten;
    options.whole_prompts = load.whole_prompts;
    options.keeps_kv = load.keeps_kv;
    const TraceSummary summary = RunTrace(options);
    ASSERT_EQ(summary.error, "") << "seed " << options.seed;
    EXPECT_EQ(summary.num_added, summary.num_stopped + summary.num_length + summary.num_pooled +
                                     summary.num_deadline + summary.num_cancelled +
                                     summary.num_finished);
    for (const int64_t count : {summary.num_pooled, summary.num_full, summary.num_unfit,
                                summary.num_deadline, summary.num_cancelled}) {
      EXPECT_GT(count, 0);
    }
    EXPECT_EQ(summary.num_length > 0, load.pooled_of_ten < 10);
    EXPECT_EQ(summary.stats.prefix_hits > 0, load.prefix_cache);
  }
}

INSTANTIATE_TEST_SUITE_P(Loads, PooledTrace, testing::ValuesIn(kPooledLoads),
                         [](const auto& info) { return std::string(info.param.name); });

TraceOptions ShortTrace() {
  TraceOptions options;
  options.seed = 7;
  options.num_steps = 2000;
  options.steps_in_flight = 2;
  return options;
}

TEST(Replay, TheSameTraceGivesTheSamePlans) {
  const TraceSummary first = RunTrace(ShortTrace()), second = RunTrace(ShortTrace());
  ASSERT_EQ(first.error, "");
  EXPECT_EQ(first.plan_hash, second.plan_hash);
  TraceOptions other = ShortTrace();
  other.seed = 8;
  EXPECT_NE(first.plan_hash, RunTrace(other).plan_hash);
}

// Address layout and hash seeds differ between processes; plans must not.
TEST(Replay, AnotherProcessGivesTheSamePlans) {
  const std::string hash = fmt::format("plans {:016x}", RunTrace(ShortTrace()).plan_hash);
  if (std::getenv("SLUICE_TEST_PRINT_PLANS") != nullptr) {
    std::puts(hash.c_str());
    return;
  }
  const std::string command = "SLUICE_TEST_PRINT_PLANS=1 /proc/" + std::to_string(::getpid()) +
                              "/exe --gtest_filter=Replay.Another*";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  ASSERT_NE(pipe, nullptr);
  std::string output;
  for (std::array<char, 256> line; std::fgets(line.data(), line.size(), pipe.get()) != nullptr;)
    output += line.data();
  EXPECT_NE(output.find(hash), std::string::npos) << output;
}

}  // namespace
}  // namespace sluice
