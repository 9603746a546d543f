// A panel times a tile, lane by lane: see linear_q.cc. Included by linear_panel.h only.
#pragma once

#include "kernels/cpu/isa/linear_codes.h"
#include "kernels/cpu/isa/linear_tile.h"

namespace sluice::cpu::SLUICE_ISA {

// One packed block, unpacked.
struct BlockValues {
  F32x16 d, m;
  int32_t q[kPanelRows][kBlock];
  int32_t scale[kPanelRows][2], minimum[kPanelRows][2];  // of the halves; 1 and 0 if there are none
};

// The block's d and m hold the header's already.
template <Packing kPacking>
SLUICE_INLINE void UnpackBlock(const uint8_t* w, BlockValues& block) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  const uint8_t* p = w + kLayout.scales_at;
  if constexpr (kLayout.scales <= Scales::kDM)
    block.d = LoadF16(reinterpret_cast<const uint16_t*>(p));
  if constexpr (kLayout.scales == Scales::kDM)
    block.m = LoadF16(reinterpret_cast<const uint16_t*>(p + 32));
  for (int lane = 0; lane < kPanelRows; ++lane) {
    LaneValues<kPacking>(w, lane, block.q[lane]);
    if constexpr (kLayout.scales == Scales::kST) {
      block.d.v[lane] *= static_cast<float>(static_cast<int8_t>(p[lane]));
      block.m.v[lane] *= static_cast<float>(static_cast<int8_t>(p[16 + lane]));
    }
    for (int half = 0; half < 2; ++half) {
      const uint8_t byte = p[2 * lane + half];
      block.scale[lane][half] = kLayout.scales == Scales::kPair    ? static_cast<int8_t>(byte)
                                : kLayout.scales == Scales::kPairs ? byte & 15
                                                                   : 1;
      block.minimum[lane][half] = kLayout.scales == Scales::kPairs ? -(byte >> 4) : 0;
    }
  }
}

struct LaneSums {
  F32x16 dot, minimum;  // I and J of ops.h, exact
};
SLUICE_INLINE LaneSums SumsOf(const BlockValues& block, const int8_t* q) {
  LaneSums sums;
  for (int lane = 0; lane < kPanelRows; ++lane) {
    int32_t dot = 0;
    int32_t minimum = 0;
    for (int half = 0; half < 2; ++half) {
      int32_t half_dot = 0;
      int32_t half_sum = 0;
      for (int k = 16 * half; k < 16 * half + 16; ++k) {
        half_dot += block.q[lane][k] * q[k];
        half_sum += q[k];
      }
      dot += block.scale[lane][half] * half_dot;
      minimum += block.minimum[lane][half] * half_sum;
    }
    sums.dot.v[lane] = static_cast<float>(dot);
    sums.minimum.v[lane] = static_cast<float>(minimum);
  }
  return sums;
}

template <Packing kPacking, int kRows>
void Panel(const uint8_t* w, int64_t /*ahead*/, const TileInput& in, const TileOutput& out) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  F32x16 header_d = Zero();
  F32x16 header_m = Zero();
  F32x16 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = Zero();
  for (int64_t b = 0; b < in.blocks; ++b, w += kLayout.block_bytes) {
    if (kLayout.blocks > 1 && b % kLayout.blocks == 0) {
      header_d = LoadF16(reinterpret_cast<const uint16_t*>(w));
      if constexpr (kLayout.header_bytes > 32)
        header_m = LoadF16(reinterpret_cast<const uint16_t*>(w + 32));
      w += kLayout.header_bytes;
    }
    BlockValues block;
    block.d = header_d;
    block.m = header_m;
    UnpackBlock<kPacking>(w, block);
    for (int m = 0; m < kRows; ++m) {
      const LaneSums sums = SumsOf(block, in.q + (b * kRows + m) * kBlock);
      const F32x16 sx = Broadcast(in.scale[b * kRows + m]);
      acc[m] = Fma(sums.dot, block.d * sx, acc[m]);
      if constexpr (kLayout.scales == Scales::kDM || kLayout.scales == Scales::kST)
        acc[m] = Fma(block.m, Broadcast(in.scaled_sum[b * kRows + m]), acc[m]);
      if constexpr (kLayout.scales == Scales::kPairs)
        acc[m] = Fma(sums.minimum, block.m * sx, acc[m]);
    }
  }
  for (int m = 0; m < kRows; ++m) StoreOutput(out, m, acc[m]);
}

}  // namespace sluice::cpu::SLUICE_ISA
