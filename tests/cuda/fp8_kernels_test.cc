// Products with matrices of e4m3, by x as e4m3 and by x as f16, and the rounding of x.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "kernels/cuda/packed_weights.h"
#include "tests/cuda/device_fixture.h"
#include "tests/cuda/product_case.h"
#include "tests/kernels/reference.h"

namespace sluice::cuda {
namespace {

class Fp8Kernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, Fp8Kernels, ::testing::Values(0, 1, 2));

// The code of a number that e4m3 has.
uint8_t CodeOf(double value) {
  for (int code = 0; code < 256; ++code) {
    if (reference::E4m3ToDouble(static_cast<uint8_t>(code)) == value)
      return static_cast<uint8_t>(code);
  }
  ADD_FAILURE() << value;
  return 0;
}

// What a loader makes: for every 32 columns of a row an f32 scale and the codes.
struct Fp8Matrix {
  Fp8Matrix(int rows, int cols, const std::function<uint8_t(int n, int k)>& code,
            const std::function<float(int n, int b)>& scale)
      : view{DType::kFp8, rows, cols, nullptr} {
    for (int n = 0; n < rows; ++n) {
      for (int k = 0; k < cols; ++k) {
        if (k % 32 == 0) {
          const float s = scale(n, k / 32);
          bytes.resize(bytes.size() + sizeof s);
          std::memcpy(&bytes[bytes.size() - sizeof s], &s, sizeof s);
        }
        bytes.push_back(code(n, k));
      }
    }
    view.data = bytes.data();
  }
  [[nodiscard]] PackedWeights Packed() const { return PackWeights(view, 2); }
  std::vector<uint8_t> bytes;
  WeightView view;
};

// Scales of rows, and of blocks of 8 x 32: powers of two.
float RowScale(int n, int /*b*/) { return std::ldexp(1.0F, n % 5 - 2); }
float BlockScale(int n, int b) { return std::ldexp(1.0F, (n / 8 + 2 * b) % 5 - 2); }

struct DeviceFp8 {
  DeviceFp8(int32_t rows, int32_t k)
      : columns(HalvesColumns(k)),
        codes(static_cast<size_t>(rows) * columns),
        scale(static_cast<size_t>(rows)) {}
  [[nodiscard]] Fp8Rows rows() const { return {codes.data(), scale.data(), columns}; }
  int32_t columns;
  DeviceArray<uint8_t> codes;
  DeviceArray<float> scale;
};

enum class By { kFp8, kRows, kTiled };

// W x + residual by one of the three kernels, [rows * n].
std::vector<float> Product(By by, const DeviceMatrix& matrix, const DeviceTensor& x, int rows,
                           int k, const DeviceTensor* residual = nullptr) {
  const int n = matrix.args().rows, stride = n + 3;
  const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(rows) * stride, -77));
  const DeviceFp8 fp8(rows, k);
  const DeviceHalves halves(rows, k);
  const LinearArgs args = matrix.Product(halves, rows, out.data(), stride, residual);
  if (by == By::kFp8) {
    EXPECT_EQ(ToFp8(x.tensor(), fp8.rows(), nullptr), cudaSuccess);
    EXPECT_EQ(LinearFp8(args, fp8.rows(), nullptr), cudaSuccess);
  } else {
    EXPECT_EQ(ToHalves(x.tensor(), halves.halves(), nullptr), cudaSuccess);
    EXPECT_EQ(by == By::kRows ? LinearRows(args, nullptr) : LinearTiled(args, {}, nullptr),
              cudaSuccess);
  }
  std::vector<float> values;
  const std::vector<float> all = out.Read();
  for (size_t i = 0; i < all.size(); ++i) {
    if (i % static_cast<size_t>(stride) < static_cast<size_t>(n)) {
      values.push_back(all[i]);
    } else {
      EXPECT_EQ(all[i], -77) << "written behind a row";
    }
  }
  return values;
}

