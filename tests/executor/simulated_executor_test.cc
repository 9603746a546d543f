// The simulated executor must notice wrong plans: the scheduler's tests lean on it.
#include "executor/simulated_executor.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/virtual_clock.h"

namespace sluice {
namespace {

SimulatedExecutorConfig Config() {
  SimulatedExecutorConfig config;
  config.max_rows = 2;
  config.kv_block_tokens = 4;
  config.num_kv_blocks = 4;
  return config;
}

// One row of sequence 1 in slot 0: `tokens` from position `first` on, over `blocks`.
BatchPlan Plan(StepId step, std::vector<TokenId> tokens, int32_t first, std::vector<BlockId> blocks,
               bool init = false) {
  BatchPlan plan;
  plan.step = step;
  for (size_t i = 0; i < tokens.size(); ++i)
    plan.positions.push_back(first + static_cast<int32_t>(i));
  plan.tokens = std::move(tokens);
  plan.row_begin = {0, plan.num_tokens()};
  plan.context_len = {first + plan.num_tokens()};
  plan.block_begin = {0, static_cast<int32_t>(blocks.size())};
  plan.blocks = std::move(blocks);
  plan.rows = {{1, 0, RowOutput::kSample, 0}};
  if (init) plan.slot_inits = {{0, std::make_shared<SamplingParams>(), 0, {}, {}}};
  return plan;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(SimulatedExecutor, SamplesScriptedTokensAndReportsVirtualTime) {
  SimulatedExecutorConfig config = Config();
  config.output_token = [](SequenceId id, int32_t index) {
    return static_cast<TokenId>(id * 10 + index);
  };
  SimulatedExecutor executor(config);
  ASSERT_TRUE(executor.Submit(Plan(1, {5, 6}, 0, {2}, true)).ok());
  const auto result = executor.Wait(1);
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->rows.size(), 1U);
  EXPECT_EQ(result->rows[0].tokens.at(0).token, 10);
  EXPECT_EQ(result->device_time, absl::Microseconds(1020));
}

TEST(SimulatedExecutor, TakesTheTokenOfTheSlot) {
  SimulatedExecutor executor(Config());
  ASSERT_TRUE(executor.Submit(Plan(1, {5}, 0, {0}, true)).ok());
  EXPECT_TRUE(executor.Submit(Plan(2, {kTokenFromSlot}, 1, {0})).ok());
  EXPECT_EQ(executor.Submit(Plan(3, {kTokenFromSlot}, 2, {0})).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(SimulatedExecutor, RefusesATokenOfASlotThatSampledNone) {
  SimulatedExecutor executor(Config());
  EXPECT_EQ(Message(executor.Submit(Plan(1, {kTokenFromSlot}, 0, {0}, true))),
            "step 1: sequence 1 has sampled no token yet");
}

TEST(SimulatedExecutor, RefusesASlotThatWasNeverSetUp) {
  SimulatedExecutor executor(Config());
  EXPECT_EQ(Message(executor.Submit(Plan(1, {5}, 0, {0}))),
            "step 1: slot 0 of sequence 1 was never set up");
}

TEST(SimulatedExecutor, RefusesGapsInPositions) {
  SimulatedExecutor executor(Config());
  ASSERT_TRUE(executor.Submit(Plan(1, {5}, 0, {0}, true)).ok());
  EXPECT_EQ(Message(executor.Submit(Plan(2, {6}, 2, {0}))),
            "step 2: sequence 1 goes on at 2 instead of 1");
}

TEST(SimulatedExecutor, RefusesABlockTableOfTheWrongLength) {
  SimulatedExecutor executor(Config());
  EXPECT_EQ(Message(executor.Submit(Plan(1, {1, 2, 3, 4, 5}, 0, {0}, true))),
            "step 1: row 0 has 1 blocks for 5 tokens");
}

TEST(SimulatedExecutor, RefusesToReadBlocksNobodyWrote) {
  SimulatedExecutor executor(Config());
  EXPECT_EQ(Message(executor.Submit(Plan(1, {5}, 4, {3, 0}, true))),
            "step 1: sequence 1 reads 4 tokens of block 3 with 0");
}

TEST(SimulatedExecutor, RefusesBlocksThatHoldOtherTokensThanTheSequences) {
  const std::map<SequenceId, std::vector<TokenId>> tokens = {{1, {1, 2, 3, 4, 9}},
                                                             {2, {1, 2, 3, 5, 9}}};
  SimulatedExecutorConfig config = Config();
  config.expected_tokens = [&tokens](SequenceId id) {
    return std::span<const TokenId>(tokens.at(id));
  };
  SimulatedExecutor executor(config);
  ASSERT_TRUE(executor.Submit(Plan(1, {1, 2, 3, 4}, 0, {0}, true)).ok());
  ASSERT_TRUE(executor.Wait(1).ok());
  BatchPlan plan = Plan(2, {9}, 4, {0, 1}, true);
  plan.rows[0].sequence = 2;  // shares block 0, which is not its own prefix
  EXPECT_EQ(Message(executor.Submit(std::move(plan))),
            "step 2: block 0 does not hold tokens [0, 4) of sequence 2");
}

TEST(SimulatedExecutor, RefusesToReuseABlockThatAStepInFlightNames) {
  SimulatedExecutor executor(Config());
  ASSERT_TRUE(executor.Submit(Plan(1, {5}, 0, {0}, true)).ok());
  BatchPlan plan = Plan(2, {6}, 0, {0}, true);
  plan.rows[0].sequence = 2;
  EXPECT_EQ(Message(executor.Submit(std::move(plan))),
            "step 2: sequence 2 writes block 0 that step 1 in flight names for sequence 1");
}

TEST(SimulatedExecutor, FailsAtTheConfiguredStepAndStaysUnusable) {
  SimulatedExecutorConfig config = Config();
  config.fail_at_step = 2;
  SimulatedExecutor executor(config);
  ASSERT_TRUE(executor.Submit(Plan(1, {5}, 0, {0}, true)).ok());
  ASSERT_TRUE(executor.Submit(Plan(2, {6}, 1, {0})).ok());
  EXPECT_TRUE(executor.Wait(1).ok());
  EXPECT_EQ(executor.Wait(2).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(executor.Submit(Plan(3, {7}, 2, {0})).code(), absl::StatusCode::kFailedPrecondition);
}

// A step of 1 ms and 10 us a token, on a clock that Wait moves.
class SimulatedDevice : public ::testing::Test {
 protected:
  SimulatedDevice() {
    config_ = Config();
    config_.clock = &clock_;
    config_.wait_until = [this](absl::Time end) { clock_.AdvanceTo(end); };
  }
  [[nodiscard]] absl::Duration elapsed() const { return clock_.Now() - absl::UnixEpoch(); }

  VirtualClock clock_;
  SimulatedExecutorConfig config_;
};

TEST_F(SimulatedDevice, StepsFollowEachOther) {
  SimulatedExecutor executor(config_);
  ASSERT_TRUE(executor.Submit(Plan(1, {5}, 0, {0}, true)).ok());
  ASSERT_TRUE(executor.Submit(Plan(2, {kTokenFromSlot}, 1, {0})).ok());
  EXPECT_EQ(elapsed(), absl::ZeroDuration());
  ASSERT_TRUE(executor.Wait(1).ok());
  EXPECT_EQ(elapsed(), absl::Microseconds(1010));
  const auto second = executor.Wait(2);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(elapsed(), absl::Microseconds(2020));
  EXPECT_EQ(second->idle_before, absl::ZeroDuration());
}

TEST_F(SimulatedDevice, CountsTheTimeItWaitsForAStepWithAKnownRow) {
  SimulatedExecutor executor(config_);
  ASSERT_TRUE(executor.Submit(Plan(1, {5}, 0, {0}, true)).ok());
  ASSERT_TRUE(executor.Wait(1).ok());
  clock_.AdvanceTo(clock_.Now() + absl::Microseconds(300));
  ASSERT_TRUE(executor.Submit(Plan(2, {kTokenFromSlot}, 1, {0})).ok());
  const auto second = executor.Wait(2);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->idle_before, absl::Microseconds(300));
  EXPECT_EQ(elapsed(), absl::Microseconds(2320));
}

TEST_F(SimulatedDevice, DoesNotCountTheTimeBeforeNewWorkCame) {
  SimulatedExecutor executor(config_);
  ASSERT_TRUE(executor.Submit(Plan(1, {5}, 0, {0}, true)).ok());
  ASSERT_TRUE(executor.Wait(1).ok());
  clock_.AdvanceTo(clock_.Now() + absl::Seconds(5));
  BatchPlan plan = Plan(2, {6}, 0, {1}, true);
  plan.rows[0].sequence = 2;
  ASSERT_TRUE(executor.Submit(std::move(plan)).ok());
  const auto second = executor.Wait(2);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->idle_before, absl::ZeroDuration());
}

TEST(SimulatedExecutor, SaysTheScriptFromSeedAndChoiceOn) {
  SimulatedExecutorConfig config = Config();
  config.script = {10, 11, 12, 13, 14};
  SimulatedExecutor executor(config);
  BatchPlan plan = Plan(1, {5}, 0, {0}, true);
  auto sampling = std::make_shared<SamplingParams>();
  sampling->seed = ~uint64_t{0};  // 0 mod 5
  plan.slot_inits[0] = {0, sampling, 3, {}, {}};
  std::vector<TokenId> said;
  for (StepId step = 1; step <= 4; ++step) {
    ASSERT_TRUE(executor.Submit(std::move(plan)).ok());
    const auto result = executor.Wait(step);
    ASSERT_TRUE(result.ok());
    said.push_back(result->rows[0].tokens.at(0).token);
    plan = Plan(step + 1, {kTokenFromSlot}, static_cast<int32_t>(step), {0});
    if (step == 4) break;
    plan.rows[0].num_output_tokens = static_cast<int32_t>(step);
  }
  EXPECT_EQ(said, (std::vector<TokenId>{13, 14, 10, 11}));
}

TEST(SimulatedExecutor, BelievesPlansWhereItDoesNotCheck) {
  SimulatedExecutorConfig config = Config();
  config.check_plans = false;
  SimulatedExecutor executor(config);
  EXPECT_TRUE(executor.Submit(Plan(1, {5}, 3, {0}, true)).ok());
}

}  // namespace
}  // namespace sluice
