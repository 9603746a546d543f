#include "scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/errors.h"
#include "tests/scheduler/harness.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Scheduler, ComputesThePromptThenOneTokenAStepUntilTheLengthLimit) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(5), 3)).ok());
  BatchPlan plan = h.Step();
  EXPECT_EQ(plan.step, 1U);
  EXPECT_THAT(plan.tokens, ElementsAre(100, 101, 102, 103, 104));
  EXPECT_THAT(plan.positions, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(plan.context_len, ElementsAre(5));
  EXPECT_THAT(plan.block_begin, ElementsAre(0, 2));
  EXPECT_EQ(plan.rows[0].output, RowOutput::kSample);
  EXPECT_EQ(plan.rows[0].num_output_tokens, 0);
  ASSERT_EQ(plan.slot_inits.size(), 1U);
  plan = h.Step();
  EXPECT_THAT(plan.tokens, ElementsAre(h.OutputToken(1, 0)));
  EXPECT_THAT(plan.positions, ElementsAre(5));
  EXPECT_EQ(plan.rows[0].num_output_tokens, 1);
  EXPECT_THAT(plan.slot_inits, IsEmpty());
  h.Step();
  EXPECT_EQ(h.Finished(1), FinishReason::kLength);
  EXPECT_THAT(h.Output(1),
              ElementsAre(h.OutputToken(1, 0), h.OutputToken(1, 1), h.OutputToken(1, 2)));
  EXPECT_FALSE(h.scheduler().HasSequences());
  EXPECT_TRUE(h.Plan().empty());
}

TEST(Scheduler, StopsAtAStopTokenButNotBeforeMinTokens) {
  Harness h(SmallConfig());
  h.Script(1, 0, 9);
  h.Script(1, 2, 9);
  SequenceSpec spec = Spec(1, Tokens(3), 10);
  SamplingParams sampling;
  sampling.stop_token_ids = {4, 9};
  sampling.min_tokens = 2;
  spec.sampling = std::make_shared<SamplingParams>(sampling);
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  h.RunToEnd();
  EXPECT_EQ(h.Finished(1), FinishReason::kStop);
  EXPECT_EQ(h.Output(1).size(), 3U);
}

TEST(Scheduler, ALongPromptNeverStallsRunningRows) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(4), 20)).ok());
  h.Step();
  ASSERT_TRUE(h.Add(Spec(2, Tokens(40, 500), 5)).ok());
  ASSERT_TRUE(h.Add(Spec(3, Tokens(3, 900), 5)).ok());
  BatchPlan plan = h.Step();
  EXPECT_THAT(Sequences(plan), ElementsAre(1, 2));
  EXPECT_THAT(RowSizes(plan), ElementsAre(1, 15));
  EXPECT_EQ(plan.rows[1].output, RowOutput::kNone);
  plan = h.Step();
  EXPECT_THAT(Sequences(plan), ElementsAre(1, 3, 2));  // the short one overtakes
  EXPECT_THAT(RowSizes(plan), ElementsAre(1, 3, 12));
  EXPECT_EQ(plan.rows[1].output, RowOutput::kSample);
  plan = h.Step();  // the last 13 tokens of the prompt
  EXPECT_THAT(Sequences(plan), ElementsAre(1, 3, 2));
  EXPECT_THAT(RowSizes(plan), ElementsAre(1, 1, 13));
  EXPECT_EQ(plan.rows[2].output, RowOutput::kSample);
}

TEST(Scheduler, ShortPromptsOvertakeALongOneInHalfOfAStep) {
  SchedulerConfig config = SmallConfig();  // 16 tokens a step
  config.num_kv_blocks = 1000;
  config.max_model_len = 400;
  config.max_rows = 16;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(160, 500), 1)).ok());
  h.Step();
  for (SequenceId id = 2; id < 8; ++id) ASSERT_TRUE(h.Add(Spec(id, Tokens(4, 10), 1)).ok());
  BatchPlan plan = h.Step();  // two fit into the half of it
  EXPECT_THAT(Sequences(plan), ElementsAre(2, 3, 1));
  EXPECT_THAT(RowSizes(plan), ElementsAre(4, 4, 8));
}

