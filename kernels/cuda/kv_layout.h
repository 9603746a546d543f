// How a KV block of one layer lies in device memory; the host's sizes and the kernels' places.
//
// Codes [Hkv][K, V][block_tokens][head_dim rounded up to 16], then for types with scales f16
// [Hkv][K, V][block_tokens]: a position's bytes depend on nothing but its own keys and values. What
// is past head_dim stays zero.
//
//   f16   the number, clamped to f16's range
//   bf16  the number, clamped to the same range: it is multiplied as f16
//   fp8   e4m3; value = code * 2^-8 * scale, scale = amax / 1.75: read at f16's place of the sign,
//         exponent and fraction, a code is 2^-8 of itself
//   int8  value = code * scale, scale = amax / 127
//
// Scales are rounded up, so that no code is clamped; 0 where all is 0, NaN where anything is NaN.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace sluice::cuda {

inline constexpr int32_t kMaxHeadDim = 256;
[[nodiscard]] constexpr int32_t PaddedHeadDim(int32_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}

[[nodiscard]] constexpr bool HasScales(KvType type) {
  return type == KvType::kFp8 || type == KvType::kInt8;
}
// Scales are copied for so many positions at once: a divisor of block_tokens where there are any.
inline constexpr int32_t kScalesOfCopy = 8;
[[nodiscard]] constexpr int32_t KvCodeBytes(KvType type) { return HasScales(type) ? 1 : 2; }

// The largest magnitude that is stored. f16's, and what is not above it as bf16, and with any scale
// rounded up times its largest code.
[[nodiscard]] constexpr float LargestKv(KvType type) {
  return HasScales(type) ? 65464 : type == KvType::kBf16 ? 65280 : 65504;
}
// What the largest code counts, of a type with scales.
[[nodiscard]] constexpr float LargestCode(KvType type) {
  return type == KvType::kFp8 ? 1.75F : 127.0F;
}

// Of a KV block, which is far smaller than 2 GiB.
[[nodiscard]] constexpr int32_t KvCodesBytes(const KvLayer& kv) {
  return 2 * kv.num_kv_heads * kv.block_tokens * PaddedHeadDim(kv.head_dim) * KvCodeBytes(kv.type);
}
[[nodiscard]] constexpr int32_t BytesOfKvBlock(const KvLayer& kv) {
  const int32_t scales = 2 * kv.num_kv_heads * kv.block_tokens;
  return KvCodesBytes(kv) + (HasScales(kv.type) ? scales * 2 : 0);
}

// Of the keys, or the values, of a head of KV block `block`.
struct KvPlace {
  int32_t block;
  int32_t head;
  bool values;
};
// The codes at position `at` of the block: 16 bytes aligned.
[[nodiscard]] constexpr uint8_t* KvCodes(const KvLayer& kv, const KvPlace& place, int32_t at) {
  const int32_t line = (2 * place.head + (place.values ? 1 : 0)) * kv.block_tokens + at;
  return static_cast<uint8_t*>(kv.data) + int64_t{place.block} * BytesOfKvBlock(kv) +
         line * PaddedHeadDim(kv.head_dim) * KvCodeBytes(kv.type);
}
[[nodiscard]] constexpr uint8_t* KvScale(const KvLayer& kv, const KvPlace& place, int32_t at) {
  const int32_t line = (2 * place.head + (place.values ? 1 : 0)) * kv.block_tokens + at;
  return static_cast<uint8_t*>(kv.data) + int64_t{place.block} * BytesOfKvBlock(kv) +
         KvCodesBytes(kv) + line * 2;
}

}  // namespace sluice::cuda
