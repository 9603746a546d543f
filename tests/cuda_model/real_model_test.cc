// SmolLM2 on the CUDA backend, every kernel run thread by thread: this binary has no CPU kernel.
#include "tests/model/real_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "executor/model_executor.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/runtime.h"
#include "model/model_file.h"
#include "scheduler/scheduler.h"
#include "tests/executor/plan_builder.h"
#include "tests/golden/golden_files.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 16, kPrompt = 16, kOutput = 8;
// As in tests/golden: three standard deviations of the difference of two logits, each of which
// rounding moves by 0.12 at most.
constexpr double kMaxGapToDiffer = 3 * 1.4142 * 0.12;

// The oracle's tokens and how far its best logit was ahead, from position kPrompt on.
struct Continuation {
  std::vector<TokenId> prompt, output;
  std::vector<double> gap;
};
Continuation FirstGolden() {
  const GreedyGolden golden = ReadGreedyGoldens().at(0);
  std::vector<TokenId> all = golden.prompt;
  all.insert(all.end(), golden.output.begin(), golden.output.end());
  Continuation c;
  c.prompt.assign(all.begin(), all.begin() + kPrompt);
  c.output.assign(all.begin() + kPrompt, all.begin() + kPrompt + kOutput);
  const auto first =
      golden.gaps.begin() + static_cast<std::ptrdiff_t>(kPrompt - golden.prompt.size());
  c.gap.assign(first, first + kOutput);
  return c;
}

TEST(CudaRealModel, GeneratesTheTokensOfTransformersWithTwoStepsInFlight) {
  simt::SetDevices({simt::DeviceModel{}});
  auto model = ModelFile::Open(RealModelPath());
  ASSERT_TRUE(model.ok()) << model.status();
  auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  auto executor =
      ModelExecutor::Create(*model, *std::move(ops), {.limits = {64, 4, 64, kBlockTokens, 8}});
  ASSERT_TRUE(executor.ok()) << executor.status();
  const Continuation golden = FirstGolden();
  const auto submit = [&](StepId step) {
    PlanBuilder plan(step);
    const Row row{.slot = 0,
                  .output = RowOutput::kSample,
                  .num_output_tokens = static_cast<int32_t>(step) - 1};
    const int32_t cached = step == 1 ? 0 : kPrompt + static_cast<int32_t>(step) - 2;
    if (step == 1) plan.InitGreedySlot(0);
    const std::vector<TokenId> tokens =
        step == 1 ? golden.prompt : std::vector<TokenId>{kTokenFromSlot};
    const auto length = cached + static_cast<int32_t>(tokens.size());
    plan.AddRow(row, tokens, cached, BlocksFor(0, length, kBlockTokens));
    ASSERT_TRUE((*executor)->Submit(plan.Take()).ok());
  };
  (void)simt::TakeStatistics();
  submit(1);
  std::vector<TokenId> output;
  for (StepId step = 1; step <= kOutput; ++step) {
    if (step < kOutput) submit(step + 1);
    const auto result = (*executor)->Wait(step);
    ASSERT_TRUE(result.ok()) << result.status();
    output.push_back(result->rows[0].tokens[0].token);
  }
  for (size_t i = 0; i < kOutput; ++i) {
    if (output[i] == golden.output[i]) continue;
    EXPECT_LE(golden.gap[i], kMaxGapToDiffer) << "token " << i;
    break;  // what follows continues another text
  }
  const simt::Statistics statistics = simt::TakeStatistics();
  for (const char* kernel :
       {"embed", "rms_norm", "linear", "rope_and_store_kv", "attention", "gate_mul", "sample"}) {
    const auto found = statistics.kernels.find(kernel);
    ASSERT_NE(found, statistics.kernels.end()) << kernel;
    EXPECT_GT(found->second.launches, 0U) << kernel;
  }
  EXPECT_GT(statistics.kernels.at("linear").matrix_instructions, 0U);
  EXPECT_GT(statistics.kernels.at("attention").matrix_instructions, 0U);
  EXPECT_GT(statistics.graph_launches, 0U);
  EXPECT_TRUE(simt::TakeFindings().empty());
}

