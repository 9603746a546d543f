// KV caches of every type: what is stored, against the codes' definition in double; attention over
// it, against double over the values as they are stored; and bits that neither chunks nor splits
// change. What an earlier owner left in the blocks is NaN, scales too.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/kv_layout.h"
#include "tests/cuda/device_fixture.h"
#include "tests/kernels/reference.h"

namespace sluice::cuda {
namespace {

constexpr KvType kTypes[] = {KvType::kF16, KvType::kBf16, KvType::kFp8, KvType::kInt8};
constexpr int32_t kBlockTokens = 16;

std::vector<float> Random(size_t count, uint32_t seed, float deviation) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

float HalfAt(const std::vector<uint8_t>& bytes, size_t at) {
  return reference::HalfToFloat(static_cast<uint16_t>(bytes[at] | bytes[at + 1] << 8));
}
float E4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double value =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return static_cast<float>(code < 0x80 ? value : -value);
}

// What a block says of keys (line 0) and values (line 1) at position `at`, of one KV head.
std::vector<float> Decoded(const std::vector<uint8_t>& block, const KvLayer& kv, int line, int at) {
  const int padded = PaddedHeadDim(kv.head_dim);
  const size_t row = static_cast<size_t>(line) * kv.block_tokens + at;
  const size_t codes = size_t{2} * kv.block_tokens * padded;
  std::vector<float> values;
  for (int d = 0; d < kv.head_dim; ++d) {
    const size_t code = row * padded + d;
    switch (kv.type) {
      case KvType::kF16:
        values.push_back(HalfAt(block, 2 * code));
        break;
      case KvType::kBf16:
        values.push_back(HalfAt(block, 2 * code));
        values.back() = reference::HalfToFloat(reference::FloatToHalf(reference::BFloat16ToFloat(
            static_cast<uint16_t>(block[2 * code] | block[2 * code + 1] << 8))));
        break;
      case KvType::kFp8:
        values.push_back(E4m3(block[code]) * 0x1p-8F * HalfAt(block, codes + 2 * row));
        break;
      case KvType::kInt8:
        values.push_back(static_cast<float>(static_cast<int8_t>(block[code])) *
                         HalfAt(block, codes + 2 * row));
        break;
    }
  }
  return values;
}

class KvKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, KvKernels, ::testing::Values(0, 1));

// Keys and values of one head for some positions, of which each has another kind of number.
std::vector<std::vector<float>> Heads(int32_t head_dim) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<std::vector<float>> heads;
  const float deviations[] = {1, 1e-3F, 1e-6F, 1e-9F, 300, 3e4F};
  for (const float deviation : deviations)
    heads.push_back(Random(static_cast<size_t>(head_dim), 5, deviation));
  heads.emplace_back(head_dim, 0.0F);
  heads.emplace_back(head_dim, -2.5F);
  heads.push_back(Random(static_cast<size_t>(head_dim), 6, 1));
  heads.back()[3] = -kInfinity;
  heads.push_back(Random(static_cast<size_t>(head_dim), 7, 1));
  heads.back()[head_dim - 1] = std::numeric_limits<float>::quiet_NaN();
  heads.push_back(Random(static_cast<size_t>(head_dim), 8, 0.01F));
  heads.back()[0] = 200;  // an outlier
  return heads;
}

