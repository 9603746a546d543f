#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

std::vector<float> Silu(Ops& ops, Matrix& gate_up) {
  Matrix out(gate_up.rows, gate_up.cols / 2);
  ops.BeginStep(BatchView());
  ops.SiluMul(gate_up.view(), out.view());
  EXPECT_TRUE(ops.Finish().ok());
  return out.data;
}

class SiluMulOf : public testing::TestWithParam<int32_t> {};  // ffn_dim

TEST_P(SiluMulOf, MatchesDoublePrecisionInEveryForm) {
  const int32_t ffn_dim = GetParam();
  Matrix x(9, 2 * ffn_dim, 1);
  for (float& v : x.row(1)) v *= 30;
  for (float& v : x.row(2)) v *= 1e-6F;
  const std::vector<double> expected = reference::SiluMul(x.view());
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const std::vector<float> out = Silu(*MakeCpuOps(setting), x);
    if (first.empty()) first = out;
    EXPECT_EQ(out, first);
    for (size_t i = 0; i < out.size(); ++i) {
      // The exponential is within 2 ulp; the sum, quotient and product round once each. Beyond
      // e^88.3 it saturates.
      ASSERT_NEAR(out[i], expected[i], std::abs(expected[i]) * 8 * 0x1p-24 + 1e-34) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(FfnDim, SiluMulOf, testing::Values(1, 15, 16, 33, 1536));

TEST(SiluMul, ExtremesStayInTheirLimits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    Matrix x(1, 10);
    x.data = {0, -1e30F, 1e30F, kInfinity, std::nanf(""), 1, 1, 1, 1, 1};
    const std::vector<float> out = Silu(*MakeCpuOps(setting), x);
    EXPECT_EQ(out[0], 0);
    EXPECT_LE(std::abs(out[1]), 1e-7F);  // e^88.3 stands for anything above
    EXPECT_EQ(out[2], 1e30F);
    EXPECT_EQ(out[3], kInfinity);
    EXPECT_TRUE(std::isnan(out[4]));
  }
}

}  // namespace
}  // namespace sluice
