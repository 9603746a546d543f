#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

constexpr float kEps = 1e-5F;

struct Shape {
  int32_t cols, group;
  bool residual = false;

  [[nodiscard]] NormParams params() const { return {kEps, group}; }
};

enum class Place : uint8_t { kApart, kInput, kResidual };

std::vector<float> Norm(Ops& ops, const Shape& shape, Matrix& x, Matrix& residual,
                        std::vector<float>& weight, Place place = Place::kApart) {
  Matrix in = x;
  Matrix added = residual;
  Matrix out(x.rows, x.cols);
  Matrix& to = place == Place::kInput ? in : place == Place::kResidual ? added : out;
  ops.BeginStep(BatchView());
  ops.RmsNorm(in.view(), Vector{weight.data(), x.cols}, shape.params(),
              shape.residual ? added.view() : Tensor(), to.view());
  EXPECT_TRUE(ops.Finish().ok());
  return to.data;
}

class RmsNormOf : public testing::TestWithParam<Shape> {};

TEST_P(RmsNormOf, MatchesDoublePrecisionInEveryFormAndPlace) {
  const Shape shape = GetParam();
  const int32_t cols = shape.cols;
  Matrix x(5, cols, 1);
  for (float& v : x.row(1)) v *= 1e6F;
  for (float& v : x.row(2)) v *= 1e-6F;  // eps dominates
  for (float& v : x.row(3)) v = 0;
  Matrix residual(5, cols, 8);
  std::vector<float> weight = RandomFloats(static_cast<size_t>(cols), 2);
  const Tensor added = shape.residual ? residual.view() : Tensor();
  const std::vector<double> expected = reference::RmsNorm(x.view(), weight, shape.params(), added);
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const auto ops = MakeCpuOps(setting);
    const std::vector<float> out = Norm(*ops, shape, x, residual, weight);
    if (first.empty()) first = out;
    EXPECT_EQ(out, first);
    EXPECT_EQ(Norm(*ops, shape, x, residual, weight, Place::kInput), first);
    if (shape.residual) {
      EXPECT_EQ(Norm(*ops, shape, x, residual, weight, Place::kResidual), first);
    }
    // Each lane adds group/16 squares, then the tree, mean, root, quotient and two products round
    // once each; with a residual the sum once more, of at most both magnitudes.
    const double bound = (shape.cols / 16.0 + 11) * 0x1p-24;
    for (size_t i = 0; i < out.size(); ++i) {
      const double part = shape.residual ? residual.data[i] : 0;
      ASSERT_NEAR(out[i], expected[i], (std::abs(expected[i] - part) + std::abs(part)) * bound)
          << i;
    }
  }
}

TEST_P(RmsNormOf, ARowsBitsDoNotDependOnItsNeighbours) {
  const Shape shape = GetParam();
  Matrix x(17, shape.cols, 3);
  Matrix residual(17, shape.cols, 5);
  std::vector<float> weight = RandomFloats(static_cast<size_t>(shape.cols), 4);
  const auto ops = MakeCpuOps({BestCpuIsa(), 2});
  const std::vector<float> together = Norm(*ops, shape, x, residual, weight);
  for (int32_t r = 0; r < x.rows; ++r) {
    Matrix alone(1, shape.cols);
    Matrix alone_residual(1, shape.cols);
    std::ranges::copy(x.row(r), alone.data.begin());
    std::ranges::copy(residual.row(r), alone_residual.data.begin());
    const std::vector<float> out = Norm(*ops, shape, alone, alone_residual, weight);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), together.begin() + int64_t{r} * shape.cols))
        << r;
  }
}

// A head normed among others has the bits of the head alone.
TEST(RmsNorm, AGroupsBitsDoNotDependOnTheOtherGroups) {
  constexpr int32_t kHeads = 7, kDim = 40;
  Matrix x(3, kHeads * kDim, 6);
  Matrix none(3, kHeads * kDim);
  std::vector<float> weight = RandomFloats(kHeads * kDim, 7);
  for (const CpuSetting& setting : CpuSettings()) {
    const auto ops = MakeCpuOps(setting);
    const std::vector<float> together = Norm(*ops, {kHeads * kDim, kDim}, x, none, weight);
    for (int32_t h = 0; h < kHeads; ++h) {
      Matrix head(1, kDim);
      std::ranges::copy(x.row(1).subspan(static_cast<size_t>(h) * kDim, kDim), head.data.begin());
      std::vector<float> its_weight(weight.begin() + h * kDim, weight.begin() + (h + 1) * kDim);
      const std::vector<float> alone = Norm(*ops, {kDim, 0}, head, none, its_weight);
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + (kHeads + h) * kDim));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RmsNormOf,
                         testing::Values(Shape{1, 0}, Shape{15, 0}, Shape{16, 0}, Shape{17, 0},
                                         Shape{64, 0}, Shape{576, 0}, Shape{1000, 0},
                                         Shape{4096, 0}, Shape{12 * 64, 64}, Shape{3 * 18, 18},
                                         Shape{5 * 256, 256}, Shape{640, 0, true},
                                         Shape{33, 0, true}, Shape{4 * 20, 20, true}));

}  // namespace
}  // namespace sluice
