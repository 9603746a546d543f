// The ops that only encoders and models of vectors use, and attention that looks ahead.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

constexpr float kEps = 1e-12F;

std::vector<float> LayerNorm(Ops& ops, Matrix x, Matrix residual, bool add, int place,
                             std::vector<float>& weight, std::vector<float>& bias) {
  Matrix out(x.rows, x.cols);
  Matrix& to = place == 0 ? out : place == 1 ? x : residual;
  ops.BeginStep(BatchView());
  ops.LayerNorm(x.view(), add ? residual.view() : Tensor(), {weight.data(), x.cols},
                {bias.data(), x.cols}, kEps, to.view());
  EXPECT_TRUE(ops.Finish().ok());
  return to.data;
}

class LayerNormOf : public testing::TestWithParam<int32_t> {};

TEST_P(LayerNormOf, MatchesDoublePrecisionInEveryFormAndPlace) {
  const int32_t cols = GetParam();
  for (const bool add : {false, true}) {
    Matrix x(6, cols, 1), residual(6, cols, 2);
    for (float& v : x.row(1)) v *= 1e4F;
    for (float& v : x.row(2)) v = v * 1e-3F + 100;  // a mean that would eat the digits
    if (!add) std::ranges::fill(residual.data, 0.0F);
    std::vector<float> weight = RandomFloats(static_cast<size_t>(cols), 3),
                       bias = RandomFloats(static_cast<size_t>(cols), 4);
    const std::vector<double> expected =
        reference::LayerNorm(x.view(), add ? residual.view() : Tensor(), weight, bias, kEps);
    std::vector<float> first;
    for (const CpuSetting& setting : CpuSettings()) {
      SCOPED_TRACE(ToString(setting));
      const auto ops = MakeCpuOps(setting);
      for (const int place : {0, 1, 2}) {
        if (place == 2 && !add) continue;
        const std::vector<float> out = LayerNorm(*ops, x, residual, add, place, weight, bias);
        if (first.empty()) first = out;
        EXPECT_EQ(out, first) << place;
      }
    }
    for (int32_t r = 0; r < x.rows; ++r) {
      // The mean is off by its own rounding: relative to the largest y, seen through the division.
      double largest = 0, squares = 0, mean = 0;
      for (int32_t i = 0; i < cols; ++i) {
        const double y = double{x.row(r)[i]} + residual.row(r)[i];
        largest = std::max(largest, std::abs(y));
        mean += y / cols;
      }
      for (int32_t i = 0; i < cols; ++i)
        squares += std::pow(double{x.row(r)[i]} + residual.row(r)[i] - mean, 2) / cols;
      const double deviation = std::sqrt(squares + kEps);
      if (deviation < largest * 1e-6) continue;  // one column: 0 / 0 but for eps
      const double bound = (cols / 16.0 + 16) * 0x1p-24 * (1 + largest / deviation);
      for (int32_t i = 0; i < cols; ++i) {
        const size_t at = static_cast<size_t>(r) * cols + i;
        ASSERT_NEAR(
            first[at], expected[at],
            bound * (std::abs(weight[i]) * (1 + std::abs(expected[at])) + std::abs(bias[i])))
            << r << " " << i;
      }
    }
  }
}

TEST_P(LayerNormOf, ARowsBitsDoNotDependOnItsNeighbours) {
  const int32_t cols = GetParam();
  Matrix x(9, cols, 5), residual(9, cols, 6);
  std::vector<float> weight = RandomFloats(static_cast<size_t>(cols), 3),
                     bias = RandomFloats(static_cast<size_t>(cols), 4);
  const auto ops = MakeCpuOps({BestCpuIsa(), 2});
  const std::vector<float> together = LayerNorm(*ops, x, residual, true, 0, weight, bias);
  for (int32_t r = 0; r < x.rows; ++r) {
    Matrix alone(1, cols), its_residual(1, cols);
    std::ranges::copy(x.row(r), alone.data.begin());
    std::ranges::copy(residual.row(r), its_residual.data.begin());
    const std::vector<float> out = LayerNorm(*ops, alone, its_residual, true, 0, weight, bias);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), together.begin() + int64_t{r} * cols)) << r;
  }
}

