// Decoders as embedding models: what a vector is made of, whatever the chunks and neighbours.
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "executor/model_executor.h"
#include "tests/executor/plan_builder.h"
#include "tests/executor/truncated_model.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 16;
using Vector32 = std::vector<float>;

class PooledDecoder : public ::testing::Test {
 protected:
  PooledDecoder() : model_(OpenTruncatedModel(1)), tokens_(40) {
    for (size_t i = 0; i < tokens_.size(); ++i) tokens_[i] = static_cast<TokenId>(i * 7919 % 5000);
  }

  std::unique_ptr<ModelExecutor> Make(Pooling pooling) {
    ModelExecutorOptions options;
    options.limits = {64, 4, 64, kBlockTokens, 16};
    options.pooling = pooling;
    return MakeExecutor(model_, {.threads = 1}, std::move(options));
  }

  StepResult Run(ModelExecutor& executor, PlanBuilder& builder) {
    BatchPlan plan = builder.Take();
    const StepId step = plan.step;
    EXPECT_TRUE(executor.Submit(std::move(plan)).ok());
    auto result = executor.Wait(step);
    SLUICE_CHECK(result.ok(), "{}", result.status().ToString());
    return *std::move(result);
  }

  // The tokens [begin, end) of a sequence in its slot.
  void AddPart(PlanBuilder& plan, int32_t slot, int32_t begin, int32_t end, bool is_last) {
    const std::vector<TokenId> part(tokens_.begin() + begin, tokens_.begin() + end);
    const Row row{.sequence = static_cast<SequenceId>(slot + 1),
                  .slot = slot,
                  .output = is_last ? RowOutput::kPooled : RowOutput::kNone};
    plan.AddRow(row, part, begin, BlocksFor(slot * 4, end, kBlockTokens));
  }

  Vector32 Whole(ModelExecutor& executor, int32_t length) {
    PlanBuilder plan(++step_);
    AddPart(plan, 0, 0, length, true);
    return Run(executor, plan).rows[0].pooled;
  }

  ModelFile model_;
  std::vector<TokenId> tokens_;
  StepId step_ = 0;
};

TEST_F(PooledDecoder, AMeanIsThatOfTheStatesOfAllPrefixes) {
  constexpr int32_t kLength = 21;
  const auto last = Make(Pooling::kLast);
  std::vector<double> sum;
  for (int32_t length = 1; length <= kLength; ++length) {
    const Vector32 state = Whole(*last, length);
    sum.resize(state.size());
    for (size_t d = 0; d < state.size(); ++d) sum[d] += double{state[d]};
  }
  Vector32 expected;
  for (const double value : sum) expected.push_back(static_cast<float>(value / kLength));
  EXPECT_EQ(Whole(*Make(Pooling::kMean), kLength), expected);
}

TEST_F(PooledDecoder, TheFirstTokensVectorIsItsState) {
  const Vector32 expected = Whole(*Make(Pooling::kLast), 1);
  EXPECT_EQ(Whole(*Make(Pooling::kFirst), 30), expected);
}

TEST_F(PooledDecoder, ChunksNeighboursAndWhatASlotHeldBeforeDoNotShow) {
  for (const Pooling pooling : {Pooling::kMean, Pooling::kFirst, Pooling::kLast}) {
    const auto executor = Make(pooling);
    const Vector32 expected = Whole(*executor, 33);
    const Vector32 shorter = Whole(*executor, 20);
    // Slot 0 in three parts, slot 1 in one beside the second.
    PlanBuilder first(++step_), second(++step_), third(++step_);
    AddPart(first, 0, 0, 5, false);
    (void)Run(*executor, first);
    AddPart(second, 1, 0, 20, true);
    AddPart(second, 0, 5, 32, false);
    EXPECT_EQ(Run(*executor, second).rows[0].pooled, shorter);
    AddPart(third, 0, 32, 33, true);
    EXPECT_EQ(Run(*executor, third).rows[0].pooled, expected);
    // Begun again after it was preempted halfway.
    PlanBuilder lost(++step_);
    AddPart(lost, 0, 0, 9, false);
    (void)Run(*executor, lost);
    EXPECT_EQ(Whole(*executor, 33), expected);
  }
}

}  // namespace
}  // namespace sluice
