#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

constexpr int32_t kMaxPosition = 64;
constexpr int32_t kBlockTokens = 16;

struct Shape {
  int32_t num_q_heads, num_kv_heads, head_dim, rope_dim;
  bool interleaved;
};

// cos and sin of position * 10000^(-2i/rope_dim).
std::vector<float> Table(int32_t rope_dim, bool cosine) {
  std::vector<float> table;
  for (int32_t p = 0; p < kMaxPosition; ++p) {
    for (int32_t i = 0; i < rope_dim / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / rope_dim);
      table.push_back(static_cast<float>(cosine ? std::cos(angle) : std::sin(angle)));
    }
  }
  return table;
}

// A cache of blocks for one row, stored and rotated by one backend.
struct Layer {
  Layer(const CpuSetting& setting, const Shape& shape, Matrix qkv, int32_t first_position)
      : ops(MakeCpuOps(setting)), qkv(std::move(qkv)), blocks(kMaxPosition / kBlockTokens) {
    std::iota(blocks.rbegin(), blocks.rend(), 0);  // a table that is not the identity
    kv = {nullptr, static_cast<int32_t>(blocks.size()), kBlockTokens, shape.num_kv_heads,
          shape.head_dim};
    auto memory = ops->Allocate(kv.num_blocks * ops->KvBlockBytes(kv));
    EXPECT_TRUE(memory.ok());
    kv.data = *memory;
    const std::vector<float> cos = Table(shape.rope_dim, true);
    const std::vector<float> sin = Table(shape.rope_dim, false);
    StepBatch batch;
    batch.AddRow(this->qkv.rows, first_position, blocks);
    ops->BeginStep(batch.view());
    ops->RopeAndStoreKv(this->qkv.view(), shape.num_q_heads,
                        {shape.rope_dim, shape.interleaved, cos.data(), sin.data()}, kv);
    EXPECT_TRUE(ops->Finish().ok());
  }

  std::unique_ptr<Ops> ops;
  Matrix qkv;
  std::vector<int32_t> blocks;
  KvLayer kv;
};

class RopeOf : public testing::TestWithParam<Shape> {};

TEST_P(RopeOf, RotatesLikeDoublePrecisionInEveryForm) {
  const Shape shape = GetParam();
  constexpr int32_t kFirst = 5;
  Matrix qkv(37, (shape.num_q_heads + 2 * shape.num_kv_heads) * shape.head_dim, 1);
  std::vector<int32_t> positions(static_cast<size_t>(qkv.rows));
  std::iota(positions.begin(), positions.end(), kFirst);
  const std::vector<float> cos = Table(shape.rope_dim, true);
  const std::vector<float> sin = Table(shape.rope_dim, false);
  const std::vector<double> expected =
      reference::Rope(qkv.view(), positions, shape.num_q_heads, shape.num_kv_heads, shape.head_dim,
                      {shape.rope_dim, shape.interleaved, cos.data(), sin.data()});
  std::vector<float> first;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const Layer run(setting, shape, qkv, kFirst);
    if (first.empty()) first = run.qkv.data;
    EXPECT_EQ(run.qkv.data, first);
    // Two roundings of terms no larger than |a| + |b| < 10.
    for (size_t i = 0; i < first.size(); ++i)
      ASSERT_NEAR(first[i], expected[i], 2 * 10 * 0x1p-24) << i;
  }
}

// A query of zeros weighs its one position with 1: attention over one position returns the stored
// V.
TEST_P(RopeOf, StoresValuesAsTheNearestHalf) {
  const Shape shape = GetParam();
  Matrix qkv(1, (shape.num_q_heads + 2 * shape.num_kv_heads) * shape.head_dim, 2);
  const int32_t v_begin = (shape.num_q_heads + shape.num_kv_heads) * shape.head_dim;
  qkv.data[static_cast<size_t>(v_begin)] = 1e6F;
  qkv.data[static_cast<size_t>(v_begin) + 1] = -std::numeric_limits<float>::infinity();
  qkv.data[static_cast<size_t>(v_begin) + 2] = 1e-7F;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    Layer run(setting, shape, qkv, 0);
    StepBatch batch;
    batch.AddRow(1, 0, std::span(run.blocks).first(1));
    Matrix q(1, shape.num_q_heads * shape.head_dim);
    std::fill(q.data.begin(), q.data.end(), 0.0F);
    Matrix out(1, q.cols);
    run.ops->BeginStep(batch.view());
    run.ops->Attention(q.view(), shape.num_q_heads, {.scale = 1}, run.kv, out.view());
    ASSERT_TRUE(run.ops->Finish().ok());
    const int32_t group = shape.num_q_heads / shape.num_kv_heads;
    for (int32_t i = 0; i < q.cols; ++i) {
      const int32_t v = i / shape.head_dim / group * shape.head_dim + i % shape.head_dim;
      const float value =
          std::clamp(qkv.data[static_cast<size_t>(v_begin + v)], -65504.0F, 65504.0F);
      ASSERT_EQ(out.data[static_cast<size_t>(i)],
                reference::HalfToFloat(reference::FloatToHalf(value)))
          << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RopeOf,
                         testing::Values(Shape{9, 3, 64, 64, true}, Shape{9, 3, 64, 64, false},
                                         Shape{4, 4, 40, 40, false}, Shape{2, 1, 128, 32, true},
                                         Shape{3, 1, 18, 6, false}));

TEST(Rope, AHeadTheBackendCannotHoldFailsTheStep) {
  const auto ops = MakeCpuOps({BestCpuIsa(), 1});
  StepBatch batch;
  batch.AddRow(1, 0, std::vector<int32_t>{0});
  Matrix qkv(1, 3 * 512);
  KvLayer kv{nullptr, 1, 16, 1, 512};
  ops->BeginStep(batch.view());
  ops->RopeAndStoreKv(qkv.view(), 1, {}, kv);
  EXPECT_EQ(ops->Finish().message(), "head_dim is 512; the CPU backend allows 1 to 256");
  kv.head_dim = 256;
  kv.type = KvType::kFp8;
  ops->BeginStep(batch.view());
  ops->RopeAndStoreKv(qkv.view().Columns(0, 3 * 256), 1, {}, kv);
  EXPECT_EQ(ops->Finish().message(), "a KV cache of fp8; the CPU backend has f16");
}

}  // namespace
}  // namespace sluice