// 448 in every row makes the scale 1, and each of these is an e4m3 number.
float E4m3X(int r, int k) { return k == 5 ? 448 : X(r, k); }

TEST_P(Fp8Kernels, ProductsOfWholeNumbersAreExact) {
  constexpr int kN = 40, kK = 608;
  for (const auto scale : {RowScale, BlockScale}) {
    const Fp8Matrix file(kN, kK, [](int n, int k) { return CodeOf(Weight(n, k)); }, scale);
    const DeviceMatrix matrix(file.Packed());
    for (const int rows : {1, 9, 17, 40, 130}) {
      const DeviceTensor x(rows, kK, E4m3X), residual(rows, kN, Rest);
      for (const By by : {By::kFp8, rows > 17 ? By::kTiled : By::kRows}) {
        const std::vector<float> got = Product(by, matrix, x, rows, kK, &residual);
        for (int r = 0; r < rows; ++r) {
          for (int n = 0; n < kN; ++n) {
            float sum = Rest(r, n);
            for (int k = 0; k < kK; ++k)
              sum += static_cast<float>(Weight(n, k)) * scale(n, k / 32) * E4m3X(r, k);
            ASSERT_EQ(got[static_cast<size_t>(r) * kN + n], sum)
                << rows << " rows: " << r << ", " << n;
          }
        }
      }
    }
  }
}

// Every number that e4m3 has, in every column, by an x of one element.
TEST_P(Fp8Kernels, AProductWithOneElementIsTheNumber) {
  constexpr int kN = 16, kK = 96;
  const auto code = [](int n, int k) {
    const int c = (n * 97 + k * 3) % 256;
    return static_cast<uint8_t>(c % 128 == 127 ? 0 : c);
  };
  const Fp8Matrix file(kN, kK, code, RowScale);
  const DeviceMatrix matrix(file.Packed());
  const DeviceTensor x(kK, kK, [](int r, int k) { return r == k ? 0.875F : 0.0F; });
  for (const By by : {By::kFp8, By::kRows, By::kTiled}) {
    const std::vector<float> got = Product(by, matrix, x, kK, kK);
    for (int r = 0; r < kK; ++r) {
      for (int n = 0; n < kN; ++n) {
        const double wanted = 0.875 * reference::E4m3ToDouble(code(n, r)) * RowScale(n, 0);
        ASSERT_EQ(got[static_cast<size_t>(r) * kN + n], wanted) << r << ", " << n;
      }
    }
  }
}

// Scales and x of any size against the product in double: over x rounded as the kernel has to, what
// differs is f32 sums of K / 32 + 8 terms and scales that are rounded once; over x as it is, that
// x is off by 2^-4 of itself or 2^-10 of its row's scale.
TEST_P(Fp8Kernels, RandomProductsAreThoseOfTheRoundedNumbers) {
  constexpr int kN = 44, kK = 544, kRows = 20;
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  std::normal_distribution<float> normal;
  std::vector<float> scales(size_t{kN} * kK), values(size_t{kRows} * kK);
  for (float& s : scales) s = 0.01F + std::abs(normal(random));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = normal(random) * std::ldexp(1.0F, static_cast<int>(i % 7) - 9);
  std::vector<uint8_t> codes(scales.size());
  for (uint8_t& c : codes) {
    const auto drawn = static_cast<uint8_t>(random());
    c = drawn % 128 == 127 ? 0 : drawn;
  }
  const Tensor host{values.data(), kRows, kK, kK};
  const DeviceTensor x(kRows, kK, [&](int r, int k) { return values[size_t(r) * kK + k]; });
  for (const bool blocks : {false, true}) {
    const Fp8Matrix file(
        kN, kK, [&](int n, int k) { return codes[size_t(n) * kK + k]; },
        [&](int n, int b) { return scales[blocks ? size_t(n / 8) * kK + b : size_t(n)]; });
    const DeviceMatrix matrix(file.Packed());
    const WeightView parts[] = {file.view};
    const auto exact = reference::MatMul(host, parts),
               magnitude = reference::MatMulMagnitude(host, parts);
    const auto rounded = reference::MatMulFp8(host, parts);
    std::vector<float> ones(kK, 1);
    const auto weights = reference::MatMulMagnitude({ones.data(), 1, kK, kK}, parts);
    const std::vector<float> fp8 = Product(By::kFp8, matrix, x, kRows, kK);
    const std::vector<float> half = Product(By::kRows, matrix, x, kRows, kK);
    for (size_t i = 0; i < exact.size(); ++i) {
      const size_t r = i / kN;
      float top = 0;
      for (int k = 0; k < kK; ++k) top = std::max(top, std::abs(values[r * kK + k]));
      const double off = magnitude[i] * 0x1p-4 + weights[i % kN] * top / 448 * 0x1p-10;
      ASSERT_NEAR(fp8[i], rounded[i], magnitude[i] * 0x1p-19) << i;
      ASSERT_NEAR(fp8[i], exact[i], off + magnitude[i] * 0x1p-19) << i;
      // x is rounded to f16.
      ASSERT_NEAR(half[i], exact[i], magnitude[i] * 0x1p-11 + weights[i % kN] * top * 0x1p-24) << i;
    }
  }
}

