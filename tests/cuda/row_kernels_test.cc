// The kernels that give a block to each row, against plain loops in double. Where a kernel only
// moves or adds, its inputs are whole numbers, all different, and nothing may differ.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/cuda/device_fixture.h"

namespace sluice::cuda {
namespace {

class RowKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, RowKernels, ::testing::Values(0, 1, 2));

constexpr int32_t kRows = 3;
constexpr int32_t kWidths[] = {33, 200, 600};

float Unique(int r, int c) { return static_cast<float>((r * 1000 + c * 37) % 2003 - 1001); }
float Small(int r, int c) { return static_cast<float>((r * 5 + c * 3) % 17 - 8) / 4; }

void ExpectNear(const std::vector<float>& got, const std::vector<double>& expected, double error) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], error * (std::abs(expected[i]) + 1)) << "element " << i;
}
template <class F>
std::vector<double> Each(int32_t rows, int32_t cols, const F& value) {
  std::vector<double> values;
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t c = 0; c < cols; ++c) values.push_back(value(r, c));
  }
  return values;
}
constexpr double kF32 = 2e-6, kF16 = 1e-3;

TEST_P(RowKernels, RmsNormIsTheFormula) {
  for (const int32_t cols : kWidths) {
    for (const int32_t groups : {1, cols % 2 == 0 ? 2 : 1}) {
      const int32_t group = cols / groups;
      const DeviceTensor x(kRows, cols, Unique), residual(kRows, cols, Small), out(kRows, cols);
      const DeviceTensor weight(1, cols, Small);
      const DeviceHalves halves(kRows, cols);
      const Halves to = groups == 1 ? halves.halves() : Halves{};
      ASSERT_EQ(RmsNorm({x.tensor(),
                         weight.tensor().data,
                         1e-5F,
                         group,
                         residual.tensor(),
                         out.tensor(),
                         to,
                         {}},
                        nullptr),
                cudaSuccess);
      const auto expected = Each(kRows, cols, [&](int r, int c) {
        double squares = 0;
        for (int i = 0; i < group; ++i) {
          const double v = Unique(r, c / group * group + i);
          squares += v * v;
        }
        return Unique(r, c) / std::sqrt(squares / group + 1e-5) * Small(0, c) + Small(r, c);
      });
      ExpectNear(out.Read(), expected, kF32);
      if (groups == 1) ExpectNear(halves.Read(), expected, kF16);
    }
  }
}

TEST_P(RowKernels, LayerNormIsTheFormula) {
  for (const int32_t cols : kWidths) {
    const DeviceTensor x(kRows, cols, Unique), residual(kRows, cols, Small), out(kRows, cols);
    const DeviceTensor weight(1, cols, Small), bias(1, cols, Unique);
    const DeviceHalves halves(kRows, cols);
    ASSERT_EQ(LayerNorm({x.tensor(), residual.tensor(), weight.tensor().data, bias.tensor().data,
                         1e-5F, out.tensor(), halves.halves()},
                        nullptr),
              cudaSuccess);
    const auto expected = Each(kRows, cols, [&](int r, int c) {
      double sum = 0, squares = 0;
      for (int i = 0; i < cols; ++i) sum += Unique(r, i) + Small(r, i);
      for (int i = 0; i < cols; ++i)
        squares += std::pow(Unique(r, i) + Small(r, i) - sum / cols, 2);
      return (Unique(r, c) + Small(r, c) - sum / cols) / std::sqrt(squares / cols + 1e-5) *
                 Small(0, c) +
             Unique(0, c);
    });
    ExpectNear(out.Read(), expected, kF32);
    ExpectNear(halves.Read(), expected, kF16);
  }
}

TEST_P(RowKernels, GatedProductsAreTheFormula) {
  for (const int32_t cols : kWidths) {
    const DeviceTensor gate_up(kRows, 2 * cols, Small), out(kRows, cols);
    const DeviceHalves halves(kRows, cols);
    ASSERT_EQ(
        GateMul({gate_up.tensor(), Activation::kSilu, out.tensor(), halves.halves(), {}}, nullptr),
        cudaSuccess);
    const auto expected = Each(kRows, cols, [&](int r, int c) {
      const double z = Small(r, c);
      return z / (1 + std::exp(-z)) * Small(r, cols + c);
    });
    ExpectNear(out.Read(), expected, kF32);
    ExpectNear(halves.Read(), expected, kF16);
  }
}

TEST_P(RowKernels, HalvesHoldWholeNumbersExactly) {
  for (const int32_t cols : kWidths) {
    const DeviceTensor x(kRows, cols, Unique);
    const DeviceHalves halves(kRows, cols);
    ASSERT_EQ(ToHalves(x.tensor(), halves.halves(), nullptr), cudaSuccess);
    ExpectNear(halves.Read(), Each(kRows, cols, Unique), 0);
  }
}