INSTANTIATE_TEST_SUITE_P(Cols, LayerNormOf, testing::Values(1, 2, 15, 16, 33, 384, 1000));

TEST(Gelu, MatchesDoublePrecisionInEveryForm) {
  Matrix x(7, 67, 1);
  for (size_t i = 0; i < x.data.size(); ++i)
    x.data[i] = (static_cast<float>(i) / 234.0F - 1) * 8;  // [-8, 8]
  x.data[0] = -1000;
  x.data[1] = 1000;
  x.data[2] = -0.0F;
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const auto ops = MakeCpuOps(setting);
    Matrix out = x;
    ops->BeginStep(BatchView());
    ops->Gelu(out.view());
    ASSERT_TRUE(ops->Finish().ok());
    if (first.empty()) first = out.data;
    EXPECT_EQ(out.data, first);
  }
  for (size_t i = 0; i < first.size(); ++i)
    ASSERT_NEAR(first[i], reference::Gelu(x.data[i]), std::abs(x.data[i]) * 3e-7) << x.data[i];
  Matrix nan(1, 1);
  nan.data[0] = std::numeric_limits<float>::quiet_NaN();
  const auto ops = MakeCpuOps({BestCpuIsa(), 1});
  ops->BeginStep(BatchView());
  ops->Gelu(nan.view());
  ASSERT_TRUE(ops->Finish().ok());
  EXPECT_TRUE(std::isnan(nan.data[0]));
}

TEST(Pool, MatchesDoublePrecisionAndARowsBitsDoNotDependOnItsNeighbours) {
  constexpr int32_t kCols = 37;
  const std::vector<int32_t> lengths = {1, 2, 17, 300};
  for (const Pooling pooling : {Pooling::kFirst, Pooling::kLast, Pooling::kMean}) {
    std::vector<float> first;
    for (const CpuSetting& setting : CpuSettings()) {
      SCOPED_TRACE(ToString(setting));
      const auto ops = MakeCpuOps(setting);
      StepBatch batch;
      for (const int32_t length : lengths) batch.AddRow(length, 0, {}, 0, length != 2);
      Matrix x(320, kCols, 7), out(3, kCols);
      ops->BeginStep(batch.view());
      ops->Pool(x.view(), pooling, out.view());
      ASSERT_TRUE(ops->Finish().ok());
      if (first.empty()) first = out.data;
      EXPECT_EQ(out.data, first);
      int32_t begin = 0, index = 0;
      for (const int32_t length : lengths) {
        Tensor rows{x.view().row(begin), length, kCols, kCols};
        begin += length;
        if (length == 2) continue;
        StepBatch one;
        one.AddRow(length, 0, {});
        Matrix alone(1, kCols);
        ops->BeginStep(one.view());
        ops->Pool(rows, pooling, alone.view());
        ASSERT_TRUE(ops->Finish().ok());
        EXPECT_TRUE(std::ranges::equal(alone.data, out.row(index)));
        const std::vector<double> expected = reference::Pool(rows, pooling);
        for (int32_t c = 0; c < kCols; ++c)
          ASSERT_NEAR(alone.data[c], expected[c], (length + 2) * 0x1p-24 * 4);
        ++index;
      }
    }
  }
}

TEST(AddPositions, AddsTheTokensPlaceAndType) {
  constexpr int32_t kCols = 21;
  std::vector<float> positions = RandomFloats(8 * kCols, 1), types = RandomFloats(2 * kCols, 2);
  const std::vector<int32_t> token_types = {0, 0, 1, 0, 1};
  const Matrix x(5, kCols, 3);
  for (const CpuSetting& setting : CpuSettings()) {
    const auto ops = MakeCpuOps(setting);
    StepBatch batch;
    batch.AddRow(3, 0, {});
    batch.AddRow(2, 6, {});
    Matrix out = x;
    ops->BeginStep(batch.view());
    ops->AddPositions({positions.data(), 8 * kCols}, {types.data(), 2 * kCols}, token_types,
                      out.view());
    ASSERT_TRUE(ops->Finish().ok());
    for (int32_t t = 0; t < 5; ++t) {
      for (int32_t c = 0; c < kCols; ++c) {
        const float sum = x.data[t * kCols + c] + positions[batch.positions()[t] * kCols + c];
        EXPECT_EQ(out.data[t * kCols + c], sum + types[token_types[t] * kCols + c]);
      }
    }
  }
}