TEST_P(KvKernels, StoreWhatTheTypesDefinitionSays) {
  for (const KvType type : kTypes) {
    for (const int32_t head_dim : {40, 64, 128}) {
      SCOPED_TRACE(std::string(KvTypeName(type)) + ", head_dim " + std::to_string(head_dim));
      const auto heads = Heads(head_dim);
      const auto tokens = static_cast<int32_t>(heads.size());
      std::vector<int32_t> positions;
      for (int32_t t = 0; t < tokens; ++t) positions.push_back(t);
      const DeviceArray<int32_t> positions_d(positions);
      const DeviceArray<int32_t> zeros(std::vector<int32_t>(heads.size()));
      const DeviceTensor qkv(tokens, 3 * head_dim, [&](int t, int c) {
        return c < head_dim ? 0.0F : heads[c < 2 * head_dim ? t : tokens - 1 - t][c % head_dim];
      });
      KvLayer kv{nullptr, 1, kBlockTokens, 1, head_dim, type};
      const DeviceArray<uint8_t> cache(
          std::vector<uint8_t>(static_cast<size_t>(BytesOfKvBlock(kv))));
      kv.data = cache.data();
      RopeArgs args{
          .qkv = qkv.tensor(), .num_q_heads = 1, .rope = {}, .kv = kv, .qk_norm = nullptr};
      args.batch.positions = positions_d.data();
      args.batch.token_row = args.batch.blocks = args.batch.block_begin = zeros.data();
      ASSERT_EQ(RopeAndStoreKv(args, nullptr), cudaSuccess);
      const std::vector<uint8_t> block = cache.Read();
      for (int32_t t = 0; t < tokens; ++t) {
        for (const int line : {0, 1}) {
          const auto& head = heads[line == 0 ? t : tokens - 1 - t];
          const auto expected = reference::StoredKv(head, type, reference::KvPart::kKey);
          const auto got = Decoded(block, kv, line, t);
          float amax = 0;
          for (const float x : head) amax = std::max(amax, std::min(std::abs(x), LargestKv(type)));
          for (int32_t d = 0; d < head_dim; ++d) {
            if (std::isnan(expected[d])) {
              ASSERT_TRUE(std::isnan(got[d])) << "token " << t << ", dimension " << d;
              continue;
            }
            ASSERT_EQ(got[d], expected[d]) << "token " << t << ", dimension " << d;
            const double x = std::clamp(head[d], -LargestKv(type), LargestKv(type));
            ASSERT_NEAR(got[d], x, reference::StoreError(x, amax, type)) << "token " << t;
          }
        }
      }
    }
  }
}

struct Shape {
  int32_t num_q_heads, num_kv_heads, head_dim, window;
  float softcap;
  [[nodiscard]] int32_t cols() const { return (num_q_heads + 2 * num_kv_heads) * head_dim; }
  [[nodiscard]] AttentionParams params() const {
    return {1 / std::sqrt(static_cast<float>(head_dim)), window, softcap};
  }
};

// The last tokens of a sequence attend, those of `chunk` at a time: 40 of 290, two partitions.
constexpr int32_t kTokens = 290, kCached = 250;

// The outputs of the tokens from kCached on: [(kTokens - kCached) * Hq * H].
std::vector<float> Attended(const Shape& shape, KvType type, const std::vector<float>& inputs,
                            int32_t chunk, int32_t multiprocessors) {
  simt::SetDevices({{.multiprocessors = multiprocessors}});
  auto made = CreateCudaOps({.max_step_tokens = kTokens});
  EXPECT_TRUE(made.ok()) << made.status();
  Ops& ops = **made;
  KvLayer kv{nullptr,        (kTokens + kBlockTokens - 1) / kBlockTokens + 1,
             kBlockTokens,   shape.num_kv_heads,
             shape.head_dim, type};
  const int64_t bytes = kv.num_blocks * ops.KvBlockBytes(kv);
  kv.data = *ops.Allocate(bytes);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);        // no zeros come later
  if (PaddedHeadDim(shape.head_dim) == shape.head_dim) {  // what lies past a head stays zero
    EXPECT_EQ(cudaMemset(kv.data, 0xff, static_cast<size_t>(bytes)), cudaSuccess);
  }
  std::vector<int32_t> blocks;
  for (int32_t b = kv.num_blocks - 1; b > 0; --b) blocks.push_back(b);
  const int32_t cols = shape.num_q_heads * shape.head_dim;
  std::vector<float> outputs;
  for (int32_t done = 0, context = kCached; done < kTokens; done = context) {
    if (done > 0) context = std::min(done + chunk, kTokens);
    const int32_t count = context - done;
    std::vector<int32_t> positions, ids(static_cast<size_t>(count));
    for (int32_t p = done; p < context; ++p) positions.push_back(p);
    const int32_t row_begin[] = {0, count}, zero[] = {0};
    const int32_t block_begin[] = {0, (context + kBlockTokens - 1) / kBlockTokens};
    const BatchView batch{.num_tokens = count,
                          .num_rows = 1,
                          .tokens = ids.data(),
                          .positions = positions.data(),
                          .row_begin = row_begin,
                          .context_len = &context,
                          .blocks = blocks.data(),
                          .block_begin = block_begin,
                          .slots = zero};
    const DeviceTensor qkv(count, shape.cols(), [&](int t, int c) {
      return inputs[static_cast<size_t>(done + t) * shape.cols() + c];
    });
    const DeviceTensor out(count, cols);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // the backend's stream does not wait for them
    ops.BeginStep(batch);
    ops.RopeAndStoreKv(qkv.tensor(), shape.num_q_heads, {}, kv);
    if (done > 0) {
      ops.Attention(qkv.tensor().Columns(0, cols), shape.num_q_heads, shape.params(), kv,
                    out.tensor());
    }
    const absl::Status status = ops.Finish();
    EXPECT_TRUE(status.ok()) << status;
    if (done == 0) continue;
    const std::vector<float> read = out.Read();
    outputs.insert(outputs.end(), read.begin(), read.end());
  }
  return outputs;
}

