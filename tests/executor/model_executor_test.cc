#include "executor/model_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "tests/executor/plan_builder.h"
#include "tests/executor/truncated_model.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 16;

class ModelExecutorTest : public ::testing::Test {
 protected:
  ModelExecutorTest() : model_(OpenTruncatedModel(1)) {}

  std::unique_ptr<ModelExecutor> Make(std::function<void(const BatchPlan&, Tensor)> tap = nullptr) {
    ModelExecutorOptions options;
    options.limits = {64, 4, 64, kBlockTokens, 16};
    options.logits_tap = std::move(tap);
    return MakeExecutor(model_, {.threads = 1}, std::move(options));
  }

  static StepResult Run(ModelExecutor& executor, BatchPlan plan) {
    const StepId step = plan.step;
    EXPECT_TRUE(executor.Submit(std::move(plan)).ok());
    auto result = executor.Wait(step);
    SLUICE_CHECK(result.ok(), "{}", result.status().ToString());
    return *std::move(result);
  }

  static SlotInit Slot(int32_t slot, SamplingParams params) {
    return {.slot = slot, .sampling = std::make_shared<SamplingParams>(std::move(params))};
  }

  ModelFile model_;
};

Row Sampling(SequenceId sequence, int32_t slot, int32_t num_output_tokens = 0) {
  return {.sequence = sequence,
          .slot = slot,
          .output = RowOutput::kSample,
          .num_output_tokens = num_output_tokens};
}

TEST_F(ModelExecutorTest, ResultsStandInThePlansOrder) {
  const auto executor = Make();
  const StepResult result = Run(*executor, PlanBuilder(1)
                                               .InitGreedySlot(0)
                                               .InitGreedySlot(1)
                                               .InitGreedySlot(2)
                                               .AddRow(Sampling(30, 2), {1, 2, 3}, 0, {0})
                                               .AddRow({.sequence = 10, .slot = 0}, {4, 5}, 0, {1})
                                               .AddRow(Sampling(20, 1), {6}, 0, {2})
                                               .Take());
  EXPECT_EQ(result.step, 1U);
  ASSERT_EQ(result.rows.size(), 3U);
  EXPECT_EQ(result.rows[0].sequence, 30U);
  EXPECT_EQ(result.rows[1].sequence, 10U);
  EXPECT_EQ(result.rows[2].sequence, 20U);
  EXPECT_EQ(result.rows[0].tokens.size(), 1U);
  EXPECT_TRUE(result.rows[1].tokens.empty());
  EXPECT_EQ(result.rows[2].tokens.size(), 1U);
  EXPECT_GT(result.device_time, absl::ZeroDuration());
}

TEST_F(ModelExecutorTest, AStepWithoutOutputsComputesKeysAndValues) {
  const auto executor = Make();
  (void)Run(*executor, PlanBuilder(1)
                           .InitGreedySlot(0)
                           .AddRow({.sequence = 1, .slot = 0}, {7, 8, 9}, 0, {3})
                           .Take());
  const StepResult in_two =
      Run(*executor, PlanBuilder(2).AddRow(Sampling(1, 0), {10}, 3, {3}).Take());
  const StepResult in_one =
      Run(*executor,
          PlanBuilder(3).InitGreedySlot(1).AddRow(Sampling(2, 1), {7, 8, 9, 10}, 0, {5}).Take());
  EXPECT_EQ(in_two.rows[0].tokens[0].token, in_one.rows[0].tokens[0].token);
}

TEST_F(ModelExecutorTest, TheTokenFromTheSlotIsTheOneSampledLast) {
  std::vector<std::vector<float>> logits;
  const auto executor =
      Make([&](const BatchPlan&, Tensor l) { logits.emplace_back(l.row(0), l.row(0) + l.cols); });
  const StepResult first = Run(
      *executor, PlanBuilder(1).InitGreedySlot(2).AddRow(Sampling(1, 2), {11, 12}, 0, {0}).Take());
  (void)Run(*executor, PlanBuilder(2).AddRow(Sampling(1, 2, 1), {kTokenFromSlot}, 2, {0}).Take());
  (void)Run(
      *executor,
      PlanBuilder(3).AddRow(Sampling(1, 2, 1), {first.rows[0].tokens[0].token}, 2, {0}).Take());
  ASSERT_EQ(logits.size(), 3U);
  EXPECT_NE(logits[0], logits[1]);
  EXPECT_EQ(logits[1], logits[2]);
}

