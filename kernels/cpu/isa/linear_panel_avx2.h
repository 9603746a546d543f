// A panel times a tile with vpmaddubsw: see linear_q.cc. Included by linear_panel.h only.
#pragma once

#include "kernels/cpu/isa/linear_codes.h"
#include "kernels/cpu/isa/linear_tile.h"

namespace sluice::cpu::SLUICE_ISA {

// The floats and integers that turn the dots of a block into values, for 8 lanes.
struct LaneScales {
  __m256 d, m;
  __m256i pairs, minima;  // two int16 a lane: of k < 16 and k >= 16
};

SLUICE_INLINE __m256 LoadBytes(const uint8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// Lanes [8 half, 8 half + 8); `s` holds the header's d and m already.
template <Packing kPacking>
SLUICE_INLINE LaneScales ScalesOfBlock(const uint8_t* w, int half, LaneScales s) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  const uint8_t* p = w + kLayout.scales_at;
  if constexpr (kLayout.scales <= Scales::kDM) s.d = _mm256_cvtph_ps(LoadHalf(p + 16 * half));
  if constexpr (kLayout.scales == Scales::kDM) s.m = _mm256_cvtph_ps(LoadHalf(p + 32 + 16 * half));
  if constexpr (kLayout.scales == Scales::kST) {
    s.d = _mm256_mul_ps(s.d, LoadBytes(p + 8 * half));
    s.m = _mm256_mul_ps(s.m, LoadBytes(p + 16 + 8 * half));
  }
  if constexpr (kLayout.scales == Scales::kPair)
    s.pairs = _mm256_cvtepi8_epi16(LoadHalf(p + 16 * half));
  if constexpr (kLayout.scales == Scales::kPairs) {
    const __m256i both = _mm256_cvtepu8_epi16(LoadHalf(p + 16 * half));
    s.pairs = _mm256_and_si256(both, _mm256_set1_epi16(15));
    s.minima = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_srli_epi16(both, 4));
  }
  return s;
}

// Q8_0 and IQ4_NL, signed: |q| <= 128 fits int16 for one pair (2 * 128 * 127 = 32512), so |q| is
// multiplied by the activation with q's sign, and every group is widened.
template <Packing kPacking, int kRows>
SLUICE_INLINE void SignedDots(const uint8_t* w, const int8_t* q, __m256i* dot) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int m = 0; m < kRows; ++m) dot[m] = _mm256_setzero_si256();
  ForGroups<0, 8>([&]<int kGroup>() __attribute__((always_inline)) {
    const __m256i v = Codes<kPacking, kGroup>(w);
    const __m256i magnitude = _mm256_abs_epi8(v);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const __m256i a = _mm256_sign_epi8(BroadcastWord(q + m * kBlock + 4 * kGroup), v);
      dot[m] =
          _mm256_add_epi32(dot[m], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, a), ones));
    }
  });
}

// How many groups of codes up to `most` add up in int16: each adds two products of at most
// most * 127. 8 for nibbles (30480), 4 for 5 bits (31496), 2 for 6 bits (32004). At most 4 where
// the halves of 16 have scales of their own.
constexpr int GroupsInInt16(int most, bool pairs) {
  int groups = pairs ? 4 : 8;
  while (groups * 2 * most * 127 > 32767) groups /= 2;
  return groups;
}

