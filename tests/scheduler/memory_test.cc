// Prefix cache, eviction, preemption and planning ahead: what happens to KV blocks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "scheduler/scheduler.h"
#include "tests/scheduler/harness.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

int32_t NumCachedTokens(Harness& h, SequenceId id) { return h.updates[id].at(0).num_cached_tokens; }

TEST(PrefixCache, AHitEndsBeforeTheLastPromptToken) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(8), 1)).ok());
  h.RunToEnd();
  ASSERT_TRUE(h.Add(Spec(2, Tokens(8), 1)).ok());
  const BatchPlan plan = h.Step();
  EXPECT_THAT(plan.positions, ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(NumCachedTokens(h, 2), 4);
  ASSERT_TRUE(h.Add(Spec(3, Tokens(9), 1)).ok());
  EXPECT_THAT(h.Step().positions, ElementsAre(8));
  EXPECT_EQ(h.scheduler().stats().prefix_hits, 12);
  EXPECT_EQ(h.scheduler().stats().prefix_queries, 25);
}

TEST(PrefixCache, OtherTenantsAndThoseWhoDoNotReadItComputeEverything) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(8), 1)).ok());
  h.RunToEnd();
  SequenceSpec spec = Spec(2, Tokens(8), 1);
  spec.tenant = "other";
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  EXPECT_EQ(h.Step().num_tokens(), 8);
  spec = Spec(3, Tokens(8), 1);
  spec.read_prefix_cache = false;
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  EXPECT_EQ(h.Step().num_tokens(), 8);
}

TEST(PrefixCache, ABlockIsSharedOnlyOnceItsStepIsApplied) {
  SchedulerConfig config = SmallConfig();
  config.max_steps_in_flight = 2;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(8), 1)).ok());
  h.Plan();
  ASSERT_TRUE(h.Add(Spec(2, Tokens(8), 1)).ok());
  EXPECT_EQ(h.Plan().num_tokens(), 8) << "sequence 1's blocks may yet fail";
  h.Apply();
  ASSERT_TRUE(h.Add(Spec(3, Tokens(8), 1)).ok());
  EXPECT_EQ(h.Plan().num_tokens(), 4);
}

TEST(PrefixCache, FinishKeepsWhatItIsToldToKeep) {
  Harness h(SmallConfig());
  SequenceSpec spec = Spec(1, Tokens(4), 50);
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  for (int step = 0; step < 12; ++step) h.Step();  // 15 tokens computed: three whole blocks
  std::vector<TokenId> conversation = Tokens(4);
  for (int i = 0; i < 11; ++i) conversation.push_back(h.OutputToken(1, i));
  h.scheduler().Finish(1, 5);  // 9 tokens: two blocks
  h.scheduler().CheckInvariants();
  EXPECT_EQ(h.scheduler().stats().num_cached_blocks, 2);
  ASSERT_TRUE(h.Add(Spec(2, conversation, 1)).ok());
  EXPECT_EQ(h.Step().positions[0], 8);
}

TEST(PrefixCache, ChoicesWaitForTheirLeadersPromptAndShareItsBlocks) {
  Harness h(SmallConfig());
  for (SequenceId id = 1; id <= 3; ++id) {
    SequenceSpec spec = Spec(id, Tokens(20), 2);
    spec.choice = static_cast<uint32_t>(id - 1);
    spec.leader = id == 1 ? 0 : 1;
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
  }
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(1));
  EXPECT_THAT(Sequences(h.Step()),
              ElementsAre(1));  // the last four tokens, though the budget has room for more
  const BatchPlan plan = h.Step();
  EXPECT_THAT(Sequences(plan), ElementsAre(1, 2, 3));
  EXPECT_THAT(RowSizes(plan), ElementsAre(1, 4, 4));
  h.RunToEnd();
}

TEST(PrefixCache, ChoicesRunWhenTheirLeaderLeaves) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(20), 2)).ok());
  SequenceSpec spec = Spec(2, Tokens(20), 2);
  spec.leader = 1;
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  EXPECT_EQ(h.scheduler().stats().num_waiting, 2);
  h.scheduler().Cancel(1);
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(2));
  h.RunToEnd();
  EXPECT_EQ(h.Finished(2), FinishReason::kLength);
}

