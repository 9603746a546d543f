// Folders with FP8 weights over the whole backend, on devices that multiply e4m3 and on one that
// does not: the tiny random models of tests/golden/quantised against transformers' logits.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/runtime.h"
#include "model/linear_loader.h"
#include "tests/kernels/reference.h"
#include "tests/model/logit_golden.h"
#include "tests/model/run_step.h"

namespace sluice {
namespace {

struct Capability {
  int major, minor;
  bool products;  // of e4m3
};
constexpr Capability kCapabilities[] = {{8, 0, false}, {8, 6, false}, {8, 9, true},
                                        {9, 0, true},  {10, 0, true}, {12, 0, false}};

struct Folder {
  const char* name;
  DType dtype;  // of a quantised matrix
};
// The blocks of fp8_blocks are 48 x 48: no format of the device has such scales.
constexpr Folder kFolders[] = {{"fp8_tensor", DType::kFp8A8},
                               {"fp8_blocks", DType::kF16},
                               {"ct_fp8_rows", DType::kFp8},
                               {"ct_fp8_blocks", DType::kFp8},
                               {"ct_mixed", DType::kFp8}};

class CudaFp8Folders : public ::testing::TestWithParam<Folder> {
 protected:
  const GoldenModel golden_ =
      OpenGoldenModel(std::string("quantised/") + GetParam().name, /*keep_fp8=*/true);
};

// With x in f16 the bound of CudaFamilies. With x in e4m3 each input is off by up to 2^-4 of
// itself: the worst of the 512 logits was off by 0.21 of their deviation.
TEST_P(CudaFp8Folders, GiveTheLogitsOfTransformers) {
  EXPECT_EQ(golden_.views.layers[0].o.dtype, GetParam().dtype);
  for (const Capability& device : kCapabilities) {
    simt::SetDevices({{.major = device.major, .minor = device.minor}});
    const auto ops = CreateCudaOps({});
    ASSERT_TRUE(ops.ok()) << ops.status();
    (void)simt::TakeStatistics();
    const double error = RelativeError(golden_.logits, LogitsInOneBatch(golden_, **ops));
    const bool rounds = GetParam().dtype == DType::kFp8A8 && device.products;
    EXPECT_LE(error, rounds ? 0.3 : 0x1p-6) << device.major << "." << device.minor;
    const simt::Statistics statistics = simt::TakeStatistics();
    EXPECT_EQ(statistics.kernels.contains("linear_fp8"), rounds)
        << device.major << "." << device.minor;
    // Norms and gates round what they write; attention does not.
    if (rounds) {
      EXPECT_EQ(statistics.kernels.at("to_fp8").launches, golden_.views.layers.size());
    }
    RecordProperty("relative_error_" + std::to_string(device.major) + std::to_string(device.minor),
                   std::to_string(error));
  }
  simt::SetDevices({simt::DeviceModel{}});
}

TEST_P(CudaFp8Folders, LogitBitsDoNotDependOnChunksOrGraphs) {
  const auto one = CreateCudaOps({.deterministic = true});
  ASSERT_TRUE(one.ok()) << one.status();
  const auto expected = LogitsInOneBatch(golden_, **one);
  for (const bool graphs : {false, true}) {
    const auto ops = CreateCudaOps({.graphs = graphs, .deterministic = true});
    ASSERT_TRUE(ops.ok()) << ops.status();
    ASSERT_TRUE((*ops)->AllocateSlots(8, golden_.config().vocab_size).ok());
    EXPECT_EQ(LogitsInChunks(golden_, **ops), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, CudaFp8Folders, ::testing::ValuesIn(kFolders),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(CudaFp8, TakesAByteAWeight) {
  constexpr int64_t kN = 4096, kK = 4096;
  const int64_t bytes = CudaMatrixBytes(DType::kFp8A8, kN, kK);
  EXPECT_EQ(bytes, CudaMatrixBytes(DType::kFp8, kN, kK));
  EXPECT_GE(bytes, kN * kK);
  EXPECT_LE(bytes, kN * kK * 102 / 100);  // 16 bytes of scales for 1024 weights, 4 a row
}

// Stacked matrices of both kinds: x is e4m3 for one and f16 for the other.
TEST(CudaFp8, AStackMayHoldBothKindsAndEachTakesItsOwnInputs) {
  constexpr int kRows = 3, kN = 16, kK = 64;
  std::vector<uint8_t> bytes;
  for (int n = 0; n < kN; ++n) {
    for (int b = 0; b < kK / 32; ++b) {
      bytes.insert(bytes.end(), {0, 0, 0x80, 0x3f});  // 1.0
      for (int k = 0; k < 32; ++k) bytes.push_back(static_cast<uint8_t>((n * 5 + b + k * 3) % 120));
    }
  }
  const WeightView parts[] = {{DType::kFp8A8, kN, kK, bytes.data()},
                              {DType::kFp8, kN, kK, bytes.data()}};
  std::vector<float> x;
  for (int i = 0; i < kRows * kK; ++i) x.push_back(static_cast<float>(i * 37 % 101) / 101 - 0.4F);
  const Tensor host{x.data(), kRows, kK, kK};
  const auto rounded = reference::MatMulFp8(host, parts), exact = reference::MatMul(host, parts),
             magnitude = reference::MatMulMagnitude(host, parts);
  simt::SetDevices({{.major = 8, .minor = 9}});
  simt::HideFromHost(false);
  auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  const auto linear = (*ops)->LoadLinear(parts);
  ASSERT_TRUE(linear.ok()) << linear.status();
  const auto in = (*ops)->Allocate(sizeof(float) * x.size());
  const auto out = (*ops)->Allocate(sizeof(float) * kRows * 2 * kN);
  ASSERT_TRUE(in.ok() && out.ok());
  ASSERT_EQ(cudaMemcpy(*in, x.data(), sizeof(float) * x.size(), cudaMemcpyHostToDevice),
            cudaSuccess);
  const int32_t zeros[4] = {}, ends[] = {0, kRows};
  const int32_t positions[] = {0, 1, 2}, block_begin[] = {0, 1}, context[] = {kRows};
  (*ops)->BeginStep({.num_tokens = kRows,
                     .num_rows = 1,
                     .tokens = zeros,
                     .positions = positions,
                     .row_begin = ends,
                     .context_len = context,
                     .blocks = zeros,
                     .block_begin = block_begin,
                     .slots = zeros,
                     .num_outputs = 1,
                     .output_rows = zeros});
  const Tensor to{static_cast<float*>(*out), kRows, 2 * kN, 2 * kN};
  std::vector<float> got(size_t{kRows} * 2 * kN);
  (*ops)->MatMul({static_cast<float*>(*in), kRows, kK, kK}, *linear, {}, to);
  (*ops)->Read(to, got.data());
  ASSERT_TRUE((*ops)->Finish().ok());
  for (size_t i = 0; i < got.size(); ++i) {
    const bool rounds = i % (2 * kN) < kN;
    EXPECT_NEAR(got[i], rounds ? rounded[i] : exact[i], magnitude[i] * (rounds ? 0x1p-20 : 0x1p-10))
        << i;
  }
  ops->reset();
  simt::SetDevices({simt::DeviceModel{}});
}

TEST(CudaFp8, ScalesThatItCannotHoldAreRefusedByName) {
  std::vector<uint8_t> bytes;
  for (int n = 0; n < 16; ++n) {
    for (int b = 0; b < 2; ++b) {  // each its own
      bytes.insert(bytes.end(), {0, 0, static_cast<uint8_t>(n * 2 + b), 0x3f});
      bytes.insert(bytes.end(), 32, 0x38);
    }
  }
  const WeightView view{DType::kFp8, 16, 64, bytes.data()};
  simt::SetDevices({simt::DeviceModel{}});
  const auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  EXPECT_EQ((*ops)->LoadLinear({&view, 1}).status().message(),
            "a matrix of type FP8 has scales that differ within 8 rows and within a row");
}

}  // namespace
}  // namespace sluice
