#include "tests/kernels/adapter_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <random>
#include <string>

#include "tests/kernels/reference.h"

namespace sluice {
namespace {

constexpr int32_t kRanks[] = {5, 64, 0, 1};
constexpr int32_t kRowTokens[] = {3, 1, 2, 1, 4, 1, 1};
constexpr int32_t kRowAdapters[] = {1, -1, 0, 3, -1, 2, 1};
constexpr int32_t kRows = 7;

std::vector<float> Random(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value;
  std::vector<float> floats(static_cast<size_t>(count));
  for (float& v : floats) v = value(random);
  return floats;
}

// Factors as a file holds them.
class Factors {
 public:
  WeightView Add(int64_t rows, int64_t cols, bool halfs) {
    std::vector<uint8_t>& bytes = bytes_.emplace_back();
    for (const float value : Random(rows * cols, static_cast<uint32_t>(bytes_.size()))) {
      const uint16_t half = reference::FloatToHalf(value);
      const auto* from = halfs ? static_cast<const void*>(&half) : &value;
      bytes.resize(bytes.size() + (halfs ? 2 : 4));
      std::memcpy(bytes.data() + bytes.size() - (halfs ? 2 : 4), from, halfs ? 2 : 4);
    }
    return {halfs ? DType::kF16 : DType::kF32, rows, cols, bytes.data()};
  }

 private:
  std::deque<std::vector<uint8_t>> bytes_;
};

// The arrays of rows [first, first + count) of the case.
struct Batch {
  Batch(int32_t first, int32_t count) {
    for (int32_t r = first; r < first + count; ++r) {
      positions.resize(positions.size() + kRowTokens[r], 0);
      row_begin.push_back(static_cast<int32_t>(positions.size()));
      context.push_back(kRowTokens[r]);
    }
    blocks.assign(row_begin.size(), 0);
    view = {.num_tokens = row_begin.back(),
            .num_rows = count,
            .tokens = positions.data(),
            .positions = positions.data(),
            .row_begin = row_begin.data(),
            .context_len = context.data(),
            .blocks = blocks.data(),
            .block_begin = blocks.data(),
            .slots = blocks.data(),
            .num_outputs = 0,
            .output_rows = blocks.data(),
            .adapters = kRowAdapters + first};
  }
  std::vector<int32_t> positions, row_begin{0}, context, blocks;
  BatchView view;
};

// The token's outputs in double, and what their rounding is proportional to.
void ExpectToken(const AdapterView& adapter, const float* x, const float* before,
                 const float* after) {
  const std::vector<double> a = reference::Dequantize(adapter.a),
                            b = reference::Dequantize(adapter.b);
  const int64_t cols = adapter.a.cols;
  std::vector<double> shrunk, magnitude;
  for (int32_t j = 0; j < adapter.rank; ++j) {
    double sum = 0, size = 0;
    for (int64_t k = 0; k < cols; ++k) {
      sum += a[j * cols + k] * x[k];
      size += std::abs(a[j * cols + k] * x[k]);
    }
    shrunk.push_back(sum);
    magnitude.push_back(size);
  }
  // In each of 16 chains, in their tree, over the rank and for the sum with out.
  const double roundings = static_cast<double>(cols) / 16 + 5 + adapter.rank + 2;
  for (int64_t n = 0; n < adapter.b.rows; ++n) {
    double sum = 0, size = 0;
    for (int32_t j = 0; j < adapter.rank; ++j) {
      sum += b[n * adapter.rank + j] * shrunk[j];
      size += std::abs(b[n * adapter.rank + j]) * magnitude[j];
    }
    const double bound =
        roundings * 0x1p-24 * (std::abs(adapter.scale) * size + std::abs(before[n]));
    ASSERT_NEAR(after[n], before[n] + adapter.scale * sum, bound) << n;
  }
}

}  // namespace

void ExpectAdaptersAdd(Ops& ops, int32_t rows, int32_t cols, bool halfs, const RunAdapters& run) {
  Factors factors;
  std::vector<AdapterView> views;
  for (const int32_t rank : kRanks) {
    AdapterView& view =
        views.emplace_back(AdapterView{rank, 0.25F * static_cast<float>(rank), {}, {}});
    if (rank == 0) continue;
    view.a = factors.Add(rank, cols, halfs);
    view.b = factors.Add(rows, rank, halfs);
  }
  const auto adapters = ops.LoadAdapters(views, rows, cols);
  ASSERT_TRUE(adapters.ok()) << adapters.status();
  EXPECT_EQ(adapters->count, 4);

  const Batch all(0, kRows);
  const int32_t tokens = all.view.num_tokens;
  const std::vector<float> x = Random(int64_t{tokens} * cols, 100),
                           before = Random(int64_t{tokens} * rows, 101);
  const std::vector<float> after = run(all.view, *adapters, x, before);
  for (int32_t r = 0; r < kRows; ++r) {
    const size_t begin = static_cast<size_t>(all.row_begin[r]), end = all.row_begin[r + 1];
    const auto part = [&](const std::vector<float>& of, size_t width) {
      return std::vector<float>(of.begin() + static_cast<int64_t>(begin * width),
                                of.begin() + static_cast<int64_t>(end * width));
    };
    const Batch alone(r, 1);
    EXPECT_EQ(run(alone.view, *adapters, part(x, cols), part(before, rows)), part(after, rows))
        << "row " << r << " alone";
    if (kRowAdapters[r] < 0 || views[kRowAdapters[r]].rank == 0) {
      EXPECT_EQ(part(after, rows), part(before, rows)) << "row " << r;
      continue;
    }
    for (size_t t = begin; t < end; ++t) {
      SCOPED_TRACE("token " + std::to_string(t));
      ExpectToken(views[kRowAdapters[r]], &x[t * cols], &before[t * rows], &after[t * rows]);
    }
  }
  Batch none(0, kRows);
  none.view.adapters = nullptr;
  EXPECT_EQ(run(none.view, *adapters, x, before), before);
}

void ExpectAdaptersRefused(Ops& ops) {
  constexpr int32_t kN = 8, kK = 16;
  Factors factors;
  const auto message = [&](const AdapterView& view) {
    const AdapterView views[] = {{}, view};
    const absl::Status status = ops.LoadAdapters(views, kN, kK).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(message({65, 1, {}, {}}), "adapter 1 has rank 65; 0 to 64 are allowed");
  EXPECT_EQ(message({2, 1, factors.Add(2, kK, false), factors.Add(kN, 3, false)}),
            "adapter 1 has factors of 2 x 16 and 8 x 3; a linear op of 8 x 16 takes 2 x 16 and 8 x "
            "2");
  WeightView eight = factors.Add(2, kK, false);
  eight.dtype = DType::kBF16;
  EXPECT_EQ(message({2, 1, eight, factors.Add(kN, 2, false)}),
            "adapter 1 has a factor of type BF16; it must be F32 or F16");
  EXPECT_EQ(ops.LoadAdapters({}, kN, kK).status().message(), "no adapters");
}

}  // namespace sluice