TEST(Preemption, EvictsCachedBlocksFirst) {
  SchedulerConfig config = SmallConfig();
  config.num_kv_blocks = 8;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(16, 500), 1)).ok());
  h.RunToEnd();
  EXPECT_EQ(h.scheduler().stats().num_cached_blocks, 4);
  ASSERT_TRUE(h.Add(Spec(2, Tokens(16), 16)).ok());
  h.RunToEnd();
  EXPECT_EQ(h.scheduler().stats().num_preemptions, 0);
  EXPECT_EQ(h.Output(2).size(), 16U);
}

TEST(Preemption, TakesTheYoungestOfTheLowestPriorityWhichGoesOnWhereItWas) {
  for (const bool prefix_cache : {false, true}) {
    SchedulerConfig config = SmallConfig();
    config.num_kv_blocks = 7;
    config.prefix_cache = prefix_cache;
    Harness h(config);
    const auto add = [&h](SequenceId id, int32_t priority) {
      SequenceSpec spec = Spec(id, Tokens(4, static_cast<TokenId>(100 * id)), 12);
      spec.priority = priority;
      ASSERT_TRUE(h.Add(std::move(spec)).ok());
    };
    add(1, 1);
    h.Step();
    add(2, 1);
    h.Step();
    add(3, 0);
    while (h.scheduler().stats().num_preemptions == 0) h.Step();
    EXPECT_EQ(h.scheduler().stats().num_running, 2);
    const BatchPlan plan = h.Step();
    EXPECT_THAT(Sequences(plan), ElementsAre(3, 1)) << "2 is the youngest of priority 1";
    add(4, 1);  // comes after the preempted one
    h.RunToEnd();
    for (SequenceId id = 1; id <= 4; ++id) {
      std::vector<TokenId> expected;
      for (int32_t i = 0; i < 12; ++i) expected.push_back(h.OutputToken(id, i));
      EXPECT_EQ(h.Output(id), expected) << "sequence " << id;
    }
  }
}

TEST(Preemption, SparesRowsInFlightAndThenTakesThem) {
  SchedulerConfig config = SmallConfig();
  config.num_kv_blocks = 4;
  config.max_steps_in_flight = 2;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(6), 9)).ok());
  ASSERT_TRUE(h.Add(Spec(2, Tokens(7, 500), 8)).ok());
  h.RunToEnd();
  EXPECT_GT(h.scheduler().stats().num_preemptions, 0);
  EXPECT_EQ(h.Output(1).size(), 9U);
  EXPECT_EQ(h.Output(2).size(), 8U);
}

// The youngest row's block has room for many steps more: without yielding it would always be in
// flight.
TEST(Preemption, AnOlderRowThatLacksABlockWaitsNoLongerThanTheStepsInFlight) {
  SchedulerConfig config = SmallConfig();
  config.kv_block_tokens = 16;
  config.num_kv_blocks = 3;
  config.max_step_tokens = 32;
  config.max_steps_in_flight = 2;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(15), 20)).ok());
  ASSERT_TRUE(h.Add(Spec(2, Tokens(17, 500), 12)).ok());
  h.Plan();
  for (int step = 0; step < 8; ++step) {
    h.Plan();
    h.Apply();
  }
  EXPECT_GE(h.Output(1).size(), 6U);
  EXPECT_EQ(h.scheduler().stats().num_preemptions, 1);
  h.RunToEnd();
}

// Generating rows are planned before prompts, whatever their rank; they must not hold an older
// prompt back for that.
TEST(Preemption, APromptOfHigherRankGetsItsBlocksFromAGeneratingRow) {
  SchedulerConfig config = SmallConfig();
  config.kv_block_tokens = 16;
  config.num_kv_blocks = 5;
  Harness h(config);
  SequenceSpec low = Spec(1, Tokens(14), 40);
  low.priority = 1;
  ASSERT_TRUE(h.Add(std::move(low)).ok());
  h.Step();
  ASSERT_TRUE(h.Add(Spec(2, Tokens(60, 500), 2)).ok());
  for (int step = 0; step < 7; ++step) h.Step();
  EXPECT_EQ(h.Output(2).size(), 2U);
  EXPECT_EQ(h.scheduler().stats().num_preemptions, 1);
  h.RunToEnd();
  EXPECT_EQ(h.Output(1).size(), 40U);
}

