// The linear ops: against double precision, and the promise that a row's bits depend on nothing but
// the row.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/weight_bytes.h"

namespace sluice {
namespace {

constexpr int32_t kRowCounts[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 129};
constexpr int32_t kMostRows = 129;

std::vector<CpuIsa> Forms() {
  std::vector<CpuIsa> forms;
  for (const CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (CpuSupports(isa)) forms.push_back(isa);
  }
  return forms;
}

std::vector<float> Activations(int32_t rows, int32_t cols) {
  std::mt19937 random(7);
  std::normal_distribution<float> value;
  std::vector<float> x(static_cast<size_t>(rows) * static_cast<size_t>(cols));
  for (float& v : x) v = value(random);
  for (int32_t i = 0; i < 32 && i < cols; ++i) x[static_cast<size_t>(i)] = 0;  // a block of zeros
  return x;
}

// One backend and one loaded op.
class Subject {
 public:
  Subject(CpuIsa isa, int32_t threads, std::span<const WeightView> parts) {
    auto ops = CreateCpuOps({isa, threads});
    EXPECT_TRUE(ops.ok()) << ops.status();
    ops_ = *std::move(ops);
    auto linear = ops_->LoadLinear(parts);
    EXPECT_TRUE(linear.ok()) << linear.status();
    linear_ = *linear;
  }

  // x [rows, cols], residual empty or [rows, outputs]; the result has no padding.
  std::vector<float> Run(std::span<const float> x, int32_t rows,
                         std::span<const float> residual = {}) {
    Tensor in{const_cast<float*>(x.data()), rows, linear_.cols, linear_.cols};
    std::vector<float> out(static_cast<size_t>(rows) * static_cast<size_t>(linear_.rows), -1.0F);
    Tensor to{out.data(), rows, linear_.rows, linear_.rows};
    Tensor add;
    if (!residual.empty()) {
      std::copy(residual.begin(), residual.begin() + static_cast<int64_t>(out.size()), out.begin());
      add = to;  // in place, as the transformer does it
    }
    ops_->BeginStep(BatchView{});
    ops_->MatMul(in, linear_, add, to);
    const absl::Status status = ops_->Finish();
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  [[nodiscard]] int32_t outputs() const { return linear_.rows; }

 private:
  std::unique_ptr<Ops> ops_;
  Linear linear_;
};

struct Case {
  DType dtype;
  int64_t rows, cols;
};
std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(GetDTypeInfo(info.param.dtype).name) + "_" + std::to_string(info.param.rows) +
         "x" + std::to_string(info.param.cols);
}

class LinearOp : public testing::TestWithParam<Case> {
 protected:
  LinearOp() : weights_(GetParam().dtype, GetParam().rows, GetParam().cols, 3) {}
  [[nodiscard]] int32_t cols() const { return static_cast<int32_t>(GetParam().cols); }
  [[nodiscard]] std::span<const WeightView> parts() const { return {&weights_.view, 1}; }

  RandomWeights weights_;
};

// The rounding of an f32 sum: 2^-24 of all that is added, each time something is: twice a block of
// 32 (values and minima), and once or twice for the factors. The integers below 2^24 and their
// products with f16 numbers are exact. Float weights: once an element.
void ExpectDoublePrecision(const RandomWeights& weights) {
  const int32_t rows = 5;
  const auto cols = static_cast<int32_t>(weights.view.cols);
  std::vector<float> x = Activations(rows, cols);
  const Tensor in{x.data(), rows, cols, cols};
  const std::span<const WeightView> parts(&weights.view, 1);
  const bool quantised = GetDTypeInfo(weights.view.dtype).block_elements > 1;
  const std::vector<double> want =
      quantised ? reference::MatMulInt8(in, parts) : reference::MatMul(in, parts);
  const std::vector<double> magnitude = weights.Magnitude(in);
  const double terms = quantised ? 2.0 * cols / 32 + 4 : cols + 1;
  for (const CpuIsa isa : Forms()) {
    const std::vector<float> got = Subject(isa, 1, parts).Run(x, rows);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], magnitude[i] * terms * 0x1p-24 + 1e-30)
          << CpuIsaName(isa) << " element " << i;
    }
  }
}

TEST_P(LinearOp, MatchesDoublePrecisionInEveryForm) { ExpectDoublePrecision(weights_); }