TEST_P(RowKernels, SoftCapsGeluAndGatesAreTheirFormulas) {
  constexpr int32_t kLong = 4096 + 100;
  const DeviceTensor x(kRows, kLong, Small);
  ASSERT_EQ(SoftCap(x.tensor(), 3, nullptr), cudaSuccess);
  ExpectNear(x.Read(),
             Each(kRows, kLong, [](int r, int c) { return 3 * std::tanh(Small(r, c) / 3); }), kF32);
  const DeviceTensor y(kRows, 300, Small);
  ASSERT_EQ(Gelu(y.tensor(), nullptr), cudaSuccess);
  ExpectNear(y.Read(),
             Each(kRows, 300,
                  [](int r, int c) {
                    return Small(r, c) / 2 * (1 + std::erf(Small(r, c) / std::sqrt(2.0)));
                  }),
             kF32);
  const DeviceTensor z(kRows, 300, Unique), gate(kRows, 1, Small), rest(kRows, 300, Small),
      out(kRows, 300);
  ASSERT_EQ(AddGated(z.tensor(), gate.tensor(), rest.tensor(), out.tensor(), nullptr), cudaSuccess);
  ExpectNear(
      out.Read(),
      Each(kRows, 300,
           [](int r, int c) { return Unique(r, c) / (1 + std::exp(-Small(r, 0))) + Small(r, c); }),
      kF32);
}

TEST_P(RowKernels, GathersCopyTheRowsThatTheyAreAskedFor) {
  const std::vector<int32_t> row_begin = {0, 1, 4, 6}, output_rows = {0, 2};
  const DeviceArray<int32_t> begins(row_begin), outputs(output_rows);
  DeviceBatch batch;
  batch.row_begin = begins.data();
  batch.output_rows = outputs.data();
  for (const int32_t cols : kWidths) {
    const DeviceTensor x(6, cols, Unique), last(2, cols), mean(2, cols), placed(4, cols);
    ASSERT_EQ(GatherOutputs(x.tensor(), batch, last.tensor(), nullptr), cudaSuccess);
    ExpectNear(last.Read(), Each(2, cols, [](int r, int c) { return Unique(r == 0 ? 0 : 5, c); }),
               0);
    ASSERT_EQ(Pool(x.tensor(), Pooling::kMean, batch, mean.tensor(), nullptr), cudaSuccess);
    ExpectNear(mean.Read(),
               Each(2, cols,
                    [](int r, int c) {
                      return r == 0 ? Unique(0, c) : (Unique(4, c) + Unique(5, c)) / 2;
                    }),
               0);
    const DeviceArray<int32_t> choice(std::vector<int32_t>{5, 0, 3, 10});
    Routing routing;
    routing.num_used = 2;
    routing.choice = choice.data();
    ASSERT_EQ(GatherPlaces(x.tensor(), routing, placed.tensor(), nullptr), cudaSuccess);
    constexpr int kFrom[] = {2, 0, 1, 5};
    ExpectNear(placed.Read(), Each(4, cols, [&](int r, int c) { return Unique(kFrom[r], c); }), 0);
  }
}

TEST_P(RowKernels, PositionsAndTypesAreAdded) {
  const DeviceArray<int32_t> positions(std::vector<int32_t>{2, 0, 1}),
      types(std::vector<int32_t>{1, 0, 1});
  const int32_t cols = 300;
  std::vector<float> position_rows, type_rows;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < cols; ++c) position_rows.push_back(Unique(r + 10, c));
  }
  for (int r = 0; r < 2; ++r) {
    for (int c = 0; c < cols; ++c) type_rows.push_back(Small(r + 10, c));
  }
  const DeviceArray<float> position_table(position_rows), type_table(type_rows);
  const DeviceTensor x(3, cols, Unique);
  AddPositionsArgs args{position_table.data(), type_table.data(), types.data(), {}, x.tensor()};
  args.batch.positions = positions.data();
  ASSERT_EQ(AddPositions(args, nullptr), cudaSuccess);
  constexpr int kPosition[] = {2, 0, 1}, kType[] = {1, 0, 1};
  ExpectNear(x.Read(),
             Each(3, cols,
                  [&](int r, int c) {
                    return Unique(r, c) + Unique(kPosition[r] + 10, c) + Small(kType[r] + 10, c);
                  }),
             0);
}