// Four sequences through the scheduler: chunks and single tokens in one step, the fourth finds the
// first's beginning in the prefix cache, and the pool is too small for all of them.
TEST(CudaRealModel, RaggedRowsWithAPrefixHitAndAPreemptionGiveTheirTokens) {
  constexpr int32_t kMaxLen = 64, kNumBlocks = 7, kStepTokens = 64, kTokens = 4;
  simt::SetDevices({simt::DeviceModel{}});
  auto model = ModelFile::Open(RealModelPath());
  ASSERT_TRUE(model.ok()) << model.status();
  auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  auto executor = ModelExecutor::Create(
      *model, *std::move(ops), {.limits = {kStepTokens, 4, kMaxLen, kBlockTokens, kNumBlocks}});
  ASSERT_TRUE(executor.ok()) << executor.status();
  Scheduler scheduler({.max_rows = 4,
                       .max_step_tokens = kStepTokens,
                       .kv_block_tokens = kBlockTokens,
                       .num_kv_blocks = kNumBlocks,
                       .max_model_len = kMaxLen,
                       .max_steps_in_flight = (*executor)->max_steps_in_flight()});
  const std::vector<GreedyGolden> goldens = ReadGreedyGoldens();
  std::vector<std::vector<TokenId>> texts;
  std::vector<size_t> sizes = {30, 18, 31, 30};
  for (const size_t golden : {0, 1, 2, 0}) {
    std::vector<TokenId>& text = texts.emplace_back(goldens.at(golden).prompt);
    text.insert(text.end(), goldens[golden].output.begin(), goldens[golden].output.end());
  }
  auto sampling = std::make_shared<SamplingParams>();
  sampling->temperature = 0;
  const auto add = [&](size_t id) {
    SequenceSpec spec;
    spec.id = id + 1;
    spec.sampling = sampling;
    spec.prompt_tokens.assign(texts[id].begin(),
                              texts[id].begin() + static_cast<std::ptrdiff_t>(sizes[id]));
    spec.max_output_tokens = kTokens;
    ASSERT_TRUE(scheduler.Add(std::move(spec)).ok());
  };
  for (const size_t id : {0, 1, 2}) add(id);
  std::vector<std::vector<TokenId>> output(4);
  int32_t cached = 0;
  std::deque<StepId> in_flight;
  bool added = false;
  while (scheduler.HasSequences()) {
    while (static_cast<int>(in_flight.size()) < (*executor)->max_steps_in_flight()) {
      ScheduleResult scheduled = scheduler.Schedule(absl::UnixEpoch());
      if (scheduled.plan.empty()) break;
      in_flight.push_back(scheduled.plan.step);
      ASSERT_TRUE((*executor)->Submit(std::move(scheduled.plan)).ok());
    }
    ASSERT_FALSE(in_flight.empty());
    auto result = (*executor)->Wait(in_flight.front());
    ASSERT_TRUE(result.ok()) << result.status();
    in_flight.pop_front();
    for (const SequenceUpdate& update : scheduler.Apply(*std::move(result))) {
      for (const SampledToken& token : update.tokens)
        output[update.sequence - 1].push_back(token.token);
      if (update.sequence == 4) cached = std::max(cached, update.num_cached_tokens);
    }
    scheduler.CheckInvariants();
    if (!added && !output[0].empty()) add(3), added = true;
  }
  EXPECT_EQ(cached, kBlockTokens);
  EXPECT_GT(scheduler.stats().num_preemptions, 0);
  for (size_t id = 0; id < 4; ++id) {
    ASSERT_EQ(output[id].size(), static_cast<size_t>(kTokens)) << id;
    const GreedyGolden& golden = goldens[id == 3 ? 0 : id];
    for (size_t i = 0; i < kTokens; ++i) {
      if (output[id][i] == texts[id][sizes[id] + i]) continue;
      EXPECT_LE(golden.gaps[sizes[id] + i - golden.prompt.size()], kMaxGapToDiffer)
          << "sequence " << id << ", token " << i;
      break;
    }
  }
  EXPECT_EQ(output[3], output[0]);
  EXPECT_TRUE(simt::TakeFindings().empty());
}

}  // namespace
}  // namespace sluice