TEST_P(LinearOp, MatchesDoublePrecisionWithScalesOfAnySize) {
  weights_.SpreadScales(11);
  if (GetParam().dtype == DType::kBF16) return;  // has no f16 numbers
  ExpectDoublePrecision(weights_);
}

TEST_P(LinearOp, ARowHasTheSameBitsInEveryBatchFormAndThreadCount) {
  const std::vector<float> x = Activations(kMostRows, cols());
  Subject alone(CpuIsa::kScalar, 1, parts());
  std::vector<float> want;
  for (int32_t r = 0; r < kMostRows; ++r) {
    const std::vector<float> row =
        alone.Run(std::span(x).subspan(static_cast<size_t>(r * cols())), 1);
    want.insert(want.end(), row.begin(), row.end());
  }
  for (const CpuIsa isa : Forms()) {
    for (const int32_t threads : {1, 2, 3}) {
      Subject subject(isa, threads, parts());
      for (const int32_t rows : kRowCounts) {
        const std::vector<float> got = subject.Run(x, rows);
        ASSERT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0)
            << CpuIsaName(isa) << ", " << threads << " threads, " << rows << " rows";
      }
    }
  }
}

TEST_P(LinearOp, AddsTheResidualLastAndInPlace) {
  const int32_t rows = 13;
  const std::vector<float> x = Activations(rows, cols());
  for (const CpuIsa isa : Forms()) {
    Subject subject(isa, 2, parts());
    const std::vector<float> plain = subject.Run(x, rows);
    const std::vector<float> residual = Activations(rows, subject.outputs());
    const std::vector<float> got = subject.Run(x, rows, residual);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(got[i], plain[i] + residual[i]) << CpuIsaName(isa) << " " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearOp,
                         testing::Values(Case{DType::kQ4_1, 960, 576}, Case{DType::kQ4_1, 17, 96},
                                         Case{DType::kQ4_1, 1, 32}, Case{DType::kQ4_1, 31, 1536},
                                         Case{DType::kQ4_0, 64, 576}, Case{DType::kQ4_0, 23, 64},
                                         Case{DType::kQ8_0, 80, 576}, Case{DType::kQ8_0, 9, 32},
                                         Case{DType::kQ8_0, 33, 544}, Case{DType::kF32, 70, 100},
                                         Case{DType::kF32, 5, 1}, Case{DType::kF16, 130, 64},
                                         Case{DType::kF16, 16, 33}, Case{DType::kBF16, 65, 576},
                                         Case{DType::kBF16, 3, 7}, Case{DType::kQ5_0, 33, 544},
                                         Case{DType::kQ5_0, 9, 32}, Case{DType::kQ5_1, 33, 544},
                                         Case{DType::kQ5_1, 9, 32}, Case{DType::kIq4Nl, 33, 544},
                                         Case{DType::kIq4Nl, 9, 32}, Case{DType::kQ2K, 33, 512},
                                         Case{DType::kQ2K, 9, 256}, Case{DType::kQ3K, 33, 512},
                                         Case{DType::kQ3K, 9, 256}, Case{DType::kQ4K, 33, 768},
                                         Case{DType::kQ4K, 9, 256}, Case{DType::kQ5K, 33, 512},
                                         Case{DType::kQ5K, 9, 256}, Case{DType::kQ6K, 33, 768},
                                         Case{DType::kQ6K, 9, 256}),
                         CaseName);

// Where a block keeps its small integer scales.
struct ScaleBytes {
  size_t begin, end;
};
ScaleBytes ScaleBytesOf(DType dtype) {
  switch (dtype) {
    case DType::kQ2K:
      return {0, 16};
    case DType::kQ3K:
      return {96, 108};
    case DType::kQ4K:
    case DType::kQ5K:
      return {4, 16};
    case DType::kQ6K:
      return {192, 208};
    default:
      return {0, 0};
  }
}

// Integer extremes: every product at its largest, so that an overflowing or saturating intermediate
// shows.
class LinearExtremes : public testing::TestWithParam<DType> {};

TEST_P(LinearExtremes, LargestIntegersAreExactInEveryForm) {
  constexpr int32_t kCols = 512;
  const DType dtype = GetParam();
  const ScaleBytes scales = ScaleBytesOf(dtype);
  for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
    for (const int scale_fill : {0x00, 0x7f, 0x80, 0xff}) {
      RandomWeights weights(dtype, 16, kCols, 1);
      for (size_t at = 0; at < weights.bytes.size(); at += weights.block_bytes()) {
        std::memset(&weights.bytes[at], fill, weights.block_bytes());
        std::memset(&weights.bytes[at + scales.begin], scale_fill, scales.end - scales.begin);
        SetBlockScales(dtype, &weights.bytes[at], 0.01F, -0.03F);
      }
      std::vector<float> x(kCols, 1.0F);
      for (size_t i = 0; i < kCols; i += 2) x[i] = fill == 0x80 ? -1.0F : 1.0F;
      const Tensor in{x.data(), 1, kCols, kCols};
      const std::span<const WeightView> parts(&weights.view, 1);
      const std::vector<double> want = reference::MatMulInt8(in, parts);
      const std::vector<double> magnitude = weights.Magnitude(in);
      for (const CpuIsa isa : Forms()) {
        const std::vector<float> got = Subject(isa, 1, parts).Run(x, 1);
        for (size_t i = 0; i < want.size(); ++i) {
          ASSERT_NEAR(got[i], want[i], magnitude[i] * (2.0 * kCols / 32 + 4) * 0x1p-24)
              << CpuIsaName(isa) << " fill " << fill << " scales " << scale_fill;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, LinearExtremes,
                         testing::Values(DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                         DType::kQ5_1, DType::kQ2K, DType::kQ3K, DType::kQ4K,
                                         DType::kQ5K, DType::kQ6K, DType::kIq4Nl),
                         [](const auto& info) {
                           return std::string(GetDTypeInfo(info.param).name);
                         });

TEST(LinearInputs, ANonFiniteActivationMakesItsRowNanAndNoOther) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    RandomWeights weights(DType::kQ4_1, 40, 96, 5);
    const std::span<const WeightView> parts(&weights.view, 1);
    std::vector<float> x = Activations(6, 96);
    const std::vector<float> clean = Subject(CpuIsa::kScalar, 1, parts).Run(x, 6);
    x[3 * 96 + 50] = bad;
    for (const CpuIsa isa : Forms()) {
      const std::vector<float> got = Subject(isa, 2, parts).Run(x, 6);
      for (size_t i = 0; i < got.size(); ++i) {
        if (i / 40 == 3) {
          ASSERT_TRUE(std::isnan(got[i])) << CpuIsaName(isa);
        } else {
          ASSERT_EQ(got[i], clean[i]) << CpuIsaName(isa);
        }
      }
    }
  }
}

TEST(LinearInputs, HugeAndTinyActivationsStayFinite) {
  RandomWeights weights(DType::kQ8_0, 16, 32, 5);
  const std::span<const WeightView> parts(&weights.view, 1);
  for (const float size : {3e38F, 1e30F, 2e-30F, 1e-30F, 1e-38F, 1e-45F}) {
    std::vector<float> x(32, 0.0F);
    x[4] = size;
    x[9] = -size / 2;
    const std::vector<float> want = Subject(CpuIsa::kScalar, 1, parts).Run(x, 1);
    for (const float v : want) ASSERT_FALSE(std::isnan(v)) << size;
    for (const CpuIsa isa : Forms())
      ASSERT_EQ(Subject(isa, 1, parts).Run(x, 1), want) << CpuIsaName(isa) << size;
  }
}

TEST(LinearStack, PartsOfDifferentTypesFollowEachOther) {
  constexpr int32_t kCols = 256;
  constexpr size_t kOutputs = 20 + 7 + 33 + 5 + 18 + 3;
  const RandomWeights a(DType::kQ4_1, 20, kCols, 1);
  const RandomWeights b(DType::kQ4_1, 7, kCols, 2);
  const RandomWeights c(DType::kQ8_0, 33, kCols, 3);
  const RandomWeights d(DType::kF16, 5, kCols, 4);
  const RandomWeights e(DType::kQ4K, 18, kCols, 5);
  const RandomWeights f(DType::kQ6K, 3, kCols, 6);
  const std::vector<WeightView> parts = {a.view, b.view, c.view, d.view, e.view, f.view};
  for (const int32_t rows : {1, 6, 140}) {
    std::vector<float> x = Activations(rows, kCols);
    for (const CpuIsa isa : Forms()) {
      const std::vector<float> got = Subject(isa, 2, parts).Run(x, rows);
      size_t column = 0;
      for (const WeightView& part : parts) {
        const std::vector<float> want = Subject(isa, 1, std::span(&part, 1)).Run(x, rows);
        const auto width = static_cast<size_t>(part.rows);
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
          ASSERT_EQ(
              std::memcmp(&got[r * kOutputs + column], &want[r * width], width * sizeof(float)), 0)
              << CpuIsaName(isa) << " row " << r << " column " << column;
        }
        column += width;
      }
    }
  }
}

TEST(LinearStack, ShapesItCannotHoldAreErrorsThatSayWhy) {
  auto ops = CreateCpuOps({CpuIsa::kScalar, 1});
  ASSERT_TRUE(ops.ok());
  const RandomWeights a(DType::kF32, 2, 64, 1);
  const RandomWeights b(DType::kF32, 2, 32, 1);
  const std::vector<WeightView> unequal = {a.view, b.view};
  EXPECT_EQ((*ops)->LoadLinear(unequal).status().message(),
            "stacked weights have 64 and 32 columns; they must have equal columns");
  EXPECT_EQ((*ops)->LoadLinear({}).status().message(), "a linear op has no weights");
  const WeightView ragged{DType::kQ4_1, 2, 40, a.bytes.data()};
  EXPECT_EQ((*ops)->LoadLinear(std::span(&ragged, 1)).status().message(),
            "a Q4_1 weight has shape 2 x 40; columns must be a multiple of 32");
  const WeightView ragged_super{DType::kQ6K, 2, 288, a.bytes.data()};
  EXPECT_EQ((*ops)->LoadLinear(std::span(&ragged_super, 1)).status().message(),
            "a Q6_K weight has shape 2 x 288; columns must be a multiple of 256");
}

TEST(LinearStack, AStepMayHoldManyOpsOfGrowingSize) {
  const RandomWeights small(DType::kQ4_1, 64, 32, 1);
  const RandomWeights large(DType::kQ4_1, 16, 64, 2);
  auto ops = CreateCpuOps({BestCpuIsa(), 2});
  ASSERT_TRUE(ops.ok());
  const Linear first = *(*ops)->LoadLinear(std::span(&small.view, 1));
  const Linear second = *(*ops)->LoadLinear(std::span(&large.view, 1));
  std::vector<float> x = Activations(40, 32);
  std::vector<float> y(40 * 64);
  std::vector<float> z(40 * 16);
  const Tensor tx{x.data(), 40, 32, 32};
  const Tensor ty{y.data(), 40, 64, 64};
  const Tensor tz{z.data(), 40, 16, 16};
  (*ops)->BeginStep(BatchView{});
  (*ops)->MatMul(tx, first, {}, ty);
  (*ops)->MatMul(ty, second, {}, tz);
  ASSERT_TRUE((*ops)->Finish().ok());
  const std::vector<float> want_y =
      Subject(CpuIsa::kScalar, 1, std::span(&small.view, 1)).Run(x, 40);
  EXPECT_EQ(y, want_y);
  EXPECT_EQ(z, Subject(CpuIsa::kScalar, 1, std::span(&large.view, 1)).Run(want_y, 40));
}

TEST(LinearVector, HalvesBecomeFloatsExactly) {
  auto ops = CreateCpuOps({CpuIsa::kScalar, 1});
  ASSERT_TRUE(ops.ok());
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  auto f16 = (*ops)->LoadVector({DType::kF16, 1, 65536, halves.data()});
  auto bf16 = (*ops)->LoadVector({DType::kBF16, 1, 65536, halves.data()});
  ASSERT_TRUE(f16.ok() && bf16.ok());
  for (size_t i = 0; i < halves.size(); ++i) {
    const float want = reference::HalfToFloat(halves[i]);
    if (!std::isnan(want)) {
      ASSERT_EQ(f16->data[i], want) << i;
    }
    const float brain = reference::BFloat16ToFloat(halves[i]);
    if (!std::isnan(brain)) {
      ASSERT_EQ(bf16->data[i], brain) << i;
    }
  }
  const uint8_t block[34] = {};
  EXPECT_FALSE((*ops)->LoadVector({DType::kQ8_0, 1, 32, block}).ok());
}

}  // namespace
}  // namespace sluice
