// Every decoder family over the CUDA backend: the tiny random models of tests/golden/families
// against the logits that transformers computed from them in float32.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/blas.h"
#include "kernels/simt/runtime.h"
#include "tests/model/logit_golden.h"

namespace sluice {
namespace {

class CudaFamilies : public ::testing::TestWithParam<const char*> {
 protected:
  const GoldenModel golden_ = OpenGoldenModel(std::string("families/") + GetParam());
};

// Activations are rounded to f16 before each product, weights of attention and values too: 2^-12 of
// an element each, over the few layers of these models.
TEST_P(CudaFamilies, GiveTheLogitsOfTransformers) {
  const auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  const auto logits = LogitsInOneBatch(golden_, **ops);
  const double error = RelativeError(golden_.logits, logits);
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LE(error, 0x1p-6);
}

TEST_P(CudaFamilies, LogitBitsDoNotDependOnChunksOrGraphs) {
  const auto one = CreateCudaOps({.deterministic = true});
  ASSERT_TRUE(one.ok()) << one.status();
  const auto expected = LogitsInOneBatch(golden_, **one);
  for (const bool graphs : {false, true}) {
    const auto ops = CreateCudaOps({.graphs = graphs, .deterministic = true});
    ASSERT_TRUE(ops.ok()) << ops.status();
    ASSERT_TRUE((*ops)
                    ->AllocateSlots(8, golden_.config().vocab_size)
                    .ok());  // without, there are no graphs
    EXPECT_EQ(LogitsInChunks(golden_, **ops), expected);
  }
}

// A KV cache of fewer bits than f16 differs by the rounding of keys and values: 2^-8, 2^-4 and
// amax / 254 of an element. What that makes of the logits of models this small is observed, not
// derived: 0.040 at worst with bf16, 0.064 with int8, 0.45 with fp8 (mixtral, where other experts
// may be chosen).
// That each element is what it should be is for the tests of the kernels.
struct KvLimit {
  KvType type;
  double relative_error;
};
constexpr KvLimit kKvLimits[] = {
    {KvType::kBf16, 0x1p-4}, {KvType::kFp8, 0x1p-1}, {KvType::kInt8, 0x1p-3}};
TEST_P(CudaFamilies, GiveTheirLogitsFromKvCachesOfEveryType) {
  for (const auto& [type, limit] : kKvLimits) {
    const auto ops = CreateCudaOps({});
    ASSERT_TRUE(ops.ok()) << ops.status();
    const double error =
        RelativeError(golden_.logits, LogitsInOneBatch(golden_, **ops, false, type));
    RecordProperty("relative_error_" + std::string(KvTypeName(type)), std::to_string(error));
    EXPECT_LE(error, limit) << KvTypeName(type);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, CudaFamilies,
                         ::testing::Values("llama", "llama_linear", "llama3", "mistral", "mixtral",
                                           "qwen2", "qwen2moe", "qwen3", "qwen3_yarn", "qwen3moe",
                                           "gemma", "gemma2", "gemma3", "phi3", "phi3_longrope"),
                         [](const auto& info) { return std::string(info.param); });

// Softcaps, windows and norms of heads are among them.
class CudaFamiliesOfChunks : public CudaFamilies {};
TEST_P(CudaFamiliesOfChunks, KeepTheirBitsInKvCachesOfEveryType) {
  for (const auto& [type, limit] : kKvLimits) {
    std::vector<std::vector<float>> logits[2];
    for (const bool chunks : {false, true}) {
      const auto ops = CreateCudaOps({.graphs = chunks, .deterministic = true});
      ASSERT_TRUE(ops.ok()) << ops.status();
      ASSERT_TRUE((*ops)->AllocateSlots(8, golden_.config().vocab_size).ok());
      logits[chunks ? 1 : 0] = chunks ? LogitsInChunks(golden_, **ops, type)
                                      : LogitsInOneBatch(golden_, **ops, false, type);
    }
    EXPECT_EQ(logits[1], logits[0]) << KvTypeName(type);
  }
}
INSTANTIATE_TEST_SUITE_P(Golden, CudaFamiliesOfChunks,
                         ::testing::Values("gemma2", "gemma3", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

// Of the families the one whose step has rows enough for a product by cuBLASLt; its emulation here.
class CudaFamilyOfManyRows : public CudaFamilies {};
TEST_P(CudaFamilyOfManyRows, GivesItsLogitsThroughCublasLtToo) {
  const auto ops = CreateCudaOps({.blas_from_major = 8, .find_blas = simt::FindBlasFunction});
  ASSERT_TRUE(ops.ok()) << ops.status();
  (void)simt::TakeStatistics();
  EXPECT_LE(RelativeError(golden_.logits, LogitsInOneBatch(golden_, **ops)), 0x1p-6);
  EXPECT_GT(simt::TakeStatistics().kernels["scale_product"].launches, 0U);
}
INSTANTIATE_TEST_SUITE_P(Golden, CudaFamilyOfManyRows, ::testing::Values("gemma3"));

}  // namespace
}  // namespace sluice