// Rows of an encoder, each with its own blocks.
std::vector<float> AttendBothWays(const CpuSetting& setting, std::vector<Matrix*> rows,
                                  int32_t heads, int32_t head_dim) {
  const auto ops = MakeCpuOps(setting);
  StepBatch batch;
  std::vector<float> inputs;
  int32_t num_blocks = 0, cols = 3 * heads * head_dim;
  for (Matrix* row : rows) {
    std::vector<int32_t> blocks(static_cast<size_t>((row->rows + 15) / 16));
    std::iota(blocks.begin(), blocks.end(), num_blocks);
    num_blocks += static_cast<int32_t>(blocks.size());
    batch.AddRow(row->rows, 0, blocks);
    inputs.insert(inputs.end(), row->data.begin(), row->data.end());
  }
  Matrix qkv(static_cast<int32_t>(inputs.size()) / cols, cols);
  qkv.data = inputs;
  Matrix out(qkv.rows, heads * head_dim);
  KvLayer kv{nullptr, num_blocks, 16, heads, head_dim};
  auto memory = ops->Allocate(num_blocks * ops->KvBlockBytes(kv));
  kv.data = *memory;
  ops->BeginStep(batch.view());
  ops->RopeAndStoreKv(qkv.view(), heads, {}, kv);
  AttentionParams params{.scale = 1 / std::sqrt(static_cast<float>(head_dim))};
  params.causal = false;
  ops->Attention(qkv.view().Columns(0, out.cols), heads, params, kv, out.view());
  EXPECT_TRUE(ops->Finish().ok());
  return out.data;
}

TEST(AttentionBothWays, SeesTheWholeRowAndNothingElseInEveryForm) {
  constexpr int32_t kHeads = 3, kDim = 20, kCols = 3 * kHeads * kDim;
  std::vector<Matrix> inputs;
  for (const int32_t length : {1, 7, 64, 300, 3})
    inputs.emplace_back(length, kCols, static_cast<uint32_t>(length));
  for (Matrix& input : inputs) {  // what an f16 cache holds exactly
    for (float& v : input.data) v = reference::HalfToFloat(reference::FloatToHalf(v));
  }
  std::vector<Matrix*> all;
  for (Matrix& input : inputs) all.push_back(&input);
  const std::vector<float> together = AttendBothWays({CpuIsa::kScalar, 1}, all, kHeads, kDim);
  for (const CpuSetting& setting : CpuSettings())
    EXPECT_EQ(AttendBothWays(setting, all, kHeads, kDim), together) << ToString(setting);
  size_t at = 0;
  for (Matrix& input : inputs) {
    const std::vector<float> alone = AttendBothWays({BestCpuIsa(), 2}, {&input}, kHeads, kDim);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + at)) << input.rows;
    at += alone.size();
    for (const int32_t token : {0, input.rows - 1}) {
      for (int32_t head = 0; head < kHeads; ++head) {
        const AttentionParams params{.scale = 1 / std::sqrt(static_cast<float>(kDim))};
        const float* keys = input.data.data() + (kHeads + head) * kDim;
        const std::vector<double> expected =
            reference::Attend(input.row(token).subspan(static_cast<size_t>(head) * kDim, kDim),
                              keys, keys + kHeads * kDim, kCols, input.rows - 1, params);
        for (int32_t d = 0; d < kDim; ++d) {
          EXPECT_NEAR(alone[(static_cast<size_t>(token) * kHeads + head) * kDim + d], expected[d],
                      2e-5);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice
