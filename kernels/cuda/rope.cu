// The heads' norms if there are any, the rotation of q and k, and k and v into the row's KV blocks.
//   y[i] = x[i] c - x[j] s, y[j] = x[i] s + x[j] c for the pairs (i, j) of a head's leading
//   rope_dim elements, c and s of the token's position.
//
// Work: a block a token, a warp every 8th head, a lane pairs i = lane, lane + 32, ... Bytes: a
// token's qkv read and its q and k written, 4 B each, and 2 Hkv H codes of cache with their scales
// (kv_layout.h). Bound by memory.
// Accumulation: a norm's squares in a lane (element mod 32) ascending, then a butterfly.
// Sources: arXiv:2104.09864 eq. 34, arXiv:2302.05442 (norms of heads), arXiv:2309.06180 (blocks).
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {
namespace {

constexpr int32_t kWarps = kRowThreads / 32;

// x *= weight / rms(x), by a warp whose lane holds every 32nd element from its own.
SLUICE_DEVICE void NormHead(float* x, int32_t head_dim, const float* weight, float eps) {
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  float squares = 0;
  for (int32_t i = lane; i < head_dim; i += 32) squares = Fma(x[i], x[i], squares);
  const float mean = Divide(GroupSum<32>(squares), static_cast<float>(head_dim));
  const float factor = Divide(1.0F, SquareRoot(mean + eps));
  for (int32_t i = lane; i < head_dim; i += 32) x[i] = x[i] * factor * weight[i];
  SyncWarp();
}

SLUICE_DEVICE void RotateHead(float* x, const RopeParams& rope, int32_t position) {
  const int32_t half = rope.rope_dim / 2;
  const float* cos = rope.cos + int64_t{position} * half;
  const float* sin = rope.sin + int64_t{position} * half;
  for (auto i = static_cast<int32_t>(ThreadIndex().x % 32); i < half; i += 32) {
    const int32_t first = rope.interleaved ? 2 * i : i;
    const int32_t second = rope.interleaved ? 2 * i + 1 : i + half;
    const float a = x[first], b = x[second];
    x[first] = Fma(a, cos[i], -(b * sin[i]));
    x[second] = Fma(a, sin[i], b * cos[i]);
  }
  SyncWarp();
}

template <KvType kType>
SLUICE_DEVICE float WithinKv(float x) {
  constexpr float kLargest = LargestKv(kType);
  if (x > kLargest) return kLargest;
  return x < -kLargest ? -kLargest : x;  // NaN stays
}

// The scale of a head's keys or values, as f16, by a warp; see kv_layout.h.
template <KvType kType>
SLUICE_DEVICE uint16_t ScaleOf(const float* x, int32_t head_dim) {
  float largest = 0;
  bool is_nan = false;
  for (auto i = static_cast<int32_t>(ThreadIndex().x % 32); i < head_dim; i += 32) {
    is_nan |= x[i] != x[i];
    largest = Larger(largest, Magnitude(WithinKv<kType>(x[i])));
  }
  if (Ballot(is_nan) != 0) return 0x7fff;
  largest = GroupMax<32>(largest);
  const uint16_t scale = FloatToHalf(Divide(largest, LargestCode(kType)));
  return HalfToFloat(scale) * LargestCode(kType) < largest ? scale + 1 : scale;
}

// A head's keys or values into its place at position `at` of a KV block.
template <KvType kType>
SLUICE_DEVICE void StoreHead(KvLayer kv, const KvPlace& place, int32_t at, const float* x) {
  kv.type = kType;
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  uint8_t* codes = KvCodes(kv, place, at);
  float scale = 0;
  if constexpr (HasScales(kType)) {
    const uint16_t half = ScaleOf<kType>(x, kv.head_dim);
    if (lane == 0) *reinterpret_cast<uint16_t*>(KvScale(kv, place, at)) = half;
    scale = HalfToFloat(half);
  }
  for (int32_t i = lane; i < kv.head_dim; i += 32) {
    const float value = WithinKv<kType>(x[i]);
    if constexpr (kType == KvType::kF16) {
      reinterpret_cast<uint16_t*>(codes)[i] = FloatToHalf(value);
    } else if constexpr (kType == KvType::kBf16) {
      reinterpret_cast<uint16_t*>(codes)[i] = FloatToBf16(value);
    } else {
      const float code = scale > 0 ? Divide(value, scale) : 0.0F;
      codes[i] =
          static_cast<uint8_t>(kType == KvType::kFp8 ? FloatToE4m3(code * 256)
                                                     : static_cast<uint32_t>(RoundToInt(code)));
    }
  }
}

template <KvType kType>
SLUICE_KERNEL(kRowThreads)
RopeAndStoreKvKernel(RopeArgs args) {
  const auto token = static_cast<int32_t>(BlockIndex().x);
  if (args.batch.counts != nullptr && token >= args.batch.counts[0]) return;  // a bucket's
  const auto warp = static_cast<int32_t>(ThreadIndex().x / 32);
  const int32_t position = args.batch.positions[token], row = args.batch.token_row[token];
  const int32_t head_dim = args.kv.head_dim;
  const int32_t num_kv_heads = args.kv.num_kv_heads, block_tokens = args.kv.block_tokens;
  const int32_t rotated = args.num_q_heads + num_kv_heads;
  const int32_t block = args.batch.blocks[args.batch.block_begin[row] + position / block_tokens];
  float* qkv = RowOf(args.qkv, token);
  for (int32_t h = warp; h < rotated + num_kv_heads; h += kWarps) {
    float* x = qkv + h * head_dim;
    if (h < rotated) {
      if (args.qk_norm != nullptr) NormHead(x, head_dim, args.qk_norm + h * head_dim, args.eps);
      if (args.rope.rope_dim > 0) RotateHead(x, args.rope, position);
    }
    if (h < args.num_q_heads) continue;
    const int32_t kv_head = (h - args.num_q_heads) % num_kv_heads;
    StoreHead<kType>(args.kv, {block, kv_head, h >= rotated}, position % block_tokens, x);
  }
}

}  // namespace

cudaError_t RopeAndStoreKv(const RopeArgs& args, cudaStream_t stream) {
  return WithKvType(args.kv.type, [&]<KvType kType>() {
    return Launch("rope_and_store_kv", &RopeAndStoreKvKernel<kType>,
                  {.grid_x = static_cast<uint32_t>(args.qkv.rows), .threads = kRowThreads}, stream,
                  args);
  });
}

}  // namespace sluice::cuda
