// Models shared by 2 and by 4 ranks, an emulated device and a thread each: against transformers,
// against one rank, and when a rank fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "executor/model_executor.h"
#include "executor/ranked_executor.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/runtime.h"
#include "model/model_file.h"
#include "model/model_share.h"
#include "tests/executor/plan_builder.h"
#include "tests/model/logit_golden.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using Logits = std::vector<std::vector<float>>;

std::vector<std::unique_ptr<Ops>> MakeRanks(int32_t num_ranks, const CudaOpsOptions& options) {
  auto ranks = CreateCudaRanks(options, num_ranks);
  EXPECT_TRUE(ranks.ok()) << ranks.status();
  return *std::move(ranks);
}

// f(ops) of every rank, all at once, which must agree to the bit.
template <class F>
Logits OnRanks(std::vector<std::unique_ptr<Ops>> ranks, const F& f) {
  std::vector<Logits> results(ranks.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks.size(); ++r) {
    threads.emplace_back([&, r] {
      results[r] = f(*ranks[r]);
      ranks[r].reset();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t r = 1; r < results.size(); ++r) EXPECT_EQ(results[r], results[0]) << "rank " << r;
  for (const simt::Finding& finding : simt::TakeFindings()) ADD_FAILURE() << finding.ToString();
  return results[0];
}

class CudaRanks : public ::testing::TestWithParam<std::tuple<int, const char*>> {
 protected:
  void SetUp() override {
    simt::SetDevices(std::vector<simt::DeviceModel>(4));
    golden_ = OpenGoldenModel(std::get<1>(GetParam()));
  }
  [[nodiscard]] static int32_t num_ranks() { return std::get<0>(GetParam()); }
  Logits InChunks(const CudaOpsOptions& options) {
    return OnRanks(MakeRanks(num_ranks(), options), [&](Ops& ops) {
      EXPECT_TRUE(ops.AllocateSlots(8, golden_.config().vocab_size).ok());  // for graphs
      return LogitsInChunks(golden_, ops);
    });
  }
  GoldenModel golden_;
};

// As one rank: the sums of the ranks' products are of f32.
TEST_P(CudaRanks, GiveTheLogitsOfTransformers) {
  const Logits logits =
      OnRanks(MakeRanks(num_ranks(), {}), [&](Ops& ops) { return LogitsInOneBatch(golden_, ops); });
  const double error = RelativeError(golden_.logits, logits);
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LE(error, 0x1p-6);
}

class CudaRanksBits : public CudaRanks {};
TEST_P(CudaRanksBits, DoNotDependOnChunksOrGraphs) {
  const Logits expected = OnRanks(MakeRanks(num_ranks(), {.deterministic = true}),
                                  [&](Ops& ops) { return LogitsInOneBatch(golden_, ops); });
  EXPECT_EQ(InChunks({.graphs = false, .deterministic = true}), expected);
  EXPECT_EQ(InChunks({.graphs = true, .deterministic = true}), expected);
}

constexpr const char* kFamilies[] = {
    "families/llama",      "families/llama_linear", "families/llama3",       "families/mistral",
    "families/mixtral",    "families/qwen2",        "families/qwen2moe",     "families/qwen3",
    "families/qwen3_yarn", "families/qwen3moe",     "families/gemma",        "families/gemma2",
    "families/gemma3",     "families/phi3",         "families/phi3_longrope"};
std::string NameOf(const ::testing::TestParamInfo<std::tuple<int, const char*>>& info) {
  std::string name = std::get<1>(info.param);
  name = name.substr(name.find('/') + 1);
  return name + "_" + std::to_string(std::get<0>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Golden, CudaRanks,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::ValuesIn(kFamilies)),
                         NameOf);

INSTANTIATE_TEST_SUITE_P(
    Golden, CudaRanksBits,
    ::testing::Values(std::tuple(2, "families/llama"), std::tuple(2, "families/qwen2moe"),
                      std::tuple(2, "families/phi3"), std::tuple(2, "families/gemma3"),
                      std::tuple(4, "families/qwen2"), std::tuple(4, "families/mixtral")),
    NameOf);

// Weights that their file holds in a form of its own are made and then cut.
class CudaRanksOfMadeWeights : public CudaRanks {};
TEST_P(CudaRanksOfMadeWeights, GiveTheLogitsOfOneRank) {
  const auto in_batch = [&](Ops& ops) { return LogitsInOneBatch(golden_, ops); };
  const double of_one = RelativeError(golden_.logits, OnRanks(MakeRanks(1, {}), in_batch));
  EXPECT_LE(RelativeError(golden_.logits, OnRanks(MakeRanks(num_ranks(), {}), in_batch)),
            of_one + 0x1p-7);
}
INSTANTIATE_TEST_SUITE_P(Golden, CudaRanksOfMadeWeights,
                         ::testing::Combine(::testing::Values(2, 4),
                                            ::testing::Values("quantised/fp8_blocks",
                                                              "quantised/fp8_tensor")),
                         NameOf);

TEST(CudaRanksOrder, BitsAreTheSameUnderEveryOrderOfDevicesAndStreams) {
  const GoldenModel golden = OpenGoldenModel("families/llama");
  const auto logits = [&](uint64_t seed) {
    simt::SetDevices(std::vector<simt::DeviceModel>(2));
    simt::SetSeed(seed);
    return OnRanks(MakeRanks(2, {}), [&](Ops& ops) {
      EXPECT_TRUE(ops.AllocateSlots(8, golden.config().vocab_size).ok());
      return LogitsInChunks(golden, ops);
    });
  };
  const Logits expected = logits(0);
  for (uint64_t seed = 1; seed <= 4; ++seed) EXPECT_EQ(logits(seed), expected) << "seed " << seed;
  simt::SetSeed(0);
}

// A model of whose sequence the executors take one step after the other, two in flight.
class RankedExecution : public ::testing::Test {
 protected:
  static constexpr int32_t kBlockTokens = 16, kPrompt = 20, kOutput = 12;

  void SetUp() override {
    simt::SetDevices(std::vector<simt::DeviceModel>(4));
    golden_ = OpenGoldenModel("families/llama");
    model_.config = golden_.config();
    model_.weights = golden_.views;
  }
  void TearDown() override { simt::SetStallTimeout(absl::Seconds(20)); }

  std::unique_ptr<Executor> MakeExecutor(int32_t num_ranks) {
    auto ranks = MakeRanks(num_ranks, {});
    auto made = RankedExecutor::Create(
        num_ranks, [&](int32_t rank) -> absl::StatusOr<std::unique_ptr<Executor>> {
          return ModelExecutor::Create(model_, std::move(ranks[static_cast<size_t>(rank)]),
                                       {.limits = {64, 4, 64, kBlockTokens, 8}});
        });
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }
  void Submit(Executor& executor, StepId step) {
    const Row row{.output = RowOutput::kSample,
                  .num_output_tokens = static_cast<int32_t>(step) - 1};
    PlanBuilder plan(step);
    std::vector<TokenId> tokens = {kTokenFromSlot};
    if (step == 1) {
      plan.InitGreedySlot(0);
      tokens.assign(golden_.logits.tokens.begin(), golden_.logits.tokens.begin() + kPrompt);
    }
    const int32_t cached = step == 1 ? 0 : kPrompt + static_cast<int32_t>(step) - 2;
    plan.AddRow(row, tokens, cached,
                BlocksFor(0, cached + static_cast<int32_t>(tokens.size()), kBlockTokens));
    ASSERT_TRUE(executor.Submit(plan.Take()).ok());
  }
  std::vector<TokenId> Greedy(Executor& executor) {
    std::vector<TokenId> output;
    Submit(executor, 1);
    for (StepId step = 1; step <= kOutput; ++step) {
      if (step < kOutput) Submit(executor, step + 1);
      const auto result = executor.Wait(step);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok()) break;
      output.push_back(result->rows[0].tokens[0].token);
    }
    return output;
  }

  GoldenModel golden_;
  ModelFile model_;
};

TEST_F(RankedExecution, SamplesTheTokensOfOneRankWithTwoStepsInFlight) {
  const std::vector<TokenId> expected = Greedy(*MakeExecutor(1));
  ASSERT_EQ(expected.size(), size_t{kOutput});
  for (const int32_t num_ranks : {2, 4}) {
    const auto executor = MakeExecutor(num_ranks);
    EXPECT_EQ(executor->max_steps_in_flight(), 2);
    (void)simt::TakeStatistics();
    EXPECT_EQ(Greedy(*executor), expected) << num_ranks << " ranks";
    // Single tokens are replayed, exchanges included.
    const simt::Statistics statistics = simt::TakeStatistics();
    EXPECT_GE(statistics.graph_launches, static_cast<uint64_t>(num_ranks) * (kOutput - 3));
    EXPECT_LT(statistics.calls.at("ncclAllReduce"),
              statistics.kernels.at("ncclAllReduce").launches);
  }
}

// Nobody waits for its part of the exchanges: the emulated runtime would for a minute.
TEST_F(RankedExecution, ARanksFailureIsEveryRanksAndNothingHangs) {
  simt::SetStallTimeout(absl::Seconds(60));
  for (const uint64_t skip : {0, 1, 2, 5}) {
    simt::SetDevices(std::vector<simt::DeviceModel>(4));
    const auto executor = MakeExecutor(4);
    const absl::Time begin = absl::Now();
    simt::InjectFault({.at = "attention", .error = cudaErrorECCUncorrectable, .skip = skip});
    Submit(*executor, 1);
    Submit(*executor, 2);
    absl::StatusOr<StepResult> result = executor->Wait(1);
    if (result.ok()) result = executor->Wait(2);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(result.status().message()),
                ::testing::AllOf(HasSubstr("rank "), HasSubstr("cudaErrorECCUncorrectable")));
    EXPECT_EQ(executor->Wait(3).status(), result.status());
    EXPECT_LT(absl::Now() - begin, absl::Seconds(30));
  }
}

