// SmolLM2 on the CUDA backend, every kernel run thread by thread: this binary has no CPU kernel.
#include "tests/model/real_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <deque>
#include <iterator>
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

// What may follow a prompt: of transformers in f32 or of the CPU backend, whose word on the same
// prompts is tests/golden's, as this binary has none of its kernels.
struct Continuation {
  const char* whose;
  std::vector<TokenId> output;
  std::vector<float> gaps;
};
struct Case {
  std::vector<TokenId> prompt;
  std::vector<Continuation> wanted;
};
// cpu_greedy.txt's cases, each the beginning of the text that one of greedy.txt's is.
std::vector<Case> Cases() {
  constexpr size_t kTextOf[] = {0, 0, 1, 2};
  const std::vector<GreedyGolden> oracle = ReadGreedyGoldens();
  const std::vector<GreedyGolden> cpu = ReadGreedyGoldens("cpu_greedy.txt");
  EXPECT_EQ(cpu.size(), std::size(kTextOf));
  std::vector<Case> cases;
  for (size_t i = 0; i < cpu.size(); ++i) {
    const GreedyGolden& text = oracle.at(kTextOf[i]);
    const auto skipped = static_cast<std::ptrdiff_t>(cpu[i].prompt.size() - text.prompt.size());
    const auto size = static_cast<std::ptrdiff_t>(cpu[i].output.size());
    std::vector<TokenId> prompt = text.prompt;
    prompt.insert(prompt.end(), text.output.begin(), text.output.begin() + skipped);
    EXPECT_EQ(prompt, cpu[i].prompt);
    const auto part = [&](const auto& all) {
      return std::vector(all.begin() + skipped, all.begin() + skipped + size);
    };
    cases.push_back({prompt,
                     {{"transformers", part(text.output), part(text.gaps)},
                      {"the CPU backend", cpu[i].output, cpu[i].gaps}}});
  }
  return cases;
}
void ExpectContinues(const Case& c, const std::vector<TokenId>& output) {
  for (const Continuation& wanted : c.wanted) {
    ASSERT_EQ(output.size(), wanted.output.size());
    for (size_t i = 0; i < output.size(); ++i) {
      if (output[i] == wanted.output[i]) continue;
      EXPECT_LE(wanted.gaps[i], kMaxGapToDiffer) << "token " << i << " of " << wanted.whose;
      break;  // what follows continues another text
    }
  }
}

void ExpectEveryKernelRan(const simt::Statistics& statistics) {
  for (const char* kernel :
       {"embed", "rms_norm", "linear", "rope_and_store_kv", "attention", "gate_mul", "sample"}) {
    const auto found = statistics.kernels.find(kernel);
    ASSERT_NE(found, statistics.kernels.end()) << kernel;
    EXPECT_GT(found->second.launches, 0U) << kernel;
  }
  EXPECT_GT(statistics.kernels.at("linear").matrix_instructions, 0U);
  EXPECT_GT(statistics.kernels.at("attention").matrix_instructions, 0U);
}
// Of this process on all cores: what a minute of two cores is, whoever else is on them.
void ExpectAMinuteOfTwoCoresAtMost() {
  EXPECT_LT(static_cast<double>(std::clock()) / CLOCKS_PER_SEC, 120);
}

TEST(CudaRealModel, GeneratesTheCpuBackendsTokensWithTwoStepsInFlight) {
  simt::SetDevices({simt::DeviceModel{}});
  auto model = ModelFile::Open(RealModelPath());
  ASSERT_TRUE(model.ok()) << model.status();
  auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  auto executor =
      ModelExecutor::Create(*model, *std::move(ops), {.limits = {64, 4, 64, kBlockTokens, 8}});
  ASSERT_TRUE(executor.ok()) << executor.status();
  const Case golden = Cases().at(0);
  ASSERT_EQ(golden.prompt.size(), static_cast<size_t>(kPrompt));
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
  ASSERT_EQ(output.size(), static_cast<size_t>(kOutput));
  ExpectContinues(golden, output);
  const simt::Statistics statistics = simt::TakeStatistics();
  ExpectEveryKernelRan(statistics);
  EXPECT_GT(statistics.graph_launches, 0U);
  EXPECT_TRUE(simt::TakeFindings().empty());
  ExpectAMinuteOfTwoCoresAtMost();
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
  const std::vector<Case> all = Cases();
  const std::vector<Case> cases = {all.at(1), all.at(2), all.at(3), all.at(1)};
  auto sampling = std::make_shared<SamplingParams>();
  sampling->temperature = 0;
  const auto add = [&](size_t id) {
    SequenceSpec spec;
    spec.id = id + 1;
    spec.sampling = sampling;
    spec.prompt_tokens = cases[id].prompt;
    spec.max_output_tokens = kTokens;
    ASSERT_TRUE(scheduler.Add(std::move(spec)).ok());
  };
  (void)simt::TakeStatistics();
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
    SCOPED_TRACE(id);
    ExpectContinues(cases[id], output[id]);
  }
  EXPECT_EQ(output[3], output[0]);
  ExpectEveryKernelRan(simt::TakeStatistics());
  EXPECT_TRUE(simt::TakeFindings().empty());
  ExpectAMinuteOfTwoCoresAtMost();
}

}  // namespace
}  // namespace sluice