TEST_F(ModelExecutorTest, LogprobsAreTheLogSoftmaxOfTheLogits) {
  std::vector<float> logits;
  const auto executor =
      Make([&](const BatchPlan&, Tensor l) { logits.assign(l.row(0), l.row(0) + l.cols); });
  BatchPlan plan = PlanBuilder(1).AddRow(Sampling(1, 0), {11, 12, 13}, 0, {0}).Take();
  plan.slot_inits.push_back(Slot(0, {.temperature = 0, .num_logprobs = 3}));
  const StepResult result = Run(*executor, std::move(plan));
  const SampledToken& token = result.rows[0].tokens[0];
  double sum = 0;
  const double max = *std::max_element(logits.begin(), logits.end());
  for (const float logit : logits) sum += std::exp(logit - max);
  const auto logprob = [&](TokenId id) { return logits[id] - max - std::log(sum); };
  ASSERT_EQ(token.top.size(), 3U);
  EXPECT_EQ(token.token, token.top[0].first);
  EXPECT_EQ(token.logprob, token.top[0].second);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(token.top[i].second, logprob(token.top[i].first), 1e-4);
    if (i > 0) {
      EXPECT_GE(token.top[i - 1].second, token.top[i].second);
    }
  }
}

TEST_F(ModelExecutorTest, WatchingTheLogitsDoesNotChangeWhatIsSampled) {
  const SamplingParams params = {
      .temperature = 1.5F, .top_p = 0.95F, .presence_penalty = 0.5F, .seed = 77};
  const auto sample = [&](ModelExecutor& executor) {
    std::vector<TokenId> tokens;
    BatchPlan plan = PlanBuilder(1).AddRow(Sampling(1, 0), {11, 12, 13}, 0, {0}).Take();
    plan.slot_inits.push_back(Slot(0, params));
    tokens.push_back(Run(executor, std::move(plan)).rows[0].tokens[0].token);
    for (int32_t i = 1; i < 8; ++i) {
      BatchPlan next =
          PlanBuilder(1 + i).AddRow(Sampling(1, 0, i), {kTokenFromSlot}, 2 + i, {0}).Take();
      tokens.push_back(Run(executor, std::move(next)).rows[0].tokens[0].token);
    }
    return tokens;
  };
  int32_t num_seen = 0;
  EXPECT_EQ(sample(*Make()), sample(*Make([&](const BatchPlan&, Tensor) { ++num_seen; })));
  EXPECT_EQ(num_seen, 8);
}

TEST_F(ModelExecutorTest, APlanThatBreaksItsContractEndsTheProcess) {
  const auto executor = Make();
  const auto submit = [&](BatchPlan plan) { (void)executor->Submit(std::move(plan)); };
  EXPECT_DEATH(submit(PlanBuilder(1).AddRow(Sampling(1, 0), {1}, 0, {16}).Take()), "block 16");
  EXPECT_DEATH(submit(PlanBuilder(1).AddRow(Sampling(1, 4), {1}, 0, {0}).Take()), "slot 4");
  EXPECT_DEATH(submit(PlanBuilder(1).AddRow(Sampling(1, 0), {1}, 16, {0}).Take()),
               "1 blocks for 17 tokens");
  EXPECT_DEATH(submit(PlanBuilder(1).AddRow(Sampling(1, 0), {1}, 64, {0, 1, 2, 3, 4}).Take()),
               "1 new of 65 tokens");
  EXPECT_DEATH(
      submit(PlanBuilder(1).AddRow(Sampling(1, 0), std::vector<TokenId>(65, 1), 0, {0}).Take()),
      "65 tokens");
}

}  // namespace
}  // namespace sluice