TEST_F(RankedExecution, ARankThatCannotEnqueueFailsTheOthers) {
  simt::SetStallTimeout(absl::Seconds(60));
  for (const uint64_t skip : {0, 3}) {
    simt::SetDevices(std::vector<simt::DeviceModel>(4));
    const auto executor = MakeExecutor(2);
    simt::InjectFault({.at = "ncclAllReduce", .error = cudaErrorInvalidValue, .skip = skip});
    Submit(*executor, 1);
    const absl::Time begin = absl::Now();
    EXPECT_THAT(std::string(executor->Wait(1).status().message()),
                HasSubstr("a sum of NCCL failed: a call of CUDA failed"));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(30));
  }
}

TEST_F(RankedExecution, ARankThatCannotLoadIsTheError) {
  simt::SetDevices({{}, {}});
  simt::InjectFault({.at = "cudaMalloc", .error = cudaErrorMemoryAllocation, .skip = 20});
  auto ranks = MakeRanks(2, {});
  const auto made =
      RankedExecutor::Create(2, [&](int32_t rank) -> absl::StatusOr<std::unique_ptr<Executor>> {
        return ModelExecutor::Create(model_, std::move(ranks[static_cast<size_t>(rank)]),
                                     {.limits = {64, 4, 64, kBlockTokens, 8}});
      });
  EXPECT_EQ(made.status().code(), absl::StatusCode::kResourceExhausted) << made.status();
}

