// Low-rank additions on the device.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "tests/cuda/device_fixture.h"
#include "tests/kernels/adapter_case.h"

namespace sluice::cuda {
namespace {

class AdapterKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, AdapterKernels, ::testing::Values(0, 1));

TEST_P(AdapterKernels, AddTheirRowsSums) {
  auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  const RunAdapters run = [&](const BatchView& batch, const Adapters& adapters,
                              const std::vector<float>& x, const std::vector<float>& out) {
    const auto of = [](const std::vector<float>& values, int32_t cols) {
      return [&values, cols](int r, int c) { return values[static_cast<size_t>(r) * cols + c]; };
    };
    const DeviceTensor in(batch.num_tokens, adapters.cols, of(x, adapters.cols)),
        to(batch.num_tokens, adapters.rows, of(out, adapters.rows));
    EXPECT_EQ(cudaDeviceSynchronize(),
              cudaSuccess);  // the backend's stream does not wait for copies
    (*ops)->BeginStep(batch);
    (*ops)->AddAdapters(in.tensor(), adapters, to.tensor());
    EXPECT_TRUE((*ops)->Finish().ok());
    return to.Read();
  };
  for (const bool halfs : {false, true}) ExpectAdaptersAdd(**ops, 300, 51, halfs, run);
}

TEST_P(AdapterKernels, ThatDoNotFitAreRefused) {
  auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  ExpectAdaptersRefused(**ops);
}

}  // namespace
}  // namespace sluice::cuda