TEST(Scheduler, ALongPromptIsNotStarvedByShortOnes) {
  SchedulerConfig config = SmallConfig();
  config.num_kv_blocks = 1000;
  config.max_model_len = 400;
  config.max_rows = 16;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(160, 500), 1)).ok());
  SequenceId next = 2;
  int steps = 0;
  for (; !h.Finished(1) && steps < 100; ++steps) {
    for (int i = 0; i < 4; ++i, ++next) ASSERT_TRUE(h.Add(Spec(next, Tokens(4, 10), 1)).ok());
    h.Step();
  }
  EXPECT_LE(steps, 2 * 160 / 16);  // twice what it takes alone
}

TEST(Scheduler, ShortPromptsDoNotTakeALongOnesBlocks) {
  SchedulerConfig config = SmallConfig();  // 4 tokens a block
  config.num_kv_blocks = 32;               // the long prompt takes 30 of them
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(118, 500), 1)).ok());
  h.Step();
  SequenceId next = 2;
  int steps = 1;
  for (; !h.Finished(1) && steps < 100; ++steps) {
    for (int i = 0; i < 2; ++i, ++next) ASSERT_TRUE(h.Add(Spec(next, Tokens(8, 10), 8)).ok());
    h.Step();
  }
  EXPECT_LE(steps, 118 / 16 + 2);  // nobody overtakes: three blocks would be too many
}

TEST(Scheduler, WhatDoesNotOvertake) {
  SchedulerConfig config = SmallConfig();
  config.num_kv_blocks = 1000;
  config.max_model_len = 400;
  const auto second = [&](int num_tokens, int32_t priority) {
    Harness h(config);
    EXPECT_TRUE(h.Add(Spec(1, Tokens(160, 500), 1)).ok());
    h.Step();
    SequenceSpec spec = Spec(2, Tokens(num_tokens, 900), 1);
    spec.priority = priority;
    EXPECT_TRUE(h.Add(std::move(spec)).ok());
    return Sequences(h.Step());
  };
  EXPECT_THAT(second(8, 0), ElementsAre(2, 1));
  EXPECT_THAT(second(9, 0), ElementsAre(1));  // longer than half a step
  EXPECT_THAT(second(8, 1), ElementsAre(1));  // less urgent
}

TEST(Scheduler, AdmitsByPriorityThenArrival) {
  SchedulerConfig config = SmallConfig();
  config.max_rows = 2;
  Harness h(config);
  for (const auto& [id, priority] :
       std::vector<std::pair<SequenceId, int32_t>>{{1, 1}, {2, 1}, {3, 0}}) {
    SequenceSpec spec = Spec(id, Tokens(2), 1);
    spec.priority = priority;
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
  }
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(3, 1));
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(2));
}

TEST(Scheduler, NobodyOvertakesTheFirstThatDoesNotFit) {
  SchedulerConfig config = SmallConfig();
  config.num_kv_blocks = 6;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(12), 4)).ok());
  h.Step();
  ASSERT_TRUE(h.Add(Spec(2, Tokens(14, 500), 1)).ok());  // 4 blocks, 3 are left
  ASSERT_TRUE(h.Add(Spec(3, Tokens(2, 900), 1)).ok());
  for (int step = 0; step < 3; ++step) EXPECT_THAT(Sequences(h.Step()), ElementsAre(1));
  EXPECT_EQ(h.Finished(1), FinishReason::kLength);
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(2, 3));
  EXPECT_EQ(h.scheduler().stats().num_preemptions, 0);
}

TEST(Scheduler, SendsTokenHistoryOnlyForPenalties) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Spec(1, Tokens(3), 2)).ok());
  SequenceSpec spec = Spec(2, Tokens(2, 200), 4);
  SamplingParams sampling;
  sampling.repetition_penalty = 1.5F;
  spec.sampling = std::make_shared<SamplingParams>(sampling);
  spec.resume_output_tokens = {7, 8};
  spec.choice = 3;
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  const BatchPlan plan = h.Step();
  ASSERT_EQ(plan.slot_inits.size(), 2U);
  EXPECT_THAT(plan.slot_inits[0].prompt_tokens, IsEmpty());
  EXPECT_THAT(plan.slot_inits[1].prompt_tokens, ElementsAre(200, 201));
  EXPECT_THAT(plan.slot_inits[1].output_tokens, ElementsAre(7, 8));
  EXPECT_EQ(plan.slot_inits[1].choice, 3U);
}

TEST(Scheduler, ResumedOutputIsComputedWithThePromptAndCounts) {
  Harness h(SmallConfig());
  SequenceSpec spec = Spec(1, Tokens(3), 4);
  spec.resume_output_tokens = {50, 51};
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  const BatchPlan plan = h.Step();
  EXPECT_THAT(plan.tokens, ElementsAre(100, 101, 102, 50, 51));
  EXPECT_EQ(plan.rows[0].num_output_tokens, 2);
  h.RunToEnd();
  EXPECT_THAT(h.Output(1), ElementsAre(h.OutputToken(1, 2), h.OutputToken(1, 3)));
  EXPECT_EQ(h.Finished(1), FinishReason::kLength);
}

