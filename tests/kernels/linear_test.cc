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

// Weights as a file holds them. Scales near 2^-6; every integer value occurs, -128 of Q8_0 too.
struct Weights {
  Weights(DType dtype, int64_t rows, int64_t cols, uint32_t seed)
      : view{dtype, rows, cols, nullptr} {
    std::mt19937 random(seed);
    bytes.resize(static_cast<size_t>(rows * view.row_bytes()));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    const DTypeInfo info = GetDTypeInfo(dtype);
    std::uniform_real_distribution<float> value(-0.05F, 0.05F);
    const auto put_half = [&](size_t at, float v) {
      const uint16_t half = reference::FloatToHalf(v);
      std::memcpy(&bytes[at], &half, 2);
    };
    for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
      const float v = value(random);
      switch (dtype) {
        case DType::kF32:
          std::memcpy(&bytes[at], &v, 4);
          break;
        case DType::kBF16:
          std::memcpy(&bytes[at], reinterpret_cast<const char*>(&v) + 2, 2);
          break;
        case DType::kQ4_1:
          put_half(at + 2, value(random));
          [[fallthrough]];
        default:
          put_half(at, v);
      }
    }
    view.data = bytes.data();
  }

  std::vector<uint8_t> bytes;
  WeightView view;
};

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

  Weights weights_;
};

TEST_P(LinearOp, MatchesDoublePrecisionInEveryForm) {
  const int32_t rows = 5;
  std::vector<float> x = Activations(rows, cols());
  const Tensor in{x.data(), rows, cols(), cols()};
  const bool quantised = GetDTypeInfo(GetParam().dtype).block_elements > 1;
  const std::vector<double> want =
      quantised ? reference::MatMulInt8(in, parts()) : reference::MatMul(in, parts());
  const std::vector<double> magnitude = reference::MatMulMagnitude(in, parts());
  // Worst case of an f32 sum: one rounding (2^-24) a term; a quantised op has two a block, and its
  // scales one more.
  const double terms = quantised ? 2.0 * cols() / 32 + 4 : cols() + 1;
  for (const CpuIsa isa : Forms()) {
    const std::vector<float> got = Subject(isa, 1, parts()).Run(x, rows);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], magnitude[i] * terms * 0x1p-24 + 1e-30)
          << CpuIsaName(isa) << " element " << i;
    }
  }
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
                                         Case{DType::kBF16, 3, 7}),
                         CaseName);

// Integer extremes: every product at its largest, so that an overflowing intermediate shows.
TEST(LinearExtremes, LargestIntegersAreExactInEveryForm) {
  constexpr int32_t kCols = 64;
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ8_0}) {
    const DTypeInfo info = GetDTypeInfo(dtype);
    for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
      Weights weights(dtype, 16, kCols, 1);
      for (size_t at = 0; at < weights.bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
        const size_t header = dtype == DType::kQ4_1 ? 4 : 2;
        std::memset(&weights.bytes[at + header], fill,
                    static_cast<size_t>(info.block_bytes) - header);
      }
      std::vector<float> x(kCols, 1.0F);
      for (int32_t i = 0; i < kCols; i += 2)
        x[static_cast<size_t>(i)] = fill == 0x80 ? -1.0F : 1.0F;
      const Tensor in{x.data(), 1, kCols, kCols};
      const std::span<const WeightView> parts(&weights.view, 1);
      const std::vector<double> want = reference::MatMulInt8(in, parts);
      const std::vector<double> magnitude = reference::MatMulMagnitude(in, parts);
      for (const CpuIsa isa : Forms()) {
        const std::vector<float> got = Subject(isa, 1, parts).Run(x, 1);
        for (size_t i = 0; i < want.size(); ++i) {
          ASSERT_NEAR(got[i], want[i], magnitude[i] * 1e-6)
              << info.name << " " << CpuIsaName(isa) << " fill " << fill;
        }
      }
    }
  }
}

TEST(LinearExtremes, ANonFiniteActivationMakesItsRowNanAndNoOther) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    Weights weights(DType::kQ4_1, 40, 96, 5);
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

TEST(LinearExtremes, HugeAndTinyActivationsStayFinite) {
  Weights weights(DType::kQ8_0, 16, 32, 5);
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
  const Weights a(DType::kQ4_1, 20, 64, 1);
  const Weights b(DType::kQ4_1, 7, 64, 2);
  const Weights c(DType::kQ8_0, 33, 64, 3);
  const Weights d(DType::kF16, 5, 64, 4);
  const std::vector<WeightView> parts = {a.view, b.view, c.view, d.view};
  for (const int32_t rows : {1, 6, 140}) {
    std::vector<float> x = Activations(rows, 64);
    for (const CpuIsa isa : Forms()) {
      const std::vector<float> got = Subject(isa, 2, parts).Run(x, rows);
      size_t column = 0;
      for (const WeightView& part : parts) {
        const std::vector<float> want = Subject(isa, 1, std::span(&part, 1)).Run(x, rows);
        const auto width = static_cast<size_t>(part.rows);
        for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
          ASSERT_EQ(std::memcmp(&got[r * 65 + column], &want[r * width], width * sizeof(float)), 0)
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
  const Weights a(DType::kF32, 2, 64, 1);
  const Weights b(DType::kF32, 2, 32, 1);
  const std::vector<WeightView> unequal = {a.view, b.view};
  EXPECT_EQ((*ops)->LoadLinear(unequal).status().message(),
            "stacked weights have 64 and 32 columns; they must have equal columns");
  EXPECT_EQ((*ops)->LoadLinear({}).status().message(), "a linear op has no weights");
  const WeightView ragged{DType::kQ4_1, 2, 40, a.bytes.data()};
  EXPECT_EQ((*ops)->LoadLinear(std::span(&ragged, 1)).status().message(),
            "a Q4_1 weight has shape 2 x 40; columns must be a multiple of 32");
}

TEST(LinearStack, AStepMayHoldManyOpsOfGrowingSize) {
  const Weights small(DType::kQ4_1, 64, 32, 1);
  const Weights large(DType::kQ4_1, 16, 64, 2);
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
