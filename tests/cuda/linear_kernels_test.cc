// Products with packed matrices, and rows of them as embeddings, on whole numbers whose sums are
// exact: nothing may differ from plain loops.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cuda/packed_weights.h"
#include "tests/cuda/device_fixture.h"
#include "tests/cuda/product_case.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/weight_bytes.h"

namespace sluice::cuda {
namespace {

class LinearKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, LinearKernels, ::testing::Values(0, 1, 2));

// Of 32 columns of a row: what a file's block multiplies its codes with.
float ScaleOf(int n, int k) {
  constexpr float kScales[] = {1, 2, 0.5F};
  return kScales[(n + k / 32) % 3];
}
float Value(int n, int k) { return static_cast<float>(Weight(n, k)) * ScaleOf(n, k); }
// Element `at` of a super-block of Q4_K or Q5_K of row n: w times d times 1, 2, 3 or 4.
void PutSuperBlock(bool five, int n, int at, int w, float d, uint8_t* block) {
  const int b = at / 32, steps = (n + b) % 4 + 1;
  const int code = five ? 2 * (w + 7) : w + 7, minimum = (five ? 14 : 7) * steps;
  const auto half = static_cast<_Float16>(d);
  std::memcpy(block, &half, 2);
  std::memcpy(block + 2, &half, 2);
  uint8_t* parts = block + 4;  // the first four whole, the others in nibbles and two bits above
  if (at % 32 == 0 && b < 4) {
    parts[b] = static_cast<uint8_t>(parts[b] | steps);
    parts[4 + b] = static_cast<uint8_t>(parts[4 + b] | minimum);
  } else if (at % 32 == 0) {
    parts[4 + b] = static_cast<uint8_t>((steps & 15) | (minimum & 15) << 4);
    parts[b - 4] = static_cast<uint8_t>(parts[b - 4] | steps >> 4 << 6);
    parts[b] = static_cast<uint8_t>(parts[b] | minimum >> 4 << 6);
  }
  uint8_t& nibbles = block[(five ? 48 : 16) + at / 64 * 32 + at % 32];
  nibbles = static_cast<uint8_t>(nibbles | (code & 15) << (at / 32 % 2 * 4));
  if (five) block[16 + at % 32] = static_cast<uint8_t>(block[16 + at % 32] | code >> 4 << b);
}

// A matrix of whole and half numbers in a file's type: Value, or what the type makes of the same
// codes.
std::vector<uint8_t> File(DType dtype, int rows, int cols) {
  const DTypeInfo info = GetDTypeInfo(dtype);
  std::vector<uint8_t> bytes(static_cast<size_t>(rows) * cols / info.block_elements *
                             info.block_bytes);
  for (int n = 0; n < rows; ++n) {
    for (int k = 0; k < cols; ++k) {
      uint8_t* block = bytes.data() +
                       (static_cast<size_t>(n) * cols + k) / info.block_elements * info.block_bytes;
      const int w = Weight(n, k), at = k % 32;
      const auto scale = static_cast<_Float16>(ScaleOf(n, k));
      const auto nibble = [&](uint8_t* codes, int code) {
        codes[at % 16] = static_cast<uint8_t>(codes[at % 16] | code << (at < 16 ? 0 : 4));
      };
      switch (dtype) {
        case DType::kF32: {
          const float value = Value(n, k);
          std::memcpy(block, &value, 4);
          break;
        }
        case DType::kQ8_0:
          std::memcpy(block, &scale, 2);
          block[2 + at] = static_cast<uint8_t>(w);
          break;
        case DType::kQ4_0:
          std::memcpy(block, &scale, 2);
          nibble(block + 2, w + 8);
          break;
        case DType::kQ4_1: {
          const auto minimum = static_cast<_Float16>(-7 * ScaleOf(n, k));
          std::memcpy(block, &scale, 2);
          std::memcpy(block + 2, &minimum, 2);
          nibble(block + 4, w + 7);
          break;
        }
        case DType::kIq4Nl:
          std::memcpy(block, &scale, 2);
          nibble(block + 2, (w + 7 + k % 2) % 16);
          break;
        case DType::kQ4K:
        case DType::kQ5K:
          PutSuperBlock(dtype == DType::kQ5K, n, k % 256, w, ScaleOf(n, k / 256 * 32), block);
          break;
        default:
          break;
      }
    }
  }
  return bytes;
}
// A K that is no whole number of warps' tiles.
int ColumnsOf(DType dtype) { return GetDTypeInfo(dtype).block_elements == 256 ? 768 : 608; }
constexpr DType kTypes[] = {DType::kF32,   DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
                            DType::kIq4Nl, DType::kQ4K,  DType::kQ5K};

// The same with its view and the numbers that the reference reads in it.
struct FileMatrix {
  FileMatrix(DType dtype, int rows, int cols)
      : bytes(File(dtype, rows, cols)),
        view{.dtype = dtype, .rows = rows, .cols = cols, .data = bytes.data()},
        values(reference::Dequantize(view)) {}
  [[nodiscard]] float at(int n, int k) const {
    return static_cast<float>(values[static_cast<size_t>(n * view.cols + k)]);
  }
  std::vector<uint8_t> bytes;
  WeightView view;
  std::vector<double> values;
};

TEST_P(LinearKernels, ProductsOfWholeNumbersAreExact) {
  constexpr int kN = 40, kStride = kN + 3;
  for (const DType dtype : kTypes) {
    const int kK = ColumnsOf(dtype);
    const FileMatrix file(dtype, kN, kK);
    const DeviceMatrix matrix(PackWeights(file.view));
    for (const int rows : {1, 9, 17, 40, 130}) {
      const DeviceHalves x(rows, kK, X);
      const DeviceTensor residual(rows, kN, Rest);
      const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(rows) * kStride, -77));
      const LinearArgs args = matrix.Product(x, rows, out.data(), kStride, &residual);
      // Whole numbers: both orders of sums give the same.
      ASSERT_EQ(rows > 17 ? LinearTiled(args, {}, nullptr) : LinearRows(args, nullptr),
                cudaSuccess);
      const std::vector<float> got = out.Read();
      for (int r = 0; r < rows; ++r) {
        for (int n = 0; n < kStride; ++n) {
          float sum = n < kN ? Rest(r, n) : -77;
          for (int k = 0; k < kK && n < kN; ++k) sum += file.at(n, k) * X(r, k);
          ASSERT_EQ(got[static_cast<size_t>(r) * kStride + n], sum)
              << GetDTypeInfo(dtype).name << ", " << rows << " rows: " << r << ", " << n;
        }
      }
    }
  }
}