TEST(Scheduler, DeadlinesEndWaitingAndRunningSequences) {
  SchedulerConfig config = SmallConfig();
  config.max_rows = 1;
  Harness h(config);
  for (SequenceId id = 1; id <= 3; ++id) {
    SequenceSpec spec = Spec(id, Tokens(2), 50);
    if (id < 3) spec.deadline = h.now + absl::Seconds(1);
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
  }
  h.Step();
  h.now = absl::UnixEpoch() + absl::Seconds(1);
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(3));
  EXPECT_EQ(h.Finished(1), FinishReason::kDeadline);
  EXPECT_EQ(h.Output(1).size(), 1U);
  EXPECT_EQ(h.Finished(2), FinishReason::kDeadline);
}

TEST(Scheduler, ACancelledSequenceIsInNoLaterPlanAndHoldsNoBlock) {
  SchedulerConfig config = SmallConfig();
  config.prefix_cache = false;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(9), 10)).ok());
  h.Step();
  h.scheduler().Cancel(1);
  h.scheduler().Cancel(77);
  EXPECT_TRUE(h.Step().empty());
  EXPECT_FALSE(h.scheduler().HasSequences());
  EXPECT_EQ(h.scheduler().stats().num_free_blocks, config.num_kv_blocks);
}

TEST(Scheduler, RefusesWhatCouldNeverFit) {
  SchedulerConfig config = SmallConfig();
  config.num_kv_blocks = 16;  // 64 tokens
  config.max_model_len = 60;
  Scheduler scheduler(config);
  absl::Status status = scheduler.Add(Spec(1, Tokens(61), 1));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "prompt has 61 tokens; the model allows 60");
  EXPECT_EQ(ErrorCode(status), "context_length_exceeded");
  status = scheduler.Add(Spec(1, Tokens(60), 1));
  EXPECT_EQ(status.message(),
            "prompt has 60 tokens; the model allows 60, at least one more of output included");
  EXPECT_TRUE(scheduler.Add(Spec(1, Tokens(59), 100)).ok());
  config.max_model_len = 128;
  Scheduler small_pool(config);
  EXPECT_EQ(small_pool.Add(Spec(1, Tokens(100), 1)).message(),
            "prompt has 100 tokens; the KV cache holds 64");
  EXPECT_FALSE(small_pool.Add(Spec(1, {}, 1)).ok());
  EXPECT_FALSE(small_pool.Add(Spec(1, Tokens(1), 0)).ok());
  EXPECT_FALSE(small_pool.HasSequences());
}

TEST(Scheduler, OutputEndsAtTheContextLimit) {
  SchedulerConfig config = SmallConfig();
  config.max_model_len = 8;
  Harness h(config);
  ASSERT_TRUE(h.Add(Spec(1, Tokens(6), 100)).ok());
  h.RunToEnd();
  EXPECT_EQ(h.Output(1).size(), 2U);
  EXPECT_EQ(h.Finished(1), FinishReason::kLength);
}

TEST(Scheduler, TheQueueIsBoundedInSequencesAndTokens) {
  SchedulerConfig config = SmallConfig();
  config.max_waiting_sequences = 3;
  config.max_waiting_tokens = 20;
  Scheduler scheduler(config);
  EXPECT_TRUE(scheduler.Add(Spec(1, Tokens(15), 1)).ok());
  absl::Status status = scheduler.Add(Spec(2, Tokens(6), 1));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "15 tokens are waiting and the prompt has 6; the limit is 20");
  EXPECT_TRUE(scheduler.Add(Spec(3, Tokens(1), 1)).ok());
  EXPECT_TRUE(scheduler.Add(Spec(4, Tokens(1), 1)).ok());
  status = scheduler.Add(Spec(5, Tokens(1), 1));
  EXPECT_EQ(status.message(), "3 sequences are waiting; the limit is 3");
  scheduler.Schedule(absl::UnixEpoch());
  EXPECT_EQ(scheduler.stats().num_waiting, 1)
      << "the budget of the step was spent on the first two";
  EXPECT_EQ(scheduler.stats().num_waiting_tokens, 1);
}

}  // namespace
}  // namespace sluice
