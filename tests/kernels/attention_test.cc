#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

struct Shape {
  int32_t num_q_heads, num_kv_heads, head_dim, block_tokens;
  int32_t window = 0;
  float softcap = 0;

  [[nodiscard]] int32_t qkv_cols() const { return (num_q_heads + 2 * num_kv_heads) * head_dim; }
  [[nodiscard]] float scale() const { return 1 / std::sqrt(static_cast<float>(head_dim)); }
  [[nodiscard]] AttentionParams params() const { return {scale(), window, softcap}; }
};

// Sequences that go through one backend in steps of any cut; no rotation, so the inputs are the
// cached values.
class Layer {
 public:
  Layer(const CpuSetting& setting, const Shape& shape, std::vector<Matrix> inputs)
      : shape_(shape), ops_(MakeCpuOps(setting)), inputs_(std::move(inputs)) {
    int32_t num_blocks = 1;  // block 0 belongs to nobody
    for (Matrix& input : inputs_) {
      blocks_.emplace_back();
      for (int32_t p = 0; p < input.rows; p += shape.block_tokens)
        blocks_.back().push_back(num_blocks++);
      outputs_.emplace_back(input.rows, shape.num_q_heads * shape.head_dim);
    }
    // Blocks of a sequence lie anywhere.
    std::vector<int32_t> place(static_cast<size_t>(num_blocks));
    std::iota(place.begin(), place.end(), 0);
    std::shuffle(place.begin() + 1, place.end(), std::mt19937(9));
    for (auto& table : blocks_) {
      for (int32_t& block : table) block = place[static_cast<size_t>(block)];
    }
    kv_ = {nullptr, num_blocks, shape.block_tokens, shape.num_kv_heads, shape.head_dim};
    const int64_t bytes = num_blocks * ops_->KvBlockBytes(kv_);
    auto memory = ops_->Allocate(bytes);
    EXPECT_TRUE(memory.ok());
    // What an earlier owner left must not matter, not even NaN.
    std::fill_n(static_cast<uint16_t*>(*memory), bytes / 2, uint16_t{0x7e01});
    kv_.data = *memory;
    done_.resize(inputs_.size());
  }

  // One step: the next `counts[s]` tokens of each sequence.
  void Step(std::span<const int32_t> counts) {
    StepBatch batch;
    Matrix qkv(std::accumulate(counts.begin(), counts.end(), 0), shape_.qkv_cols());
    int32_t token = 0;
    for (size_t s = 0; s < counts.size(); ++s) {
      if (counts[s] == 0) continue;
      const int32_t context = done_[s] + counts[s];
      const auto num_blocks =
          static_cast<size_t>((context + shape_.block_tokens - 1) / shape_.block_tokens);
      batch.AddRow(counts[s], done_[s], std::span(blocks_[s]).first(num_blocks));
      for (int32_t i = 0; i < counts[s]; ++i) {
        std::ranges::copy(inputs_[s].row(done_[s] + i), qkv.row(token++).begin());
      }
    }
    Matrix out(qkv.rows, shape_.num_q_heads * shape_.head_dim);
    ops_->BeginStep(batch.view());
    ops_->RopeAndStoreKv(qkv.view(), shape_.num_q_heads, {}, kv_);
    ops_->Attention(qkv.view().Columns(0, out.cols), shape_.num_q_heads, shape_.params(), kv_,
                    out.view());
    ASSERT_TRUE(ops_->Finish().ok());
    token = 0;
    for (size_t s = 0; s < counts.size(); ++s) {
      for (int32_t i = 0; i < counts[s]; ++i) {
        std::ranges::copy(out.row(token++), outputs_[s].row(done_[s] + i).begin());
      }
      done_[s] += counts[s];
    }
  }

  // Every sequence to its end, all in each step, `chunk` tokens at a time.
  void RunInChunks(int32_t chunk) {
    while (true) {
      std::vector<int32_t> counts;
      for (size_t s = 0; s < inputs_.size(); ++s)
        counts.push_back(std::min(chunk, inputs_[s].rows - done_[s]));
      if (std::ranges::all_of(counts, [](int32_t n) { return n == 0; })) return;
      Step(counts);
    }
  }

  [[nodiscard]] std::vector<Matrix>& outputs() { return outputs_; }

 private:
  Shape shape_;
  std::unique_ptr<Ops> ops_;
  KvLayer kv_;
  std::vector<Matrix> inputs_, outputs_;
  std::vector<std::vector<int32_t>> blocks_;
  std::vector<int32_t> done_;
};

std::vector<float> Halfs(std::span<const float> values) {
  std::vector<float> rounded;
  for (const float value : values)
    rounded.push_back(reference::HalfToFloat(reference::FloatToHalf(value)));
  return rounded;
}