TEST(PackedWeights, TakeTheBitsThatTheirTypeSays) {
  constexpr struct {
    DType dtype;
    double bits;
  } kBits[] = {{DType::kQ4_0, 4.5},  {DType::kIq4Nl, 4.5}, {DType::kQ4_1, 5}, {DType::kQ8_0, 8.5},
               {DType::kQ4K, 4.625}, {DType::kQ5K, 5.625}, {DType::kQ6K, 7},  {DType::kF16, 16}};
  for (const auto& [dtype, bits] : kBits) {
    const int64_t bytes = PackedBytes(dtype, 32, 512) - 32 * static_cast<int64_t>(sizeof(float));
    EXPECT_EQ(static_cast<double>(bytes) * 8 / (32 * 512), bits) << GetDTypeInfo(dtype).name;
  }
}

// d and d' are as large as an f16 can be, and nothing is multiplied by them.
TEST_P(LinearKernels, NestedScalesOfUnusedNumbersAreZero) {
  FileMatrix file(DType::kQ4K, 16, 512);
  for (int n = 0; n < 16; ++n) {
    uint8_t* block = file.bytes.data() + static_cast<size_t>(n) * 2 * 144 + 144;
    SetBlockScales(DType::kQ4K, block, 65504, 65504);
    std::fill_n(block + 4, 12, uint8_t{0});
  }
  const DeviceMatrix matrix(PackWeights(file.view));
  const DeviceHalves x(1, 512, X);
  const DeviceArray<float> out(16);
  const LinearArgs args = matrix.Product(x, 1, out.data(), 16);
  ASSERT_EQ(LinearRows(args, nullptr), cudaSuccess);
  const std::vector<float> got = out.Read();
  for (int n = 0; n < 16; ++n) {
    float sum = 0;
    for (int k = 0; k < 256; ++k) sum += file.at(n, k) * X(0, k);
    ASSERT_EQ(got[n], sum) << n;
  }
}

