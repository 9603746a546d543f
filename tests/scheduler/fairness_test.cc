// Fairness among tenants, weights, priorities and ageing.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"
#include "tests/scheduler/harness.h"
#include "tests/scheduler/virtual_load.h"

namespace sluice {
namespace {

using testing::ElementsAre;

SchedulerConfig ServerConfig(int steps_in_flight) {
  SchedulerConfig config;
  config.max_rows = 32;
  config.max_step_tokens = 512;
  config.num_kv_blocks = 4096;
  config.max_model_len = 4096;
  config.max_waiting_sequences = 100'000;
  config.max_waiting_tokens = int64_t{1} << 40;
  config.max_steps_in_flight = steps_in_flight;
  return config;
}

TenantLoad Polite() {
  return {.tenant = "polite", .requests_per_s = 2, .prompt_tokens = 64, .output_tokens = 32};
}

struct Attack {
  const char* name;
  int32_t prompt_tokens, output_tokens, num_kv_blocks;
};
constexpr Attack kAttacks[] = {{"TheSameRequests", 64, 32, 4096},
                               {"LongPrompts", 3000, 1, 4096},
                               {"LongAnswers", 16, 400, 4096},
                               {"FewKvBlocks", 500, 300, 1100}};

class Adversary : public testing::TestWithParam<Attack> {};

// The promise of the design: a tenant that sends 100 times as much costs another one no more than a
// chunk of a prompt for each step that is on the device.
TEST_P(Adversary, DelaysAPoliteTenantByNoMoreThanTheStepsInFlight) {
  const Attack& attack = GetParam();
  const VirtualDevice device;
  for (const int steps_in_flight : {1, 2}) {
    SchedulerConfig config = ServerConfig(steps_in_flight);
    config.num_kv_blocks = attack.num_kv_blocks;
    const absl::Duration chunk = device.StepTime(config.max_step_tokens);
    for (const uint64_t seed : {1, 2}) {
      const absl::Duration time = absl::Seconds(120);
      const TenantLoad adversary{.tenant = "adversary",
                                 .requests_per_s = 200,
                                 .prompt_tokens = attack.prompt_tokens,
                                 .output_tokens = attack.output_tokens};
      const auto alone = RunLoad(config, device, {Polite()}, time, seed);
      const auto both = RunLoad(config, device, {Polite(), adversary}, time, seed);
      const TenantOutcome& with = both.tenants.at("polite");
      const absl::Duration before = alone.tenants.at("polite").Percentile(0.99),
                           after = with.Percentile(0.99);
      fmt::print(
          "{}, {} in flight, seed {}: p99 TTFT {} alone, {} with; a chunk {}; {} preemptions, "
          "adversary {} of {} done\n",
          attack.name, steps_in_flight, seed, absl::FormatDuration(before),
          absl::FormatDuration(after), absl::FormatDuration(chunk), both.stats.num_preemptions,
          both.tenants.at("adversary").num_finished,
          both.tenants.at("adversary").num_finished + both.tenants.at("adversary").num_refused);
      EXPECT_GT(both.tenants.at("adversary").num_refused, 0) << "it was no flood";
      EXPECT_EQ(with.num_refused, 0);
      EXPECT_LE(after - before, steps_in_flight * chunk) << "seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Attacks, Adversary, testing::ValuesIn(kAttacks),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Fairness, ProtectingOneTenantCostsTheOthersLittle) {
  const SchedulerConfig config = ServerConfig(1);
  const TenantLoad flood{
      .tenant = "flood", .requests_per_s = 200, .prompt_tokens = 500, .output_tokens = 50};
  const auto alone = RunLoad(config, {}, {flood}, absl::Seconds(100), 5);
  const auto both = RunLoad(config, {}, {Polite(), flood}, absl::Seconds(100), 5);
  const auto tokens = [](const LoadOutcome& outcome) {
    int64_t sum = 0;
    for (const auto& [name, tenant] : outcome.tenants) sum += tenant.num_tokens;
    return static_cast<double>(sum);
  };
  fmt::print("{} tokens alone, {} together, {} preemptions\n", tokens(alone), tokens(both),
             both.stats.num_preemptions);
  EXPECT_GT(tokens(both), 0.95 * tokens(alone));
}

TEST(Fairness, EightFloodsShareEquallyAndLoseLittleToIt) {
  const SchedulerConfig config = ServerConfig(2);
  TenantLoad load{.tenant = "0", .requests_per_s = 240, .prompt_tokens = 200, .output_tokens = 50};
  const auto alone = RunLoad(config, {}, {load}, absl::Seconds(60), 8);
  load.requests_per_s = 30;
  std::vector<TenantLoad> loads;
  for (int i = 0; i < 8; ++i) {
    load.tenant = fmt::to_string(i);
    loads.push_back(load);
  }
  const auto shared = RunLoad(config, {}, loads, absl::Seconds(60), 8);
  int64_t sum = 0, least = std::numeric_limits<int64_t>::max(), most = 0;
  for (const auto& [name, tenant] : shared.tenants) {
    sum += tenant.num_tokens;
    least = std::min(least, tenant.num_tokens);
    most = std::max(most, tenant.num_tokens);
  }
  const int64_t all = alone.tenants.at("0").num_tokens;
  fmt::print("{} tokens of one tenant, {} of eight, {} to {} each, {} preemptions\n", all, sum,
             least, most, shared.stats.num_preemptions);
  EXPECT_GT(static_cast<double>(sum), 0.95 * static_cast<double>(all));
  EXPECT_GT(static_cast<double>(least), 0.95 * static_cast<double>(most));
}

TEST(Fairness, WeightsAreShares) {
  for (const uint64_t seed : {1, 2, 3}) {
    const TenantLoad one{
        .tenant = "one", .requests_per_s = 200, .prompt_tokens = 100, .output_tokens = 40};
    TenantLoad three = one;
    three.tenant = "three";
    three.weight = 3;
    const auto outcome = RunLoad(ServerConfig(2), {}, {one, three}, absl::Seconds(100), seed);
    const double share = static_cast<double>(outcome.tenants.at("three").num_tokens) /
                         static_cast<double>(outcome.tenants.at("one").num_tokens);
    EXPECT_NEAR(share, 3, 0.15) << "seed " << seed;
  }
}

TEST(Fairness, LongAndShortRequestsHaveEqualShares) {
  const TenantLoad small{
      .tenant = "small", .requests_per_s = 300, .prompt_tokens = 60, .output_tokens = 20};
  const TenantLoad large{
      .tenant = "large", .requests_per_s = 100, .prompt_tokens = 600, .output_tokens = 200};
  const auto outcome = RunLoad(ServerConfig(1), {}, {small, large}, absl::Seconds(100), 4);
  const double share = static_cast<double>(outcome.tenants.at("large").num_tokens) /
                       static_cast<double>(outcome.tenants.at("small").num_tokens);
  // A token of a long context costs more, for the KV blocks that it reads: this is 0.54.
  EXPECT_LT(share, 1);
  EXPECT_GT(share, 0.4);
}

// Back from idling, a tenant has what a newcomer has, however long it was away.
TEST(Fairness, AnIdleTenantBanksNoMoreThanANewcomer) {
  const TenantLoad steady{
      .tenant = "steady", .requests_per_s = 200, .prompt_tokens = 100, .output_tokens = 20};
  TenantLoad early = steady, late = steady;
  early.tenant = late.tenant = "sleeper";
  early.begins = absl::ZeroDuration();
  early.ends = absl::Seconds(1);
  early.requests_per_s = 1;
  late.begins = absl::Seconds(60);
  const auto idled = RunLoad(ServerConfig(1), {}, {steady, early, late}, absl::Seconds(70), 6);
  const auto newcomer = RunLoad(ServerConfig(1), {}, {steady, late}, absl::Seconds(70), 6);
  const int64_t difference =
      idled.tenants.at("sleeper").num_tokens - newcomer.tenants.at("sleeper").num_tokens;
  EXPECT_LE(std::abs(difference), 2 * 512);
}

TEST(Fairness, ALongPromptYieldsItsNextChunkToTheNewRequestOfAnother) {
  Harness h(SmallConfig());
  SequenceSpec longest = Spec(1, Tokens(100), 2);
  longest.tenant = "long";
  ASSERT_TRUE(h.Add(std::move(longest)).ok());
  EXPECT_THAT(RowSizes(h.Step()), ElementsAre(16));
  SequenceSpec other = Spec(2, Tokens(5, 500), 2);
  other.tenant = "other";
  ASSERT_TRUE(h.Add(std::move(other)).ok());
  BatchPlan plan = h.Step();
  EXPECT_THAT(Sequences(plan), ElementsAre(2)) << "and the step is not filled up";
  plan = h.Step();
  EXPECT_THAT(Sequences(plan), ElementsAre(2, 1));
  EXPECT_THAT(RowSizes(plan), ElementsAre(1, 15));
  h.RunToEnd();
}

TEST(Fairness, ATenantWithoutARowGetsOneOfWhoHoldsMost) {
  for (const int steps_in_flight : {1, 2}) {
    SchedulerConfig config = SmallConfig();
    config.max_steps_in_flight = steps_in_flight;
    Harness h(config);
    for (SequenceId id = 1; id <= 6; ++id) {
      SequenceSpec spec = Spec(id, Tokens(4, static_cast<TokenId>(100 * id)), 30);
      spec.tenant = "many";
      ASSERT_TRUE(h.Add(std::move(spec)).ok());
    }
    while (h.scheduler().stats().num_running < 4) h.Plan(), h.Apply();
    for (int i = 1; i < steps_in_flight; ++i) h.Plan();
    SequenceSpec spec = Spec(10, Tokens(4, 5000), 30);
    spec.tenant = "one";
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
    if (steps_in_flight == 2) h.Apply();
    const BatchPlan plan = h.Plan();
    EXPECT_THAT(Sequences(plan), testing::Contains(10));
    EXPECT_THAT(Sequences(plan), testing::Not(testing::Contains(4))) << "the youngest";
    EXPECT_EQ(h.scheduler().stats().num_preemptions, 1);
    h.RunToEnd();
    for (SequenceId id = 1; id <= 6; ++id) EXPECT_EQ(h.Output(id).size(), 30U);
  }
}

TEST(Priority, WaitingLiftsUpToTheBestThatWaitsAndNeverBeyond) {
  SchedulerConfig config = SmallConfig();
  config.max_rows = 1;
  config.priority_ageing = absl::Seconds(10);
  Harness h(config);
  const auto add = [&](SequenceId id, int32_t priority, const char* tenant) {
    SequenceSpec spec = Spec(id, Tokens(2, static_cast<TokenId>(100 * id)), 1);
    spec.priority = priority;
    spec.tenant = tenant;
    spec.arrival_time = h.now;
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
  };
  add(1, 3, "old");
  add(2, 3, "old");
  h.now += absl::Seconds(29);
  add(3, 0, "new");
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(3)) << "29 s are worth two steps of three";
  h.now += absl::Seconds(1);
  add(4, 0, "new");
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(1)) << "30 s are; its tenant has had less";
  h.now += absl::Hours(1);
  add(5, 0, "newest");
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(5))
      << "an hour does not pass a tenant that has had less";
  h.RunToEnd();
}

TEST(Priority, WithoutAgeingTheBestGoesFirstWhateverItCosts) {
  SchedulerConfig config = SmallConfig();
  config.max_rows = 1;
  Harness h(config);
  SequenceSpec low = Spec(1, Tokens(2), 1);
  low.priority = 1;
  low.arrival_time = h.now;
  ASSERT_TRUE(h.Add(std::move(low)).ok());
  h.now += absl::Hours(100);
  ASSERT_TRUE(h.Add(Spec(2, Tokens(2), 1)).ok());
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(2));
  h.RunToEnd();
}

TEST(Fairness, AFloodOfOneTenantDelaysAnotherByAtMostTwoAdmissions) {
  SchedulerConfig config = SmallConfig();
  config.max_rows = 2;
  Harness h(config);
  for (SequenceId id = 1; id <= 200; ++id) {
    SequenceSpec spec = Spec(id, Tokens(4, static_cast<TokenId>(id)), 6);
    spec.tenant = "flood";
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
  }
  for (int step = 0; step < 30; ++step) h.Step();
  for (SequenceId id = 1001; id <= 1005; ++id) {
    SequenceSpec spec = Spec(id, Tokens(4, static_cast<TokenId>(id)), 6);
    spec.tenant = "modest";
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
    int num_admissions = 0;
    for (bool admitted = false; !admitted;) {
      for (const SlotInit& init : h.Step().slot_inits) {
        (void)init;
        ++num_admissions;
      }
      admitted = !h.updates[id].empty();
      ASSERT_LE(num_admissions, 3) << "sequence " << id;
    }
  }
}

}  // namespace
}  // namespace sluice