const Shape kShapes[] = {
    {2, 1, 64, 0, 0},  {3, 3, 80, 0, 0},    {4, 1, 96, 40, 0},
    {2, 1, 128, 0, 2}, {2, 1, 256, 270, 0}, {2, 2, 40, 0, 0},
};

// What differs from double over the stored values, and from double over what was to be stored.
struct Bounds {
  double stored, unrounded;
};
// Of a query's output: scores are wrong by at most a rounding of each element of q, weights by that
// and a rounding of their own, which moves the mean by twice as much of the largest value. What a
// key is wrong by moves scores likewise, what a value is wrong by the mean.
Bounds BoundsOf(const Shape& shape, KvType type, std::span<const float> q, const float* keys,
                const float* values, int32_t position) {
  constexpr double kHalf = 0x1p-11;
  double score = 0, key_error = 0, largest = 0, value_error = 0;
  const double scale = shape.params().scale;
  for (int32_t p = 0; p <= position; ++p) {
    const float* key = keys + int64_t{p} * shape.cols();
    const float* value = values + int64_t{p} * shape.cols();
    double key_max = 0, value_max = 0, terms = 0, errors = 0;
    for (int32_t d = 0; d < shape.head_dim; ++d) {
      key_max = std::max(key_max, std::abs(double{key[d]}));
      value_max = std::max(value_max, std::abs(double{value[d]}));
    }
    for (int32_t d = 0; d < shape.head_dim; ++d) {
      terms += std::abs(double{q[d]} * key[d]) * scale;
      errors += std::abs(double{q[d]}) * scale * reference::StoreError(key[d], key_max, type);
    }
    score = std::max(score, terms);
    key_error = std::max(key_error, errors);
    largest = std::max(largest, value_max);
    value_error = std::max(value_error, reference::StoreError(value_max, value_max, type));
  }
  const double stored =
      2 * largest * 1.1 * (kHalf * (score + key_error + 1) + (position + 1) * 0x1p-24);
  return {stored, stored + 2 * (largest + value_error) * std::expm1(key_error) + value_error};
}