TEST(CudaRankDevices, MustBeThereAndAlike) {
  simt::SetDevices(std::vector<simt::DeviceModel>(2));
  EXPECT_EQ(CreateCudaRanks({.device = 1}, 2).status().message(),
            "2 ranks need the devices 1 to 2; 2 is not usable, of 2 that are");
  simt::SetDevices({{.name = "A"}, {.name = "A", .multiprocessors = 8}});
  EXPECT_EQ(
      CreateCudaRanks({}, 2).status().message(),
      "device 0 is A with 16 multiprocessors, device 1 is A with 8; the ranks of a model need "
      "equal ones");
}

TEST(ModelShares, AreRefusedWhereTheyWouldNotBeWhole) {
  const GoldenModel llama = OpenGoldenModel("families/llama");
  EXPECT_EQ(CheckRanks(llama.config(), llama.views, 3).message(),
            "the model has 4 query heads and 1 KV heads; 3 ranks cannot share them evenly");
  const GoldenModel blocks = OpenGoldenModel("quantised/gptq4");
  EXPECT_EQ(
      CheckRanks(blocks.config(), blocks.views, 2).message(),
      "down of layer 0 has 96 columns in Q4_0 blocks of 32; 2 ranks cannot share them evenly");
  const GoldenModel experts = OpenGoldenModel("families/mixtral");
  EXPECT_TRUE(CheckRanks(experts.config(), experts.views, 4).ok());
  ModelConfig small = llama.config();
  small.vocab_size = 48;
  EXPECT_EQ(CheckRanks(small, llama.views, 4).message(),
            "a vocabulary of 48 tokens is too small for 4 ranks");
}

TEST(ModelShares, CoverAVocabularyThatDoesNotDivide) {
  EXPECT_EQ(ColumnsOfRank(100, 1), 100);
  EXPECT_EQ(ColumnsOfRank(100, 2), 64);
  EXPECT_EQ(ColumnsOfRank(128, 4), 32);
  EXPECT_EQ(ColumnsOfRank(129, 4), 48);
  const GoldenModel llama = OpenGoldenModel("families/llama");
  int64_t rows = 0;
  for (int32_t rank = 0; rank < 4; ++rank) {
    rows += VocabOfRank(llama.views.token_embd, 250, rank, 4).rows;
  }
  EXPECT_EQ(rows, 250);
}

}  // namespace
}  // namespace sluice