// Checks head `head` of the output at `position` against double precision. cached: the inputs as
// halfs.
void ExpectAttention(const Shape& shape, Matrix& input, std::span<const float> cached,
                     Matrix& output, int32_t position, int32_t head) {
  const int32_t dim = shape.head_dim;
  const int32_t kv_head = head / (shape.num_q_heads / shape.num_kv_heads);
  const float* keys = cached.data() + (shape.num_q_heads + kv_head) * dim;
  const float* values = keys + shape.num_kv_heads * dim;
  const std::span<float> q =
      input.row(position).subspan(static_cast<size_t>(head * dim), static_cast<size_t>(dim));
  const std::vector<double> expected =
      reference::Attend(q, keys, values, input.cols, position, shape.params());
  // A score is a chain of head_dim roundings of at most the sum of its terms' magnitudes; its error
  // moves the weight by as much, twice (numerator and sum). The weighted sum is a chain of 256,
  // then one combination a partition.
  double score = 0;
  double largest = 0;
  for (int32_t p = 0; p <= position; ++p) {
    double magnitude = 0;
    for (int32_t d = 0; d < dim; ++d) {
      magnitude += std::abs(static_cast<double>(q[static_cast<size_t>(d)]) *
                            keys[int64_t{p} * input.cols + d]);
      largest =
          std::max(largest, std::abs(static_cast<double>(values[int64_t{p} * input.cols + d])));
    }
    score = std::max(score, magnitude * static_cast<double>(shape.scale()));
  }
  // A cap adds 4 roundings of at most itself, and only shrinks what errors it is given.
  const double bound = largest * 0x1p-24 *
                       (2 * (dim + 2) * score + 8.0 * static_cast<double>(shape.softcap) + 256 +
                        8.0 * (position / 256.0 + 1));
  for (int32_t d = 0; d < dim; ++d) {
    ASSERT_NEAR(output.row(position)[static_cast<size_t>(head * dim + d)],
                expected[static_cast<size_t>(d)], bound)
        << "position " << position << ", head " << head;
  }
}

class AttentionOf : public testing::TestWithParam<Shape> {};

TEST_P(AttentionOf, MatchesDoublePrecisionInEveryForm) {
  const Shape shape = GetParam();
  constexpr int32_t kTokens = 530;  // three partitions
  Matrix input(kTokens, shape.qkv_cols(), 1);
  const std::vector<float> cached = Halfs(input.data);
  std::vector<float> first;
  for (const CpuIsa isa : CpuForms()) {
    SCOPED_TRACE(CpuIsaName(isa));
    Layer layer({isa, 2}, shape, {input});
    layer.RunInChunks(kTokens);
    Matrix& output = layer.outputs()[0];
    if (first.empty()) first = output.data;
    EXPECT_EQ(output.data, first);
    for (const int32_t position : {0, 1, 15, 16, 255, 256, 300, 512, 529}) {
      for (int32_t head = 0; head < shape.num_q_heads; ++head) {
        ExpectAttention(shape, input, cached, output, position, head);
      }
    }
  }
}

