// SmolLM2 on the CUDA backend, every kernel run thread by thread: this binary has no CPU kernel.
#include "tests/model/real_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "executor/model_executor.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/runtime.h"
#include "model/model_file.h"
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

}  // namespace
}  // namespace sluice
