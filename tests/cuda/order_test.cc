// The whole backend under the orders that streams, blocks and lanes may take: equal bits, no
// findings, and nothing that waits for luck.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/runtime.h"
#include "tests/model/logit_golden.h"

namespace sluice {
namespace {

TEST(CudaOrder, LogitBitsAreTheSameUnderEveryOrder) {
  const GoldenModel golden = OpenGoldenModel("families/llama");
  const auto logits = [&](uint64_t seed) {
    simt::SetDevices({simt::DeviceModel{}});
    simt::SetSeed(seed);
    const auto ops = CreateCudaOps({.graphs = true});
    EXPECT_TRUE(ops.ok()) << ops.status();
    auto result = LogitsInChunks(golden, **ops);
    for (const simt::Finding& finding : simt::TakeFindings()) ADD_FAILURE() << finding.ToString();
    return result;
  };
  const auto expected = logits(0);
  for (uint64_t seed = 1; seed <= 6; ++seed) EXPECT_EQ(logits(seed), expected) << "seed " << seed;
  simt::SetSeed(0);
}

}  // namespace
}  // namespace sluice
