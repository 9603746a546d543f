// Sequences that end with a vector in place of tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "scheduler/scheduler.h"
#include "tests/scheduler/harness.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

SequenceSpec Pooled(SequenceId id, std::vector<TokenId> tokens) {
  SequenceSpec spec = Spec(id, std::move(tokens), 0);
  spec.pooled = true;
  return spec;
}

SchedulerConfig EncoderConfig() {
  SchedulerConfig config = SmallConfig();
  config.max_model_len = 16;
  config.num_kv_blocks = 1;
  config.prefix_cache = false;
  config.whole_prompts = true;
  config.keeps_kv = false;
  return config;
}

TEST(PooledSequence, EndsWithItsVectorWhenItsPromptIsComputed) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Pooled(1, Tokens(5))).ok());
  const BatchPlan plan = h.Step();
  EXPECT_EQ(plan.rows[0].output, RowOutput::kPooled);
  EXPECT_EQ(h.Finished(1), FinishReason::kStop);
  ASSERT_EQ(h.updates[1].size(), 1U);
  EXPECT_EQ(h.updates[1][0].pooled, HashedVector(1, 8));
  EXPECT_THAT(h.updates[1][0].tokens, IsEmpty());
  EXPECT_FALSE(h.scheduler().HasSequences());
}

TEST(PooledSequence, OfADecoderIsComputedInChunksAndOnlyTheLastGivesTheVector) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Pooled(1, Tokens(33))).ok());
  EXPECT_EQ(h.Step().rows[0].output, RowOutput::kNone);
  EXPECT_EQ(h.Step().rows[0].output, RowOutput::kNone);
  const BatchPlan plan = h.Step();
  EXPECT_THAT(RowSizes(plan), ElementsAre(1));
  EXPECT_EQ(plan.rows[0].output, RowOutput::kPooled);
  EXPECT_EQ(h.Finished(1), FinishReason::kStop);
}

TEST(PooledSequence, OfADecoderReadsThePrefixCache) {
  Harness h(SmallConfig());
  ASSERT_TRUE(h.Add(Pooled(1, Tokens(9))).ok());
  h.Step();
  ASSERT_TRUE(h.Add(Pooled(2, Tokens(9))).ok());
  EXPECT_THAT(RowSizes(h.Step()), ElementsAre(1));
  EXPECT_EQ(h.updates[2][0].num_cached_tokens, 8);
}

TEST(PooledSequence, MayFillTheWholeContext) {
  SchedulerConfig config = SmallConfig();
  config.max_model_len = 12;
  Harness h(config);
  EXPECT_TRUE(h.Add(Pooled(1, Tokens(12))).ok());
  const absl::Status status = h.Add(Pooled(2, Tokens(13)));
  EXPECT_EQ(status.message(), "prompt has 13 tokens; the model allows 12");
  h.RunToEnd();
  EXPECT_EQ(h.Finished(1), FinishReason::kStop);
}

TEST(WholePrompts, AreNeverCutAndNobodyOvertakesTheFirst) {
  Harness h(EncoderConfig());
  ASSERT_TRUE(h.Add(Pooled(1, Tokens(6))).ok());
  ASSERT_TRUE(h.Add(Pooled(2, Tokens(6))).ok());
  ASSERT_TRUE(h.Add(Pooled(3, Tokens(12))).ok());
  ASSERT_TRUE(h.Add(Pooled(4, Tokens(2))).ok());
  const BatchPlan plan = h.Step();
  EXPECT_THAT(Sequences(plan), ElementsAre(1, 2));
  EXPECT_THAT(plan.blocks, IsEmpty());
  EXPECT_THAT(plan.block_begin, ElementsAre(0, 0, 0));
  EXPECT_THAT(Sequences(h.Step()), ElementsAre(3, 4));
}

TEST(WholePrompts, OfATenantWithLittleAreNotHeldUpByOneWithMuch) {
  Harness h(EncoderConfig());
  for (SequenceId id = 1; id <= 8; ++id) {
    SequenceSpec spec = Pooled(id, Tokens(12));
    spec.tenant = "much";
    ASSERT_TRUE(h.Add(std::move(spec)).ok());
  }
  h.Step();
  SequenceSpec spec = Pooled(9, Tokens(12));
  spec.tenant = "little";
  ASSERT_TRUE(h.Add(std::move(spec)).ok());
  h.Step();
  h.Step();
  EXPECT_EQ(h.Finished(9), FinishReason::kStop);
}

TEST(WholePrompts, OfDecodersHaveTheirBlocksFromTheStart) {
  SchedulerConfig config = EncoderConfig();
  config.keeps_kv = true;
  config.num_kv_blocks = 5;
  Harness h(config);
  ASSERT_TRUE(h.Add(Pooled(1, Tokens(14))).ok());
  ASSERT_TRUE(h.Add(Pooled(2, Tokens(2))).ok());
  const BatchPlan plan = h.Step();
  EXPECT_THAT(plan.block_begin, ElementsAre(0, 4, 5));
  EXPECT_EQ(h.scheduler().stats().num_free_blocks, 5);
}

TEST(PooledSequence, CancelledInFlightGivesNothing) {
  Harness h(EncoderConfig());
  ASSERT_TRUE(h.Add(Pooled(1, Tokens(6))).ok());
  ASSERT_FALSE(h.Plan().empty());
  h.scheduler().Cancel(1);
  h.Apply();
  EXPECT_THAT(h.updates[1], IsEmpty());
  EXPECT_FALSE(h.scheduler().HasSequences());
}

}  // namespace
}  // namespace sluice