TEST_P(AttentionOf, BitsDoNotDependOnChunksNeighboursThreadsOrForm) {
  const Shape shape = GetParam();
  std::vector<Matrix> inputs;
  std::vector<int32_t> lengths = {1, 17, 259};
  if (shape.head_dim == 64) lengths = {1, 17, 259, 530, 100};
  for (const int32_t tokens : lengths) {
    inputs.emplace_back(tokens, shape.qkv_cols(), static_cast<uint32_t>(tokens));
  }
  Layer together({BestCpuIsa(), 1}, shape, inputs);
  together.RunInChunks(512);
  for (const int32_t chunk : {1, 3, 16, 17, 512}) {
    for (const CpuSetting& setting : CpuSettings()) {
      if (setting.isa != BestCpuIsa() && chunk != 17) continue;
      SCOPED_TRACE(ToString(setting) + ", chunks of " + std::to_string(chunk));
      Layer layer(setting, shape, inputs);
      layer.RunInChunks(chunk);
      for (size_t s = 0; s < inputs.size(); ++s)
        EXPECT_EQ(layer.outputs()[s].data, together.outputs()[s].data);
    }
  }
  for (size_t s = 0; s < inputs.size(); ++s) {
    Layer alone({BestCpuIsa(), 2}, shape, {inputs[s]});
    alone.RunInChunks(64);
    EXPECT_EQ(alone.outputs()[0].data, together.outputs()[s].data);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionOf,
                         testing::Values(Shape{9, 3, 64, 16}, Shape{4, 4, 40, 32},
                                         Shape{8, 1, 128, 16}, Shape{14, 1, 80, 16},
                                         Shape{2, 2, 18, 16}, Shape{5, 1, 256, 48},
                                         Shape{9, 3, 64, 16, 100}, Shape{4, 1, 256, 16, 256},
                                         Shape{6, 2, 40, 16, 1}, Shape{8, 1, 64, 32, 270, 3},
                                         Shape{4, 4, 18, 16, 0, 0.5F}));

// With one thread a plan has whole tiles, with many few are cut by partition: both start at the
// window's first partition.
TEST(Attention, AWindowFarBehindTheContextsEndGivesEqualBitsHoweverThePlanIsCut) {
  const Shape shape{2, 1, 64, 16, 300};
  Matrix input(1500, shape.qkv_cols(), 3);
  const std::vector<float> cached = Halfs(input.data);
  Layer whole({BestCpuIsa(), 1}, shape, {input});
  Layer cut({BestCpuIsa(), 4}, shape, {input});
  for (Layer* layer : {&whole, &cut}) {
    layer->Step(std::vector<int32_t>{1490});
    for (int i = 0; i < 10; ++i) layer->Step(std::vector<int32_t>{1});
  }
  EXPECT_EQ(whole.outputs()[0].data, cut.outputs()[0].data);
  for (const int32_t position : {298, 299, 300, 1023, 1200, 1499})
    ExpectAttention(shape, input, cached, cut.outputs()[0], position, 1);
}

// What lies before the window is not read: not its scores, not its values.
TEST(Attention, NanBehindTheWindowIsNotSeen) {
  const Shape shape{9, 3, 64, 16, 20};
  Matrix clean(60, shape.qkv_cols(), 1);
  Matrix dirty = clean;
  for (float& v : dirty.row(10)) v = std::numeric_limits<float>::quiet_NaN();
  for (const CpuIsa isa : CpuForms()) {
    SCOPED_TRACE(CpuIsaName(isa));
    Layer expected({isa, 1}, shape, {clean});
    expected.RunInChunks(60);
    Layer layer({isa, 2}, shape, {dirty});
    layer.RunInChunks(60);
    EXPECT_TRUE(std::isnan(layer.outputs()[0].row(10)[0]));
    EXPECT_TRUE(std::isnan(layer.outputs()[0].row(29)[0]));
    for (int32_t p = 30; p < 60; ++p) {
      EXPECT_TRUE(std::ranges::equal(layer.outputs()[0].row(p), expected.outputs()[0].row(p))) << p;
    }
  }
}

// The largest scores of an earlier partition dwarf those of the later ones, and the other way
// round.
TEST(Attention, PartitionsOfVeryDifferentScoresCombine) {
  const Shape shape{3, 1, 64, 16};
  for (const bool first_is_large : {true, false}) {
    Matrix input(600, shape.qkv_cols(), 5);
    for (int32_t p = 0; p < input.rows; ++p) {
      const bool large = (p < 256) == first_is_large;
      for (int32_t d = 0; d < 64; ++d)
        input.row(p)[static_cast<size_t>(3 * 64 + d)] *= large ? 100.0F : 0.01F;
    }
    const std::vector<float> cached = Halfs(input.data);
    for (const CpuIsa isa : CpuForms()) {
      Layer layer({isa, 1}, shape, {input});
      layer.RunInChunks(300);
      for (const int32_t position : {255, 256, 300, 599}) {
        for (int32_t head = 0; head < 3; ++head) {
          ExpectAttention(shape, input, cached, layer.outputs()[0], position, head);
        }
      }
    }
  }
}

// NaN in one sequence, and in its later positions, stays out of everything that does not attend to
// it.
TEST(Attention, NanStaysInTheContextsThatHoldIt) {
  const Shape shape{9, 3, 64, 16};
  Matrix clean(40, shape.qkv_cols(), 1);
  Matrix dirty = clean;
  for (float& v : dirty.row(30)) v = std::numeric_limits<float>::quiet_NaN();
  for (const CpuIsa isa : CpuForms()) {
    SCOPED_TRACE(CpuIsaName(isa));
    Layer expected({isa, 1}, shape, {clean});
    expected.RunInChunks(40);
    Layer layer({isa, 2}, shape, {dirty, clean});
    layer.RunInChunks(40);
    for (int32_t p = 0; p < 30; ++p) {
      EXPECT_TRUE(std::ranges::equal(layer.outputs()[0].row(p), expected.outputs()[0].row(p))) << p;
    }
    EXPECT_TRUE(std::isnan(layer.outputs()[0].row(30)[0]));
    EXPECT_TRUE(std::isnan(layer.outputs()[0].row(39)[0]));
    EXPECT_EQ(layer.outputs()[1].data, expected.outputs()[0].data);
  }
}

}  // namespace
}  // namespace sluice
