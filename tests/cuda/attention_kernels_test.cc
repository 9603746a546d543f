// Attention over a paged cache. Keys are codes of their positions and queries ask for one of them,
// so that all weight goes to one value, which must come out exactly; or queries are zero, and what
// comes out is the mean of what may be seen, no more and no less. What nobody may see is NaN.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/kv_layout.h"
#include "tests/cuda/device_fixture.h"

namespace sluice::cuda {
namespace {

constexpr int kBlockTokens = 16, kCodeBits = 10;

struct Row {
  int context, tokens;  // the last ones are new
};
// Decode over two partitions, a chunk on a cached prefix, a whole prompt; then one long row.
const std::vector<std::vector<Row>> kSteps = {{{300, 1}, {70, 6}, {5, 5}}, {{40, 40}, {530, 1}}};

struct Case {
  int q_heads, kv_heads, head_dim, window, multiprocessors;
};
const Case kCases[] = {
    {6, 2, 40, 0, 16},   // rows cut by partition
    {6, 2, 40, 0, 1},    // not cut
    {4, 4, 64, 33, 16},  // a window
    {20, 1, 96, 0, 16},  // more heads than a block takes
    {2, 1, 256, 0, 16},
};

float Code(int position, int bit) { return (position >> bit & 1) != 0 ? 4.0F : -4.0F; }
float Value(int row, int kv_head, int position, int d) {
  return static_cast<float>((row * 7 + kv_head * 131 + position * 17 + d * 3) % 1021 - 510);
}

class AttentionKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, AttentionKernels, ::testing::Values(0, 1));

// A step's arrays on the host and on the device. Blocks are handed out backwards.
struct Step {
  explicit Step(const std::vector<Row>& rows) {
    for (const Row& row : rows) {
      const int r = static_cast<int>(context.size());
      for (int t = 0; t < row.tokens; ++t) {
        positions.push_back(row.context - row.tokens + t);
        token_row.push_back(r);
      }
      begin.push_back(static_cast<int32_t>(positions.size()));
      context.push_back(row.context);
      for (int b = 0; b * kBlockTokens < row.context; ++b) blocks.push_back(num_blocks++);
      block_begin.push_back(num_blocks);
    }
    for (int32_t& block : blocks) block = num_blocks - 1 - block;
    for (const auto* values : {&positions, &token_row, &begin, &context, &blocks, &block_begin})
      device.push_back(std::make_unique<DeviceArray<int32_t>>(*values));
    batch.positions = device[0]->data();
    batch.token_row = device[1]->data();
    batch.row_begin = device[2]->data();
    batch.context_len = device[3]->data();
    batch.blocks = device[4]->data();
    batch.block_begin = device[5]->data();
    view.num_tokens = static_cast<int32_t>(positions.size());
    view.num_rows = static_cast<int32_t>(rows.size());
    view.row_begin = begin.data();
    view.context_len = context.data();
    view.positions = positions.data();
  }
  int32_t num_blocks = 0;
  std::vector<int32_t> positions, token_row, begin = {0}, context, blocks, block_begin = {0};
  std::vector<std::unique_ptr<DeviceArray<int32_t>>> device;
  DeviceBatch batch;
  BatchView view;
};

std::vector<uint16_t> Cache(const Step& step, const Case& c) {
  constexpr uint16_t kNan = 0x7e00;
  const int padded = PaddedHeadDim(c.head_dim);
  std::vector<uint16_t> cache(size_t(step.num_blocks) * c.kv_heads * 2 * kBlockTokens * padded,
                              kNan);
  for (size_t r = 0; r < step.context.size(); ++r) {
    for (int p = 0; p < step.context[r]; ++p) {
      const int block = step.blocks[step.block_begin[r] + p / kBlockTokens];
      for (int h = 0; h < c.kv_heads; ++h) {
        for (int v = 0; v < 2; ++v) {
          const size_t line =
              ((size_t(block) * c.kv_heads + h) * 2 + v) * kBlockTokens + p % kBlockTokens;
          for (int d = 0; d < padded; ++d) {
            float x = 0;
            if (v == 1 && d < c.head_dim) x = Value(static_cast<int>(r), h, p, d);
            if (v == 0 && d < kCodeBits) x = Code(p, d);
            cache[line * padded + d] = __builtin_bit_cast(uint16_t, static_cast<_Float16>(x));
          }
        }
      }
    }
  }
  return cache;
}

// The position that a query asks for: any that it sees.
int Target(const Step& step, const Case& c, int token, int head) {
  const int position = step.positions[token];
  const int first = c.window > 0 ? std::max(position + 1 - c.window, 0) : 0;
  return first + (token * 37 + head * 101) % (position + 1 - first);
}

// [T * Hq * H] of queries [T, Hq * H], which all are 0 or else ask for their targets.
struct Attended {
  std::vector<float> out, halves;
};
Attended Attend(const Step& step, const Case& c, bool ask) {
  const DeviceArray<uint16_t> cache(Cache(step, c));
  const auto tokens = static_cast<int32_t>(step.positions.size());
  const int columns = c.q_heads * c.head_dim;
  const DeviceTensor q(tokens, columns, [&](int t, int column) {
    const int d = column % c.head_dim;
    return ask && d < kCodeBits ? 4 * Code(Target(step, c, t, column / c.head_dim), d) : 0.0F;
  });
  AttentionPlan plan;
  PlanAttention(step.view, {c.q_heads, c.kv_heads, c.head_dim, c.window}, c.multiprocessors, plan);
  const DeviceArray<AttentionItem> items(plan.items);
  const DeviceArray<int32_t> num_items(
      std::vector<int32_t>{static_cast<int32_t>(plan.items.size())});
  const DeviceArray<uint32_t> ended(
      std::vector<uint32_t>(size_t(plan.num_counters + 1) * c.q_heads));
  const DeviceArray<float> partials(size_t(plan.num_partials + 1) * c.q_heads * (c.head_dim + 2));
  const DeviceTensor out(tokens, columns);
  const DeviceHalves halves(tokens, columns);
  // As its owner leaves it: nothing is ever written past a row's end.
  EXPECT_EQ(cudaMemset(halves.halves().data, 0, size_t(tokens) * HalvesColumns(columns) * 2),
            cudaSuccess);
  AttentionArgs args{.batch = step.batch,
                     .plan = {items.data(), num_items.data(),
                              static_cast<int32_t>(plan.items.size()) + 2, plan.long_rows},
                     .q = q.tensor(),
                     .num_q_heads = c.q_heads,
                     .params = {.scale = 1, .window = c.window},
                     .kv = {cache.data(), step.num_blocks, kBlockTokens, c.kv_heads, c.head_dim},
                     .partials = partials.data(),
                     .ended = ended.data(),
                     .out = out.tensor(),
                     .halves = halves.halves()};
  EXPECT_EQ(Attention(args, nullptr), cudaSuccess);
  Attended first{out.Read(), halves.Read()};
  // The next launch finds the counters as this one did.
  EXPECT_EQ(Attention(args, nullptr), cudaSuccess);
  EXPECT_EQ(out.Read(), first.out);
  EXPECT_THAT(ended.Read(), ::testing::Each(0));
  return first;
}

TEST_P(AttentionKernels, AQueryThatAsksForAPositionGetsItsValue) {
  for (const Case& c : kCases) {
    for (const std::vector<Row>& rows : kSteps) {
      const Step step(rows);
      const Attended got = Attend(step, c, true);
      const int columns = c.q_heads * c.head_dim;
      for (size_t i = 0; i < got.out.size(); ++i) {
        const int t = static_cast<int>(i) / columns,
                  head = static_cast<int>(i) % columns / c.head_dim;
        const float expected = Value(step.token_row[t], head / (c.q_heads / c.kv_heads),
                                     Target(step, c, t, head), static_cast<int>(i) % c.head_dim);
        ASSERT_EQ(got.out[i], expected)
            << "token " << t << ", head " << head << " of " << c.head_dim;
        ASSERT_EQ(got.halves[i], expected) << "token " << t << ", head " << head;
      }
    }
  }
}

TEST_P(AttentionKernels, AQueryThatAsksForNothingGetsTheMeanOfWhatItSees) {
  for (const Case& c : kCases) {
    for (const std::vector<Row>& rows : kSteps) {
      const Step step(rows);
      const Attended got = Attend(step, c, false);
      const int columns = c.q_heads * c.head_dim;
      for (size_t i = 0; i < got.out.size(); ++i) {
        const int t = static_cast<int>(i) / columns,
                  head = static_cast<int>(i) % columns / c.head_dim;
        const int last = step.positions[t];
        const int first = c.window > 0 ? std::max(last + 1 - c.window, 0) : 0;
        double sum = 0;
        for (int p = first; p <= last; ++p)
          sum += Value(step.token_row[t], head / (c.q_heads / c.kv_heads), p,
                       static_cast<int>(i) % c.head_dim);
        ASSERT_NEAR(got.out[i], sum / (last + 1 - first), 1e-4)
            << "token " << t << ", head " << head;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::cuda