// Random bytes of every type against the file format's own numbers in double. What differs: f16
// scales and numbers on the device, 2^-11 each; x is exact.
TEST_P(LinearKernels, EveryFileTypeGivesTheProductsOfItsNumbers) {
  constexpr int kN = 24, kK = 512, kRows = 3;
  std::vector<float> values;
  for (int r = 0; r < kRows; ++r) {
    for (int k = 0; k < kK; ++k) values.push_back(X(r, k));
  }
  const Tensor host{values.data(), kRows, kK, kK};
  for (int type = 0; type <= static_cast<int>(DType::kIq4Nl); ++type) {
    const RandomWeights weights(static_cast<DType>(type), kN, kK, 7);
    const DeviceMatrix matrix(PackWeights(weights.view));
    const DeviceHalves x(kRows, kK, X);
    const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(kRows) * kN, -77));
    const LinearArgs args = matrix.Product(x, kRows, out.data(), kN);
    ASSERT_EQ(LinearRows(args, nullptr), cudaSuccess);
    const std::vector<float> got = out.Read();
    const WeightView parts[] = {weights.view};
    const std::vector<double> expected = reference::MatMul(host, parts);
    const std::vector<double> magnitude = weights.Magnitude(host);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], expected[i], magnitude[i] * 0x1p-10)
          << GetDTypeInfo(static_cast<DType>(type)).name << ", " << i;
    }
  }
}

TEST(TiledRanges, FillTheMultiprocessorsAndNoMore) {
  const auto ranges = [](int32_t n, int32_t k, int32_t rows, int32_t multiprocessors) {
    LinearArgs args{};
    args.rows = n;
    args.columns = k;
    args.num_x_rows = rows;
    return TiledRangesFor(args, multiprocessors);
  };
  EXPECT_EQ(ranges(576, 1536, 128, 132), 4);   // 5 blocks, 24 tiles
  EXPECT_EQ(ranges(4096, 4096, 128, 132), 4);  // 32 blocks
  EXPECT_EQ(ranges(4096, 4096, 129, 132), 2);
  EXPECT_EQ(ranges(4096, 4096, 512, 132), 1);
  EXPECT_EQ(ranges(28672, 4096, 128, 132), 1);  // more than there are multiprocessors
  EXPECT_EQ(ranges(128, 64, 128, 132), 1);
  EXPECT_EQ(ranges(128, 1024, 64, 1), 1);
}

// Memory for `count` ranges of a product's places.
struct DeviceRanges {
  DeviceRanges(int places, int count)
      : sums(static_cast<size_t>(places) * count * kTiledSums),
        arrived(std::vector<uint32_t>(static_cast<size_t>(places), 0)),
        count(count) {}
  [[nodiscard]] TiledRanges ranges() const { return {count, sums.data(), arrived.data()}; }
  DeviceArray<float> sums;
  DeviceArray<uint32_t> arrived;
  int count;
};

TEST_P(LinearKernels, RangesOfColumnsAddUpExactly) {
  struct Case {
    int n, k, rows, ranges;
  };
  for (const auto [n, k, rows, ranges] :
       {Case{40, 96, 70, 2}, {200, 608, 130, 3}, {130, 320, 20, 5}, {16, 448, 129, 4}}) {
    const FileMatrix file(DType::kQ4_0, n, k);
    const DeviceMatrix matrix(PackWeights(file.view));
    const DeviceHalves x(rows, k, X);
    const DeviceTensor residual(rows, n, Rest);
    const int places = (n + 127) / 128 * ((rows + 127) / 128);
    const DeviceRanges memory(places, ranges);
    for (int run = 0; run < 2; ++run) {  // the counters are ready for another
      const DeviceTensor out(rows, n);
      const LinearArgs args =
          matrix.Product(x, rows, out.tensor().data, out.tensor().stride, &residual);
      ASSERT_EQ(LinearTiled(args, memory.ranges(), nullptr), cudaSuccess);
      const std::vector<float> got = out.Read();
      for (int r = 0; r < rows; ++r) {
        for (int i = 0; i < n; ++i) {
          float sum = Rest(r, i);
          for (int j = 0; j < k; ++j) sum += file.at(i, j) * X(r, j);
          ASSERT_EQ(got[static_cast<size_t>(r) * n + i], sum)
              << n << " x " << k << ", " << rows << " rows, " << ranges << " ranges, run " << run
              << ": " << r << ", " << i;
        }
      }
      EXPECT_EQ(memory.arrived.Read(), std::vector<uint32_t>(static_cast<size_t>(places), 0));
    }
  }
}

