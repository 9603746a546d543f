// Where the CPU backend keeps the K and V of a position.
//
// One layer's cache is [num_blocks] KV blocks; a KV block is [Hkv][block_tokens/16] sub-blocks; a
// sub-block holds 16 positions of one KV head in f16: K as [H][16], so that a score's 16 lanes are
// 16 positions, then V as [16][Hp] with Hp = H rounded up to 16 (the padding stays zero). With H =
// 64 that is 4 KiB: one page, one hardware prefetch stream. Included by the files compiled for each
// form: static functions and plain data only.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace sluice::cpu {

inline constexpr int kKvSubBlock = 16;
inline constexpr int kMaxHeadDim = 256;

[[nodiscard, gnu::always_inline]] static inline int KvPaddedDim(int head_dim) {
  return (head_dim + 15) / 16 * 16;
}

// Halfs of one sub-block.
[[nodiscard, gnu::always_inline]] static inline int64_t KvSubBlockSize(int head_dim) {
  return int64_t{kKvSubBlock} * (head_dim + KvPaddedDim(head_dim));
}

// The sub-block of `kv_head` that holds `position` of the row whose block table is `blocks`.
[[nodiscard, gnu::always_inline]] static inline uint16_t* KvSubBlock(const KvLayer& kv,
                                                                     const int32_t* blocks,
                                                                     int32_t kv_head,
                                                                     int32_t position) {
  const int32_t per_block = kv.block_tokens / kKvSubBlock;
  const int64_t block = blocks[position / kv.block_tokens];
  const int64_t index =
      (block * kv.num_kv_heads + kv_head) * per_block + position % kv.block_tokens / kKvSubBlock;
  return static_cast<uint16_t*>(kv.data) + index * KvSubBlockSize(kv.head_dim);
}

}  // namespace sluice::cpu