TEST_P(Fp8Kernels, ARowHasTheSameBitsAmongAnyOthers) {
  constexpr int kN = 24, kK = 1184, kRows = 150;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> values(size_t{kRows} * kK);
  for (float& v : values) v = normal(random);
  const Fp8Matrix file(
      kN, kK, [](int n, int k) { return static_cast<uint8_t>((n * 31 + k * 7) % 127); },
      [](int n, int b) { return 0.1F + static_cast<float>(n / 8 + b); });
  const DeviceMatrix matrix(file.Packed());
  const auto x = [&](int r, int k) { return values[size_t(r) * kK + k]; };
  const auto all = Product(By::kFp8, matrix, DeviceTensor(kRows, kK, x), kRows, kK);
  for (const int rows : {1, 8, 9, 17, 33}) {
    const auto some = Product(By::kFp8, matrix, DeviceTensor(rows, kK, x), rows, kK);
    for (size_t i = 0; i < some.size(); ++i) ASSERT_EQ(some[i], all[i]) << rows << ": " << i;
  }
}

TEST_P(Fp8Kernels, ManyOutputsTakeTwoPanelsABlock) {
  constexpr int kN = 4096 + 8, kK = 64;
  const Fp8Matrix file(kN, kK, [](int n, int k) { return CodeOf(Weight(n % 64, k)); }, RowScale);
  const DeviceMatrix matrix(file.Packed());
  const std::vector<float> got = Product(By::kFp8, matrix, DeviceTensor(1, kK, E4m3X), 1, kK);
  for (int n = 0; n < kN; ++n) {
    float sum = 0;
    for (int k = 0; k < kK; ++k)
      sum += static_cast<float>(Weight(n % 64, k)) * RowScale(n, 0) * E4m3X(0, k);
    ASSERT_EQ(got[n], sum) << n;
  }
}