TEST(Preemption, CachedBlocksThatASequenceWouldShareAreNoRoomForItsOthers) {
  SchedulerConfig config = SmallConfig();
  config.num_kv_blocks = 4;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(8), 1)).ok());
  h.RunToEnd();
  ASSERT_TRUE(h.Add(Spec(2, Tokens(7, 500), 2)).ok());
  h.Step();
  ASSERT_TRUE(
      h.Add(Spec(3, Tokens(9), 1)).ok());  // two cached blocks and one more, which is not there
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(2));
  EXPECT_EQ(h.scheduler().stats().num_running, 0);
  EXPECT_EQ(h.scheduler().stats().num_waiting, 1);
  EXPECT_THAT(h.Step().positions, ElementsAre(8));
}

SchedulerConfig TwoInFlight() {
  SchedulerConfig config = SmallConfig();
  config.max_steps_in_flight = 2;
  return config;
}

TEST(PlanningAhead, TheNextInputIsTheTokenInTheSlot) {
  Harness h(TwoInFlight());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(3), 4)).ok());
  h.Plan();
  const BatchPlan ahead = h.Plan();
  EXPECT_THAT(ahead.tokens, ElementsAre(kTokenFromSlot));
  EXPECT_THAT(ahead.positions, ElementsAre(3));
  EXPECT_EQ(ahead.rows[0].num_output_tokens, 1);
  EXPECT_TRUE(h.Plan().empty()) << "two steps are in flight";
  h.RunToEnd();
  EXPECT_EQ(h.Output(1).size(), 4U);
}

TEST(PlanningAhead, StopsAtTheLengthLimit) {
  Harness h(TwoInFlight());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(3), 1)).ok());
  h.Plan();
  EXPECT_TRUE(h.Plan().empty());
  h.Apply();
  EXPECT_EQ(h.Finished(1), FinishReason::kLength);
}

TEST(PlanningAhead, PromptChunksNeedNoSampledToken) {
  Harness h(TwoInFlight());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(40), 1)).ok());
  EXPECT_EQ(h.Plan().num_tokens(), 16);
  EXPECT_EQ(h.Plan().num_tokens(), 16);
  h.Apply();
  EXPECT_EQ(h.Plan().rows[0].output, RowOutput::kSample);
}

TEST(PlanningAhead, TheResultAfterAStopTokenIsDropped) {
  Harness h(TwoInFlight());
  h.Script(1, 1, 9);
  SequenceSpec spec = Spec(1, Tokens(3), 10);
  SamplingParams sampling;
  sampling.stop_token_ids = {9};
  spec.sampling = std::make_shared<SamplingParams>(sampling);
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  h.Plan();
  h.Plan();
  h.Apply();
  h.Plan();  // goes on after the stop token that is not known yet
  h.Apply();
  EXPECT_EQ(h.Finished(1), FinishReason::kStop);
  EXPECT_EQ(h.scheduler().stats().num_running, 0);
  EXPECT_EQ(h.scheduler().stats().num_referenced_blocks, 2) << "a step in flight names them";
  EXPECT_TRUE(h.scheduler().HasSequences());
  h.Apply();
  EXPECT_EQ(h.Output(1).size(), 2U);
  EXPECT_EQ(h.scheduler().stats().num_referenced_blocks, 0);
  EXPECT_FALSE(h.scheduler().HasSequences());
}

TEST(PlanningAhead, ACancelledSequencesSlotServesTheNextAtOnce) {
  SchedulerConfig config = TwoInFlight();
  config.max_rows = 1;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(3), 9)).ok());
  ASSERT_TRUE(h.Add(Spec(2, Tokens(3, 500), 2)).ok());
  h.Plan();
  h.scheduler().Cancel(1);
  const BatchPlan plan = h.Plan();
  EXPECT_THAT(Sequences(plan), ElementsAre(2));
  EXPECT_EQ(plan.rows[0].slot, 0);
  h.RunToEnd();
  EXPECT_EQ(h.Output(2).size(), 2U);
  EXPECT_THAT(h.updates[1], IsEmpty());
}

}  // namespace
}  // namespace sluice