// Sums that rounding makes depend on their order, under other orders of blocks.
TEST_P(LinearKernels, WhichRangeIsLastDoesNotShow) {
  constexpr int kN = 130, kK = 512, kRows = 65, kRanges = 4;
  const RandomWeights weights(DType::kQ4K, kN, kK, 11);
  const DeviceMatrix matrix(PackWeights(weights.view));
  const DeviceHalves x(kRows, kK, [](int r, int k) { return std::sin(static_cast<float>(r + k)); });
  const DeviceRanges memory(2, kRanges);
  std::vector<float> first;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    simt::SetSeed(100 * GetParam() + seed);
    const DeviceTensor out(kRows, kN);
    const LinearArgs args = matrix.Product(x, kRows, out.tensor().data, out.tensor().stride);
    ASSERT_EQ(LinearTiled(args, memory.ranges(), nullptr), cudaSuccess);
    const std::vector<float> got = out.Read();
    if (first.empty()) first = got;
    ASSERT_EQ(std::memcmp(got.data(), first.data(), got.size() * sizeof(float)), 0) << seed;
  }
}

TEST_P(LinearKernels, ManyOutputsTakeTwoPanelsABlock) {
  constexpr int kN = 4096 + 8, kK = 64;
  const std::vector<uint8_t> file = File(DType::kQ8_0, kN, kK);
  const DeviceMatrix matrix(
      PackWeights({.dtype = DType::kQ8_0, .rows = kN, .cols = kK, .data = file.data()}));
  const DeviceHalves x(1, kK, X);
  const DeviceArray<float> out(kN);
  const LinearArgs args = matrix.Product(x, 1, out.data(), kN);
  ASSERT_EQ(LinearRows(args, nullptr), cudaSuccess);
  const std::vector<float> got = out.Read();
  for (int n = 0; n < kN; ++n) {
    float sum = 0;
    for (int k = 0; k < kK; ++k) sum += Value(n, k) * X(0, k);
    ASSERT_EQ(got[n], sum) << n;
  }
}

TEST_P(LinearKernels, EmbeddingsAreTheRowsThatTokensName) {
  constexpr int kN = 40;
  for (const DType dtype : kTypes) {
    const int kK = GetDTypeInfo(dtype).block_elements == 256 ? 512 : 96;
    const FileMatrix file(dtype, kN, kK);
    const DeviceMatrix matrix(PackWeights(file.view));
    const DeviceArray<int32_t> tokens(std::vector<int32_t>{3, 39, -1, 16});
    const DeviceArray<int32_t> rows(std::vector<int32_t>{0, 0, 1, 1}),
        slots(std::vector<int32_t>{0, 2}), last(std::vector<int32_t>{0, 0, 21});
    const DeviceTensor out(4, kK);
    EmbedArgs args{
        .table = matrix.args(), .last_tokens = last.data(), .scale = 2, .out = out.tensor()};
    args.batch.tokens = tokens.data();
    args.batch.token_row = rows.data();
    args.batch.slots = slots.data();
    ASSERT_EQ(Embed(args, nullptr), cudaSuccess);
    const std::vector<float> got = out.Read();
    constexpr int kToken[] = {3, 39, 21, 16};
    for (int t = 0; t < 4; ++t) {
      for (int k = 0; k < kK; ++k)
        ASSERT_EQ(got[static_cast<size_t>(t) * kK + k], 2 * file.at(kToken[t], k));
    }
  }
}

}  // namespace
}  // namespace sluice::cuda