TEST_P(Fp8Kernels, RowsAreRoundedToTheNearestByTheirLargest) {
  constexpr int kRows = 5, kK = 600;
  const auto value = [](int r, int k) {
    if (r == 1) return 0.0F;
    if (r == 4) {  // the largest, so that the scale is 1, and numbers in the middle of two
      if (k == 0) return 448.0F;
      const float digits = static_cast<float>(k % 8) + 0.5F;
      return k % 3 == 0 ? std::ldexp(digits, -9) : std::ldexp(8 + digits, k % 13 - 9);
    }
    if (r == 2) return std::ldexp(1.0F, -k / 2) * (k % 2 == 0 ? 1.0F : -1.4F);
    return std::sin(static_cast<float>(k * (r + 1))) * (r == 3 ? 1e20F : 1.0F);
  };
  const DeviceTensor x(kRows, kK, value);
  const DeviceFp8 fp8(kRows, kK);
  ASSERT_EQ(ToFp8(x.tensor(), fp8.rows(), nullptr), cudaSuccess);
  const std::vector<uint8_t> codes = fp8.codes.Read();
  const std::vector<float> scale = fp8.scale.Read();
  for (int r = 0; r < kRows; ++r) {
    std::vector<float> row;
    for (int k = 0; k < kK; ++k) row.push_back(value(r, k));
    const std::vector<double> wanted = reference::RoundToFp8(row);
    for (int k = 0; k < fp8.columns; ++k) {
      const int at = k / 32 * 32 + k % 8 / 2 * 8 + k % 32 / 8 * 2 + k % 2;
      const double got =
          reference::E4m3ToDouble(codes[size_t(r) * fp8.columns + at]) * double{scale[r]};
      ASSERT_EQ(got, k < kK ? wanted[k] : 0) << r << ", " << k;
    }
  }
}

// What norms and gates leave for the product behind them is what a launch of its own would make.
TEST_P(Fp8Kernels, NormsAndGatesRoundWhatTheyWrite) {
  constexpr int kRows = 3;
  const auto value = [](int r, int k) {
    return r == 1 ? 0.0F : std::sin(static_cast<float>(k * (r + 2))) * 3;
  };
  for (const int cols : {33, 600}) {
    const DeviceTensor x(kRows, cols, value), gate_up(kRows, 2 * cols, value), out(kRows, cols);
    const DeviceTensor weight(1, cols, [](int, int k) { return static_cast<float>(k % 5) - 2; });
    for (const bool norm : {true, false}) {
      const DeviceFp8 fused(kRows, cols), apart(kRows, cols);
      ASSERT_EQ(norm ? RmsNorm({.x = x.tensor(),
                                .weight = weight.tensor().data,
                                .eps = 1e-5F,
                                .group = cols,
                                .residual = {},
                                .out = out.tensor(),
                                .halves = {},
                                .fp8 = fused.rows()},
                               nullptr)
                     : GateMul({.gate_up = gate_up.tensor(),
                                .activation = Activation::kSilu,
                                .out = out.tensor(),
                                .halves = {},
                                .fp8 = fused.rows()},
                               nullptr),
                cudaSuccess);
      ASSERT_EQ(ToFp8(out.tensor(), apart.rows(), nullptr), cudaSuccess);
      EXPECT_EQ(fused.codes.Read(), apart.codes.Read()) << cols << " columns, norm " << norm;
      EXPECT_EQ(fused.scale.Read(), apart.scale.Read()) << cols << " columns, norm " << norm;
    }
  }
}

TEST_P(Fp8Kernels, ANumberThatIsNoneStaysOne) {
  constexpr int kK = 64;
  for (const float bad : {std::nanf(""), INFINITY}) {
    const DeviceTensor x(2, kK, [&](int r, int k) { return r == 0 && k == 3 ? bad : 1.0F; });
    const Fp8Matrix file(16, kK, [](int, int) { return CodeOf(1); }, RowScale);
    const std::vector<float> got = Product(By::kFp8, DeviceMatrix(file.Packed()), x, 2, kK);
    for (int n = 0; n < 16; ++n) {
      EXPECT_FALSE(std::isfinite(got[n])) << n;
      EXPECT_NEAR(got[16 + n], kK * RowScale(n, 0), 1e-4) << n;
    }
  }
}