// Cosines of 0 or 1 and sines of 1, 0 or -1 keep whole numbers whole.
TEST_P(RowKernels, RotatedHeadsAndTheCacheAreExactForQuarterTurns) {
  constexpr int32_t kQ = 5, kKv = 2, kHead = 40, kRotary = 32, kBlockTokens = 4, kTokens = 3;
  constexpr int32_t kCols = (kQ + 2 * kKv) * kHead, kPadded = 48, kNumBlocks = 4;
  const std::vector<int32_t> positions = {5, 6, 1}, token_row = {0, 0, 1}, blocks = {2, 1, 3},
                             begin = {0, 2, 3};
  const DeviceArray<int32_t> positions_d(positions), row_d(token_row), blocks_d(blocks),
      begin_d(begin);
  std::vector<float> cos, sin;
  for (int p = 0; p < 8; ++p) {
    for (int i = 0; i < kRotary / 2; ++i) {
      constexpr float kCos[] = {1, 0, -1, 0}, kSin[] = {0, 1, 0, -1};
      cos.push_back(kCos[(p + i) % 4]);
      sin.push_back(kSin[(p + i) % 4]);
    }
  }
  const DeviceArray<float> cos_d(cos), sin_d(sin);
  const size_t cache_size = size_t{kNumBlocks} * kKv * 2 * kBlockTokens * kPadded;
  for (const bool interleaved : {false, true}) {
    const DeviceTensor qkv(kTokens, kCols, Unique);
    const DeviceArray<uint16_t> cache(std::vector<uint16_t>(cache_size, 0x1234));
    RopeArgs args{.qkv = qkv.tensor(), .num_q_heads = kQ, .qk_norm = nullptr};
    args.batch.positions = positions_d.data();
    args.batch.token_row = row_d.data();
    args.batch.blocks = blocks_d.data();
    args.batch.block_begin = begin_d.data();
    args.rope = {kRotary, interleaved, cos_d.data(), sin_d.data()};
    args.kv = {cache.data(), kNumBlocks, kBlockTokens, kKv, kHead};
    ASSERT_EQ(RopeAndStoreKv(args, nullptr), cudaSuccess);
    const auto rotated = [&](int t, int h, int i) -> double {
      const auto at = [&](int k) -> double { return Unique(t, h * kHead + k); };
      if (h >= kQ + kKv || i >= kRotary) return at(i);
      const int pair = interleaved ? i / 2 : i % (kRotary / 2);
      const bool second = interleaved ? i % 2 == 1 : i >= kRotary / 2;
      const int other = interleaved ? i ^ 1 : (i + kRotary / 2) % kRotary;
      const int place = positions[t] * kRotary / 2 + pair;
      return second ? at(other) * sin[place] + at(i) * cos[place]
                    : at(i) * cos[place] - at(other) * sin[place];
    };
    ExpectNear(qkv.Read(),
               Each(kTokens, kCols, [&](int t, int c) { return rotated(t, c / kHead, c % kHead); }),
               0);
    std::vector<uint16_t> expected(cache_size, 0x1234);
    for (int t = 0; t < kTokens; ++t) {
      const int block = blocks[begin[token_row[t]] + positions[t] / kBlockTokens];
      for (int h = 0; h < 2 * kKv; ++h) {
        const int line =
            ((block * kKv + h % kKv) * 2 + h / kKv) * kBlockTokens + positions[t] % kBlockTokens;
        for (int i = 0; i < kHead; ++i) {
          expected[static_cast<size_t>(line) * kPadded + i] =
              __builtin_bit_cast(uint16_t, static_cast<_Float16>(rotated(t, kQ + h, i)));
        }
      }
    }
    EXPECT_EQ(cache.Read(), expected);
  }
}

TEST_P(RowKernels, HeadsAreNormedBeforeTheyAreCached) {
  constexpr int32_t kQ = 9, kKv = 1, kHead = 40, kCols = (kQ + 2 * kKv) * kHead;
  const DeviceArray<int32_t> zero(std::vector<int32_t>{0, 0, 0});
  std::vector<float> weight;
  for (int i = 0; i < (kQ + kKv) * kHead; ++i) weight.push_back(Small(1, i));
  const DeviceArray<float> weight_d(weight);
  const DeviceTensor qkv(1, kCols, Unique);
  const DeviceArray<uint16_t> cache(std::vector<uint16_t>(2 * 48));
  RopeArgs args{.qkv = qkv.tensor(), .num_q_heads = kQ, .qk_norm = weight_d.data(), .eps = 1e-6F};
  args.batch.positions = args.batch.token_row = args.batch.blocks = args.batch.block_begin =
      zero.data();
  args.kv = {cache.data(), 1, 1, kKv, kHead};
  const DeviceArray<float> cos(std::vector<float>(kHead / 2, -1)),
      sin(std::vector<float>(kHead / 2));
  args.rope = {kHead, false, cos.data(), sin.data()};  // half a turn
  ASSERT_EQ(RopeAndStoreKv(args, nullptr), cudaSuccess);
  const auto normed = [&](int c) -> double {
    if (c >= (kQ + kKv) * kHead) return Unique(0, c);
    double squares = 0;
    for (int i = 0; i < kHead; ++i) squares += std::pow(Unique(0, c / kHead * kHead + i), 2);
    return -Unique(0, c) / std::sqrt(squares / kHead + 1e-6) * weight[c];
  };
  ExpectNear(qkv.Read(), Each(1, kCols, [&](int, int c) { return normed(c); }), kF32);
  const std::vector<uint16_t> lines = cache.Read();
  for (int i = 0; i < kHead; ++i) {
    EXPECT_NEAR(static_cast<float>(__builtin_bit_cast(_Float16, lines[i])), normed(kQ * kHead + i),
                0.01);
    EXPECT_EQ(static_cast<float>(__builtin_bit_cast(_Float16, lines[48 + i])),
              Unique(0, (kQ + kKv) * kHead + i));
  }
}

}  // namespace
}  // namespace sluice::cuda