TEST_P(KvKernels, AttentionIsThatOverTheStoredValues) {
  for (const Shape& shape : kShapes) {
    const auto inputs = Random(static_cast<size_t>(kTokens) * shape.cols(), 11, 0.5F);
    for (const KvType type : kTypes) {
      SCOPED_TRACE(std::string(KvTypeName(type)) + ", head_dim " + std::to_string(shape.head_dim));
      const auto got = Attended(shape, type, inputs, kTokens, 16);
      std::vector<float> stored = inputs;
      const int32_t keys = shape.num_q_heads * shape.head_dim;
      const int32_t values = keys + shape.num_kv_heads * shape.head_dim;
      for (int32_t p = 0; p < kTokens; ++p) {
        for (int32_t at = keys; at < shape.cols(); at += shape.head_dim) {
          const auto head = std::span(stored).subspan(static_cast<size_t>(p) * shape.cols() + at,
                                                      static_cast<size_t>(shape.head_dim));
          const auto part = at < values ? reference::KvPart::kKey : reference::KvPart::kValue;
          std::ranges::copy(reference::StoredKv(head, type, part), head.begin());
        }
      }
      for (const int32_t position : {kCached, 255, 256, kTokens - 1}) {
        for (int32_t h = 0; h < shape.num_q_heads; ++h) {
          const int32_t kv_head = h / (shape.num_q_heads / shape.num_kv_heads) * shape.head_dim;
          const auto q = std::span(inputs).subspan(
              static_cast<size_t>(position) * shape.cols() + h * shape.head_dim,
              static_cast<size_t>(shape.head_dim));
          const auto attend = [&](const std::vector<float>& from) {
            return reference::Attend(q, from.data() + keys + kv_head,
                                     from.data() + values + kv_head, shape.cols(), position,
                                     shape.params());
          };
          const Bounds bounds = BoundsOf(shape, type, q, inputs.data() + keys + kv_head,
                                         inputs.data() + values + kv_head, position);
          const auto expected = attend(stored), unrounded = attend(inputs);
          for (int32_t d = 0; d < shape.head_dim; ++d) {
            const float y = got[(static_cast<size_t>(position - kCached) * shape.num_q_heads + h) *
                                    shape.head_dim +
                                d];
            ASSERT_NEAR(y, expected[d], bounds.stored) << "position " << position << ", head " << h;
            ASSERT_NEAR(y, unrounded[d], bounds.unrounded) << "position " << position;
          }
        }
      }
    }
  }
}

TEST_P(KvKernels, BitsDoNotDependOnChunksOrSplits) {
  for (const Shape& shape : kShapes) {
    const auto inputs = Random(static_cast<size_t>(kTokens) * shape.cols(), 12, 1);
    for (const KvType type : kTypes) {
      SCOPED_TRACE(std::string(KvTypeName(type)) + ", head_dim " + std::to_string(shape.head_dim));
      const auto whole = Attended(shape, type, inputs, kTokens, 16);
      // Of few tokens, cut by partition or not.
      for (const int32_t multiprocessors : {1, 16}) {
        const auto cut = Attended(shape, type, inputs, 5, multiprocessors);
        ASSERT_EQ(cut.size(), whole.size());
        const auto at = std::ranges::mismatch(cut, whole).in1 - cut.begin();
        EXPECT_EQ(cut, whole) << multiprocessors << " multiprocessors; element " << at << " of "
                              << cut.size() << " is the first that differs";
      }
    }
  }
}

TEST(KvTypes, BlocksThatScalesAreNotCopiedFromAreRefused) {
  simt::SetDevices({simt::DeviceModel{}});
  const auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  const int32_t zero[] = {0, 0}, ends[] = {0, 1}, one[] = {1};
  (*ops)->BeginStep({.num_tokens = 1,
                     .num_rows = 1,
                     .tokens = zero,
                     .positions = zero,
                     .row_begin = ends,
                     .context_len = one,
                     .blocks = zero,
                     .block_begin = ends,
                     .slots = zero});
  const DeviceTensor qkv(1, 3 * 16);
  (*ops)->RopeAndStoreKv(qkv.tensor(), 1, {}, {nullptr, 1, 4, 1, 16, KvType::kInt8});
  EXPECT_EQ((*ops)->Finish().message(),
            "a KV block holds 4 tokens; a KV cache of int8 needs a multiple of 8");
}

TEST(KvTypes, OfOneByteTakeHalfTheMemoryAndTheirScales) {
  simt::SetDevices({simt::DeviceModel{}});
  const auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  const auto bytes = [&](KvType type) {
    return (*ops)->KvBlockBytes({nullptr, 0, 16, 8, 128, type});
  };
  EXPECT_EQ(bytes(KvType::kF16), 2 * 8 * 16 * 128 * 2);
  EXPECT_EQ(bytes(KvType::kBf16), bytes(KvType::kF16));
  EXPECT_EQ(bytes(KvType::kFp8), 2 * 8 * 16 * (128 + 2));
  EXPECT_EQ(bytes(KvType::kInt8), bytes(KvType::kFp8));
}

}  // namespace
}  // namespace sluice::cuda
