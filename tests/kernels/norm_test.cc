#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

constexpr float kEps = 1e-5F;

std::vector<float> Norm(Ops& ops, Matrix& x, std::vector<float>& weight, bool in_place = false) {
  Matrix copy = x;
  Matrix out(x.rows, x.cols);
  Matrix& to = in_place ? copy : out;
  ops.BeginStep(BatchView());
  ops.RmsNorm(copy.view(), Vector{weight.data(), x.cols}, kEps, to.view());
  EXPECT_TRUE(ops.Finish().ok());
  return to.data;
}

class RmsNormOf : public testing::TestWithParam<int32_t> {};  // columns

TEST_P(RmsNormOf, MatchesDoublePrecisionInEveryFormAndPlace) {
  const int32_t cols = GetParam();
  Matrix x(5, cols, 1);
  for (float& v : x.row(1)) v *= 1e6F;
  for (float& v : x.row(2)) v *= 1e-6F;  // eps dominates
  for (float& v : x.row(3)) v = 0;
  std::vector<float> weight = RandomFloats(static_cast<size_t>(cols), 2);
  const std::vector<double> expected = reference::RmsNorm(x.view(), weight, kEps);
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const auto ops = MakeCpuOps(setting);
    const std::vector<float> out = Norm(*ops, x, weight);
    if (first.empty()) first = out;
    EXPECT_EQ(out, first);
    EXPECT_EQ(Norm(*ops, x, weight, true), first);
    // Each lane adds cols/16 squares, then the tree, mean, root, quotient and two products round
    // once each.
    const double bound = (cols / 16.0 + 10) * 0x1p-24;
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(out[i], expected[i], std::abs(expected[i]) * bound) << i;
  }
}

TEST_P(RmsNormOf, ARowsBitsDoNotDependOnItsNeighbours) {
  const int32_t cols = GetParam();
  Matrix x(17, cols, 3);
  std::vector<float> weight = RandomFloats(static_cast<size_t>(cols), 4);
  const auto ops = MakeCpuOps({BestCpuIsa(), 2});
  const std::vector<float> together = Norm(*ops, x, weight);
  for (int32_t r = 0; r < x.rows; ++r) {
    Matrix alone(1, cols);
    std::copy_n(x.row(r).begin(), cols, alone.data.begin());
    const std::vector<float> out = Norm(*ops, alone, weight);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), together.begin() + int64_t{r} * cols)) << r;
  }
}

INSTANTIATE_TEST_SUITE_P(Columns, RmsNormOf, testing::Values(1, 15, 16, 17, 64, 576, 1000, 4096));

}  // namespace
}  // namespace sluice
