#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> GateMul(Ops& ops, Matrix& gate_up, Activation activation) {
  Matrix out(gate_up.rows, gate_up.cols / 2);
  ops.BeginStep(BatchView());
  ops.GateMul(gate_up.view(), activation, out.view());
  EXPECT_TRUE(ops.Finish().ok());
  return out.data;
}

class GateMulOf : public testing::TestWithParam<std::tuple<Activation, int32_t>> {};  // ffn_dim

TEST_P(GateMulOf, MatchesDoublePrecisionInEveryForm) {
  const auto [activation, ffn_dim] = GetParam();
  Matrix x(9, 2 * ffn_dim, 1);
  for (float& v : x.row(1)) v *= activation == Activation::kSilu ? 30 : 3;
  for (float& v : x.row(2)) v *= 1e-6F;
  const std::vector<double> expected = reference::GateMul(x.view(), activation);
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const std::vector<float> out = GateMul(*MakeCpuOps(setting), x, activation);
    if (first.empty()) first = out;
    EXPECT_EQ(out, first);
    for (size_t i = 0; i < out.size(); ++i) {
      // The exponential is within 2 ulp, for gelu of an argument of up to e^88 that is itself
      // rounded 4 times; the sum, quotient and product round once each. Beyond e^88.3 it saturates.
      const double ulps = activation == Activation::kSilu ? 8 : 8 + 4 * 88;
      ASSERT_NEAR(out[i], expected[i], std::abs(expected[i]) * ulps * 0x1p-24 + 1e-34) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(FfnDim, GateMulOf,
                         testing::Combine(testing::Values(Activation::kSilu, Activation::kGeluTanh),
                                          testing::Values(1, 15, 16, 33, 1536)));

TEST(GateMul, ExtremesStayInTheirLimits) {
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const CpuSetting& setting : CpuSettings()) {
      SCOPED_TRACE(ToString(setting));
      Matrix x(1, 10);
      x.data = {0, -1e12F, 1e12F, kInfinity, std::nanf(""), 1, 1, 1, 1, 1};
      const std::vector<float> out = GateMul(*MakeCpuOps(setting), x, activation);
      EXPECT_EQ(out[0], 0);
      EXPECT_LE(std::abs(out[1]), 1e-7F);  // e^88.3 stands for anything above
      EXPECT_EQ(out[2], 1e12F);
      EXPECT_EQ(out[3], kInfinity);
      EXPECT_TRUE(std::isnan(out[4]));
    }
  }
}

std::vector<float> SoftCap(Ops& ops, Matrix x, float cap) {
  ops.BeginStep(BatchView());
  ops.SoftCap(x.view(), cap);
  EXPECT_TRUE(ops.Finish().ok());
  return x.data;
}

TEST(SoftCap, MatchesDoublePrecisionInEveryFormAndSize) {
  for (const int32_t cols : {1, 16, 50, 8192, 8193, 20000}) {
    Matrix x(3, cols, 4);
    for (float& v : x.row(0)) v *= 40;
    for (float& v : x.row(1)) v *= 1e-4F;
    x.data[0] = 0.625F * 30;
    std::vector<float> first;
    for (const CpuSetting& setting : CpuSettings()) {
      SCOPED_TRACE(ToString(setting) + ", " + std::to_string(cols));
      const std::vector<float> out = SoftCap(*MakeCpuOps(setting), x, 30);
      if (first.empty()) first = out;
      EXPECT_EQ(out, first);
      // tanh is within 3 ulp of an argument rounded twice; the product rounds once.
      for (size_t i = 0; i < out.size(); ++i) {
        const double expected = reference::SoftCap(x.data[i], 30);
        ASSERT_NEAR(out[i], expected, std::abs(expected) * 6 * 0x1p-23) << x.data[i];
      }
    }
  }
}

TEST(SoftCap, ExtremesReachTheCapAndNanStays) {
  for (const CpuSetting& setting : CpuSettings()) {
    Matrix x(1, 6);
    x.data = {kInfinity, -kInfinity, std::nanf(""), 0, 1e30F, -1e30F};
    const std::vector<float> out = SoftCap(*MakeCpuOps(setting), x, 50);
    EXPECT_EQ(out[0], 50);
    EXPECT_EQ(out[1], -50);
    EXPECT_TRUE(std::isnan(out[2]));
    EXPECT_EQ(out[3], 0);
    EXPECT_EQ(out[4], 50);
    EXPECT_EQ(out[5], -50);
  }
}

}  // namespace
}  // namespace sluice
