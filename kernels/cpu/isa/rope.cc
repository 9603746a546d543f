// Rotary positions and the KV store: for each pair (a, b) of a q or k head at position p and
// frequency i,
//   a' = a cos[p,i] - b sin[p,i],  b' = a sin[p,i] + b cos[p,i],
// in place; then k and v go to the row's KV block as f16, finite values clamped to f16's range.
//
// Order: elementwise in f32; a' = fma(a, cos, -(b sin)), b' = fma(a, sin, b cos).
// Work: items are tokens.
// Bytes: T * (8 (Hq + Hkv) H + 4 Hkv H + 8 Hkv H + 4 rope_dim).
// Bound by the store of K, which is transposed: one half in each of H cache lines a KV head.
// Source: arXiv:2104.09864 eq. 34.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/kv_layout.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

// Pairs (2i, 2i+1), as GGUF llama files store them.
void RotateInterleaved(float* __restrict head, const float* __restrict cos,
                       const float* __restrict sin, int pairs) {
  for (int i = 0; i < pairs; ++i) {
    const float a = head[2 * i];
    const float b = head[2 * i + 1];
    head[2 * i] = __builtin_fmaf(a, cos[i], -(b * sin[i]));
    head[2 * i + 1] = __builtin_fmaf(a, sin[i], b * cos[i]);
  }
}

// Pairs (i, i + pairs).
void RotateHalves(float* __restrict head, const float* __restrict cos, const float* __restrict sin,
                  int pairs) {
  for (int i = 0; i < pairs; ++i) {
    const float a = head[i];
    const float b = head[i + pairs];
    head[i] = __builtin_fmaf(a, cos[i], -(b * sin[i]));
    head[i + pairs] = __builtin_fmaf(a, sin[i], b * cos[i]);
  }
}

// Infinity would turn a later score into NaN. NaN stays.
SLUICE_INLINE F32x16 ClampToHalf(F32x16 x) {
  return Min(Broadcast(65504.0F), Max(Broadcast(-65504.0F), x));
}

void StoreHead(const float* k, const float* v, int head_dim, int lane, uint16_t* sub_block) {
  uint16_t* values = sub_block + head_dim * kLanes + lane * KvPaddedDim(head_dim);
  for (int d = 0; d < head_dim; d += kLanes) {
    const int n = head_dim - d;
    uint16_t column[kLanes];
    StoreF16(column, ClampToHalf(LoadFirst(k + d, n)));
    for (int j = 0; j < kLanes && j < n; ++j) sub_block[(d + j) * kLanes + lane] = column[j];
    StoreF16(values + d, ClampToHalf(LoadFirst(v + d, n)));
  }
}

}  // namespace

void RopeStoreKvTokens(const RopeStoreKvArgs& args, int64_t begin, int64_t end,
                       const Worker& /*worker*/) {
  const BatchView& batch = *args.batch;
  const int head_dim = args.kv.head_dim;
  const int num_kv_heads = args.kv.num_kv_heads;
  const int pairs = args.rope_dim / 2;
  for (int64_t t = begin; t < end; ++t) {
    const int32_t position = batch.positions[t];
    const float* cos = args.cos + int64_t{position} * pairs;
    const float* sin = args.sin + int64_t{position} * pairs;
    float* qkv = args.qkv + t * args.stride;
    for (int h = 0; h < args.num_q_heads + num_kv_heads; ++h) {
      if (args.interleaved) {
        RotateInterleaved(qkv + h * head_dim, cos, sin, pairs);
      } else {
        RotateHalves(qkv + h * head_dim, cos, sin, pairs);
      }
    }
    const int32_t* blocks = batch.blocks + batch.block_begin[args.token_row[t]];
    const float* k = qkv + args.num_q_heads * head_dim;
    const float* v = k + num_kv_heads * head_dim;
    for (int h = 0; h < num_kv_heads; ++h) {
      StoreHead(k + h * head_dim, v + h * head_dim, head_dim, position % kKvSubBlock,
                KvSubBlock(args.kv, blocks, h, position));
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
