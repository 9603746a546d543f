// What puts the ranks' parts together.
#include <gtest/gtest.h>

#include <vector>

#include "tests/cuda/device_fixture.h"

namespace sluice::cuda {
namespace {

class RankKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, RankKernels, ::testing::Values(0, 1, 2));

float Part(int rank, int row, int column) {
  return static_cast<float>(rank * 4096 + row * 1500 + column);
}
std::vector<float> Parts(int num_ranks, int rows, int columns) {
  std::vector<float> parts;
  for (int s = 0; s < num_ranks; ++s) {
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) parts.push_back(Part(s, r, c));
    }
  }
  return parts;
}

TEST_P(RankKernels, SumsAreOfEveryRanksPart) {
  for (const int num_ranks : {1, 2, 4}) {
    for (const int cols : {1, 64, 1025, 1500}) {
      constexpr int kRows = 3;
      const DeviceArray<float> parts(Parts(num_ranks, kRows, cols));
      const DeviceTensor x(kRows, cols);
      ASSERT_EQ(SumRanks(parts.data(), num_ranks, x.tensor(), nullptr), cudaSuccess);
      const std::vector<float> got = x.Read();
      for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < cols; ++c) {
          float sum = 0;
          for (int s = 0; s < num_ranks; ++s) sum += Part(s, r, c);
          ASSERT_EQ(got[static_cast<size_t>(r) * cols + c], sum) << r << ", " << c;
        }
      }
    }
  }
}

// (1 + 2^-24) + 2^-24 rounds to 1 twice; from the other end it would not.
TEST_P(RankKernels, SumsAscendByRank) {
  const DeviceArray<float> parts(std::vector<float>{1, 0x1p-24F, 0x1p-24F});
  const DeviceTensor x(1, 1);
  ASSERT_EQ(SumRanks(parts.data(), 3, x.tensor(), nullptr), cudaSuccess);
  EXPECT_EQ(x.Read()[0], 1.0F);
}

// The last rank's part is as wide as the others', though fewer of its columns count.
TEST_P(RankKernels, JoinedColumnsAreThoseOfTheirRank) {
  for (const int width : {16, 48, 1040}) {
    constexpr int kRows = 3, kRanks = 3;
    const int cols = kRanks * width - 13;
    const DeviceArray<float> parts(Parts(kRanks, kRows, width));
    const DeviceTensor out(kRows, cols);
    ASSERT_EQ(JoinRanks(parts.data(), width, out.tensor(), nullptr), cudaSuccess);
    const std::vector<float> got = out.Read();
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < cols; ++c) {
        ASSERT_EQ(got[static_cast<size_t>(r) * cols + c], Part(c / width, r, c % width))
            << r << ", " << c;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::cuda
