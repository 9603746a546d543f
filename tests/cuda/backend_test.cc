// What the CUDA backend says of devices, memory and errors, on emulated devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/runtime.h"
#include "tests/model/logit_golden.h"
#include "tests/model/run_step.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;

TEST(CudaDevices, AreThoseWithTensorCoresForF16) {
  simt::SetDevices({{.name = "Old", .major = 7, .minor = 5}, {.name = "New", .major = 8}});
  const auto devices = FindCudaDevices();
  ASSERT_TRUE(devices.ok()) << devices.status();
  ASSERT_EQ(devices->size(), 1U);
  EXPECT_EQ((*devices)[0].index, 1);
  EXPECT_EQ((*devices)[0].name, "New");
  EXPECT_EQ(CreateCudaOps({.device = 0}).status().message(),
            "device is 0; there are 1 usable ones");
  EXPECT_TRUE(CreateCudaOps({.device = 1}).ok());
}

TEST(CudaDevices, AreRefusedWithTheReason) {
  simt::SetDevices({});
  EXPECT_EQ(FindCudaDevices().status().message(), "no CUDA device");
  simt::SetDevices({{.name = "Old", .major = 7, .minor = 5}});
  EXPECT_EQ(FindCudaDevices().status().message(), "Old has compute capability 7.5; 8.0 is needed");
  EXPECT_EQ(CreateCudaOps({}).status().code(), absl::StatusCode::kUnavailable);
}

TEST(CudaMemory, RunsOutWithTheArithmetic) {
  simt::SetDevices({{.memory_bytes = size_t{64} << 20}});
  const auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  ASSERT_TRUE((*ops)->Allocate(int64_t{32} << 20).ok());
  const absl::Status status = (*ops)->Allocate(int64_t{48} << 20).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no 49 MiB of device memory: "));
}

class CudaErrors : public ::testing::Test {
 protected:
  void SetUp() override {
    simt::SetDevices({simt::DeviceModel{}});
    auto folder = HfFolder::Open(GoldenFolder("families/llama"));
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = *std::move(folder);
    const ModelConfig& config = folder_->config().config;
    const auto views = FindWeights(folder_->tensors(), config);
    ASSERT_TRUE(views.ok()) << views.status();
    auto ops = CreateCudaOps({});
    ASSERT_TRUE(ops.ok()) << ops.status();
    ops_ = *std::move(ops);
    auto transformer = Transformer::Create(config, *views, {8, 2, 32, 16, 4}, *ops_);
    ASSERT_TRUE(transformer.ok()) << transformer.status();
    transformer_ = *std::move(transformer);
  }

  // Of one token.
  static constexpr int32_t kZero[] = {0, 0}, kEnds[] = {0, 1}, kOne[] = {1};
  static constexpr BatchView kBatch{.num_tokens = 1,
                                    .num_rows = 1,
                                    .tokens = kOne,
                                    .positions = kZero,
                                    .row_begin = kEnds,
                                    .context_len = kOne,
                                    .blocks = kZero,
                                    .block_begin = kEnds,
                                    .slots = kZero,
                                    .num_outputs = 1,
                                    .output_rows = kZero};
  absl::Status Step() {
    ops_->BeginStep(kBatch);
    const Tensor logits = transformer_->Forward(kBatch);
    std::vector<float> values(static_cast<size_t>(logits.cols));
    ops_->Read(logits, values.data());
    return ops_->Finish();
  }

  std::unique_ptr<HfFolder> folder_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Transformer> transformer_;
};

TEST_F(CudaErrors, OfAKernelIsTheStepsAndStays) {
  ASSERT_TRUE(Step().ok());
  simt::InjectFault({.at = "attention", .error = cudaErrorLaunchFailure});
  const absl::Status status = Step();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cudaErrorLaunchFailure"));
  EXPECT_EQ(Step().code(), absl::StatusCode::kInternal);
}

TEST_F(CudaErrors, OfTheDevicesMemoryIsNamed) {
  ASSERT_TRUE(Step().ok());
  simt::InjectFault({.at = "linear", .error = cudaErrorECCUncorrectable});
  EXPECT_THAT(std::string(Step().message()), HasSubstr("cudaErrorECCUncorrectable"));
}

TEST_F(CudaErrors, DoNotStopTheOtherStepInFlightFromBeingFinished) {
  simt::InjectFault({.at = "cudaMemcpyAsync", .error = cudaErrorInvalidValue});
  ops_->BeginStep(kBatch);
  (void)transformer_->Forward(kBatch);
  ops_->BeginStep(kBatch);
  (void)transformer_->Forward(kBatch);
  EXPECT_THAT(std::string(ops_->Finish().message()), HasSubstr("cudaErrorInvalidValue"));
  EXPECT_TRUE(ops_->Finish().ok());
}

// Layers with and without a window, whose plans grow differently: a graph must not stand for a step
// with more parts than it has. The contexts' own keys and values are zeros.
TEST(CudaGraphs, GiveTheBitsOfLaunchesWhateverTheContexts) {
  simt::SetDevices({simt::DeviceModel{}});
  const auto folder = HfFolder::Open(GoldenFolder("families/gemma3"));
  ASSERT_TRUE(folder.ok()) << folder.status();
  ModelConfig config = (*folder)->config().config;
  config.max_context = 1024;
  const auto views = FindWeights((*folder)->tensors(), config);
  ASSERT_TRUE(views.ok()) << views.status();
  std::vector<int32_t> blocks;
  for (int32_t b = 0; b < 64; ++b) blocks.push_back(b);
  std::vector<std::vector<std::vector<float>>> logits[2];
  for (const bool graphs : {false, true}) {
    const auto ops = CreateCudaOps({.graphs = graphs});
    ASSERT_TRUE(ops.ok()) << ops.status();
    auto transformer = Transformer::Create(config, *views, {8, 4, 1024, 16, 64}, **ops);
    ASSERT_TRUE(transformer.ok()) << transformer.status();
    ASSERT_TRUE((*ops)->AllocateSlots(4, config.vocab_size).ok());
    (void)simt::TakeStatistics();
    for (const int32_t cached : {299, 299, 299, 269, 269, 9, 9, 1000, 1000, 269}) {
      const auto used = static_cast<std::ptrdiff_t>(cached / 16 + 1);
      const StepRow row{{3}, cached, {blocks.begin(), blocks.begin() + used}};
      logits[graphs ? 1 : 0].push_back(RunStep(**transformer, **ops, {row}));
    }
    // Three rows in a graph for four: the fourth must leave nothing behind.
    for (const int32_t cached : {20, 21, 22}) {
      std::vector<StepRow> rows;
      for (std::ptrdiff_t r = 0; r < 3; ++r)
        rows.push_back({{5}, cached, {blocks.begin() + 2 * r, blocks.begin() + 2 * r + 2}});
      logits[graphs ? 1 : 0].push_back(RunStep(**transformer, **ops, rows));
    }
    // Not the steps for which memory grew.
    EXPECT_GE(simt::TakeStatistics().graph_launches, graphs ? 9U : 0U);
  }
  EXPECT_EQ(logits[1], logits[0]);
}

}  // namespace
}  // namespace sluice