TEST_P(Fp8Kernels, ExpertsTakeTheirOwnRows) {
  constexpr int kExperts = 3, kN = 24, kK = 96, kRows = 70;
  const std::vector<int32_t> begin = {0, 0, 9, kRows}, active = {2, 1, 2, 0};
  std::vector<uint8_t> tiles;
  std::vector<float> scales;
  PackedWeights packed;
  for (int e = 0; e < kExperts; ++e) {  // expert e is the matrix times 2^e
    const Fp8Matrix file(
        kN, kK, [](int n, int k) { return CodeOf(Weight(n, k)); },
        [e](int n, int b) { return BlockScale(n, b) * static_cast<float>(1 << e); });
    packed = PackWeights(file.view);
    tiles.insert(tiles.end(), packed.tiles.begin(), packed.tiles.end());
    scales.insert(scales.end(), packed.row_scale.begin(), packed.row_scale.end());
  }
  const DeviceArray<uint8_t> weights(tiles);
  const DeviceArray<float> row_scale(scales);
  const DeviceArray<int32_t> begins(begin), actives(active);
  const DeviceTensor x(kRows, kK, E4m3X), out(kRows, kN);
  const DeviceFp8 fp8(kRows, kK);
  LinearArgs args{.format = packed.format,
                  .weights = weights.data(),
                  .row_scale = row_scale.data(),
                  .rows = kN,
                  .columns = packed.columns,
                  .x = {},
                  .num_x_rows = kRows,
                  .out = out.tensor().data,
                  .out_stride = out.tensor().stride,
                  .begin = begins.data(),
                  .active = actives.data(),
                  .expert_bytes = static_cast<int64_t>(packed.tiles.size()),
                  .max_active = kExperts};
  ASSERT_EQ(ToFp8(x.tensor(), fp8.rows(), nullptr), cudaSuccess);
  ASSERT_EQ(LinearFp8(args, fp8.rows(), nullptr), cudaSuccess);
  const std::vector<float> got = out.Read();
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < kN; ++n) {
      float sum = 0;
      for (int k = 0; k < kK; ++k)
        sum += static_cast<float>(Weight(n, k)) * BlockScale(n, k / 32) * E4m3X(r, k);
      ASSERT_EQ(got[static_cast<size_t>(r) * kN + n], sum * (r < 9 ? 2 : 4)) << r << ", " << n;
    }
  }
}

TEST_P(Fp8Kernels, EmbeddingsAreTheRowsThatTokensName) {
  constexpr int kN = 40, kK = 96;
  for (const auto scale : {RowScale, BlockScale}) {
    const Fp8Matrix file(kN, kK, [](int n, int k) { return CodeOf(Weight(n, k)); }, scale);
    const DeviceMatrix matrix(file.Packed());
    const DeviceArray<int32_t> tokens(std::vector<int32_t>{3, 39, 12});
    const DeviceTensor out(3, kK);
    EmbedArgs args{.table = matrix.args(),
                   .batch = {},
                   .last_tokens = nullptr,
                   .scale = 2,
                   .out = out.tensor()};
    args.batch.tokens = tokens.data();
    ASSERT_EQ(Embed(args, nullptr), cudaSuccess);
    const std::vector<float> got = out.Read();
    constexpr int kToken[] = {3, 39, 12};
    for (int t = 0; t < 3; ++t) {
      for (int k = 0; k < kK; ++k) {
        ASSERT_EQ(got[size_t(t) * kK + k],
                  2 * static_cast<float>(Weight(kToken[t], k)) * scale(kToken[t], k / 32));
      }
    }
  }
}

TEST(Fp8Scales, FitWhereTheyAreOfRowsOrOfEightRows) {
  const auto fits = [](const std::function<float(int n, int b)>& scale) {
    const Fp8Matrix file(24, 96, [](int, int) { return CodeOf(1); }, scale);
    return ScalesFit(file.view);
  };
  EXPECT_TRUE(fits([](int n, int) { return static_cast<float>(n); }));
  EXPECT_TRUE(fits([](int n, int b) { return static_cast<float>(n / 8 * 3 + b); }));
  EXPECT_TRUE(fits([](int n, int b) { return static_cast<float>(n < 8 ? n : b); }));
  EXPECT_FALSE(fits([](int n, int b) { return static_cast<float>(n / 4 * 3 + b); }));
}

}  // namespace
}  // namespace sluice::cuda