// Sums of kGroups groups in int16, then vpmaddwd by 1 or by the scale of the half.
template <Packing kPacking, int kRows>
SLUICE_INLINE void UnsignedDots(const uint8_t* w, const LaneScales& s, const int8_t* q,
                                const int32_t* half_sums, __m256i* dot) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  constexpr bool kPairs = HasPairs(kLayout);
  constexpr int kMost = (1 << (kLayout.low_bits + kLayout.high_bits)) - 1;
  constexpr int kGroups = GroupsInInt16(kMost, kPairs);
  static_assert(kGroups >= 1 && kGroups * 2 * kMost * 127 <= 32767);
  ForGroups<0, 8 / kGroups>([&]<int kPart>() __attribute__((always_inline)) {
    __m256i factor = _mm256_set1_epi16(1);
    if constexpr (kPairs) {  // both int16 of a lane: the scale of this half
      constexpr int kOrder = kPart * kGroups < 4 ? 0xa0 : 0xf5;
      factor = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(s.pairs, kOrder), kOrder);
    }
    __m256i pairs[kRows];
    for (int m = 0; m < kRows; ++m) pairs[m] = _mm256_setzero_si256();
    ForGroups<kPart * kGroups, (kPart + 1) * kGroups>(
        [&]<int kGroup>() __attribute__((always_inline)) {
          const __m256i v = Codes<kPacking, kGroup>(w);
#pragma GCC unroll 16
          for (int m = 0; m < kRows; ++m) {
            pairs[m] = _mm256_add_epi16(
                pairs[m], _mm256_maddubs_epi16(v, BroadcastWord(q + m * kBlock + 4 * kGroup)));
            asm("" : "+x"(pairs[m]));  // else g++ adds in another order and spills 20 registers
          }
        });
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const __m256i part = _mm256_madd_epi16(pairs[m], factor);
      dot[m] = kPart == 0 ? part : _mm256_add_epi32(dot[m], part);
    }
  });
  if constexpr (kLayout.offset != 0) {  // -offset * sum(q), with the scales of each half
    __m256i offset = _mm256_set1_epi16(static_cast<int16_t>(-kLayout.offset));
    if constexpr (kPairs) offset = _mm256_mullo_epi16(s.pairs, offset);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const __m256i add = _mm256_madd_epi16(offset, _mm256_set1_epi32(half_sums[m]));
      dot[m] = _mm256_add_epi32(dot[m], add);
    }
  }
}

// One half of the panel: 8 outputs.
template <Packing kPacking, int kRows>
SLUICE_INLINE void HalfPanel(const uint8_t* w, int half, int64_t ahead, const TileInput& in,
                             __m256* acc) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  LaneScales header{};
  for (int m = 0; m < kRows; ++m) acc[m] = _mm256_setzero_ps();
  for (int64_t b = 0; b < in.blocks; ++b, w += kLayout.block_bytes) {
    if (kLayout.blocks > 1 && b % kLayout.blocks == 0) {
      header.d = _mm256_cvtph_ps(LoadHalf(w + 16 * half));
      if constexpr (kLayout.header_bytes > 32)
        header.m = _mm256_cvtph_ps(LoadHalf(w + 32 + 16 * half));
      w += kLayout.header_bytes;
    }
    if (kRows >= 4 && half == 0) {
      for (int i = 0; i < kLayout.block_bytes; i += 64)
        _mm_prefetch(reinterpret_cast<const char*>(w) + ahead + i, _MM_HINT_T1);
    }
    const LaneScales s = ScalesOfBlock<kPacking>(w, half, header);
    const int8_t* q = in.q + b * kRows * kBlock;
    const int32_t* half_sums = in.half_sums + b * kRows;
    __m256i dot[kRows];
    if constexpr (kLayout.low_bits == 8 || kLayout.table) {
      SignedDots<kPacking, kRows>(w + 32 * half, q, dot);
    } else {
      UnsignedDots<kPacking, kRows>(w + 32 * half, s, q, half_sums, dot);
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const __m256 sx = _mm256_set1_ps(in.scale[b * kRows + m]);
      acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m]), _mm256_mul_ps(s.d, sx), acc[m]);
      if constexpr (kLayout.scales == Scales::kDM || kLayout.scales == Scales::kST) {
        acc[m] = _mm256_fmadd_ps(s.m, _mm256_set1_ps(in.scaled_sum[b * kRows + m]), acc[m]);
      }
      if constexpr (kLayout.scales == Scales::kPairs) {
        const __m256i j = _mm256_madd_epi16(s.minima, _mm256_set1_epi32(half_sums[m]));
        acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(j), _mm256_mul_ps(s.m, sx), acc[m]);
      }
    }
  }
}

template <Packing kPacking, int kRows>
void Panel(const uint8_t* w, int64_t ahead, const TileInput& in, const TileOutput& out) {
  float results[kRows][kPanelRows];
  for (int half = 0; half < 2; ++half) {
    __m256 acc[kRows];
    HalfPanel<kPacking, kRows>(w, half, ahead, in, acc);
    for (int m = 0; m < kRows; ++m) _mm256_storeu_ps(results[m] + 8 * half, acc[m]);
  }
  for (int m = 0; m < kRows; ++m) StoreOutput(out, m, Load(results[m]));
}

}  // namespace sluice::cpu::SLUICE_ISA
