// A panel times a tile with VNNI: see linear_q.cc. Included by linear_panel.h only.
#pragma once

#include "kernels/cpu/isa/linear_codes.h"
#include "kernels/cpu/isa/linear_tile.h"

namespace sluice::cpu::SLUICE_ISA {

// The floats and integers that turn the dots of a block into values, by lane.
struct LaneScales {
  __m512 d, m;
  __m512i pairs, minima;  // two int16 a lane: of k < 16 and k >= 16
};

SLUICE_INLINE __m512 LoadHalfs(const uint8_t* p) {
  return LoadF16(reinterpret_cast<const uint16_t*>(p)).v;
}
SLUICE_INLINE __m512 LoadBytes(const uint8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
SLUICE_INLINE __m256i LoadBytePairs(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// `s` holds the header's d and m already.
template <Packing kPacking>
SLUICE_INLINE LaneScales ScalesOfBlock(const uint8_t* w, LaneScales s) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  const uint8_t* p = w + kLayout.scales_at;
  if constexpr (kLayout.scales <= Scales::kDM) s.d = LoadHalfs(p);
  if constexpr (kLayout.scales == Scales::kDM) s.m = LoadHalfs(p + 32);
  if constexpr (kLayout.scales == Scales::kST) {
    s.d = _mm512_mul_ps(s.d, LoadBytes(p));
    s.m = _mm512_mul_ps(s.m, LoadBytes(p + 16));
  }
  if constexpr (kLayout.scales == Scales::kPair) s.pairs = _mm512_cvtepi8_epi16(LoadBytePairs(p));
  if constexpr (kLayout.scales == Scales::kPairs) {
    const __m512i both = _mm512_cvtepu8_epi16(LoadBytePairs(p));
    s.pairs = _mm512_and_si512(both, _mm512_set1_epi16(15));
    s.minima = _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_srli_epi16(both, 4));
  }
  return s;
}

// dot[m] += codes . q[m] over groups [kBegin, kEnd).
template <Packing kPacking, int kRows, int kBegin, int kEnd>
SLUICE_INLINE void AddDots(const uint8_t* w, const int8_t* q, __m512i* dot) {
  ForGroups<kBegin, kEnd>([&]<int kGroup>() __attribute__((always_inline)) {
    const __m512i v = Codes<kPacking, kGroup>(w);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m)
      dot[m] = _mm512_dpbusd_epi32(dot[m], v, BroadcastWord(q + m * kBlock + 4 * kGroup));
  });
}

// The exact integers of the block. A product of int32 may be as large as 128 * 32 * 127 * 32 <
// 2^24.
template <Packing kPacking, int kRows>
SLUICE_INLINE void BlockDots(const uint8_t* w, const LaneScales& s, const int8_t* q,
                             const int32_t* half_sums, __m512i* dot) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  const __m512i zero = _mm512_setzero_si512();
  // -offset * sum(q): vpdpwssd adds both halves, with the scales of each if it has them.
  __m512i offset = _mm512_set1_epi16(static_cast<int16_t>(-kLayout.offset));
  if constexpr (HasPairs(kLayout)) offset = _mm512_mullo_epi16(s.pairs, offset);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
    dot[m] = kLayout.offset == 0
                 ? zero
                 : _mm512_dpwssd_epi32(zero, offset, _mm512_set1_epi32(half_sums[m]));
  }
  if constexpr (!HasPairs(kLayout)) {
    AddDots<kPacking, kRows, 0, 8>(w, q, dot);
  } else {
    __m512i part[kRows];
    for (int m = 0; m < kRows; ++m) part[m] = zero;
    AddDots<kPacking, kRows, 0, 4>(w, q, part);
    const __m512i first = _mm512_srai_epi32(_mm512_slli_epi32(s.pairs, 16), 16);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      dot[m] = _mm512_add_epi32(dot[m], _mm512_mullo_epi32(part[m], first));
      part[m] = zero;
    }
    AddDots<kPacking, kRows, 4, 8>(w, q, part);
    const __m512i second = _mm512_srai_epi32(s.pairs, 16);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m)
      dot[m] = _mm512_add_epi32(dot[m], _mm512_mullo_epi32(part[m], second));
  }
}

// acc += the block times kRows of the tile's rows.
template <Packing kPacking, int kRows>
SLUICE_INLINE void AddBlock(const uint8_t* w, const LaneScales& s, const TileInput& in,
                            __m512* acc) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  __m512i dot[kRows];
  BlockDots<kPacking, kRows>(w, s, in.q, in.half_sums, dot);
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) {
    const __m512 sx = _mm512_set1_ps(in.scale[m]);
    acc[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m]), _mm512_mul_ps(s.d, sx), acc[m]);
    if constexpr (kLayout.scales == Scales::kDM || kLayout.scales == Scales::kST)
      acc[m] = _mm512_fmadd_ps(s.m, _mm512_set1_ps(in.scaled_sum[m]), acc[m]);
    if constexpr (kLayout.scales == Scales::kPairs) {
      const __m512i j =
          _mm512_dpwssd_epi32(_mm512_setzero_si512(), s.minima, _mm512_set1_epi32(in.half_sums[m]));
      acc[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(j), _mm512_mul_ps(s.m, sx), acc[m]);
    }
  }
}

SLUICE_INLINE TileInput AfterRows(const TileInput& in, int rows) {
  return {in.q + rows * kBlock, in.scale + rows, in.scaled_sum + rows, in.half_sums + rows,
          in.blocks};
}

// `ahead`: distance of the bytes to prefetch, 0 for the panel itself (nothing to fetch).
template <Packing kPacking, int kRows>
void Panel(const uint8_t* w, int64_t ahead, const TileInput& in, const TileOutput& out) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  // Two integers and a float for each of 12 rows are more than 32 registers. Unpacking 6-bit codes
  // twice for half of the rows costs less than spilling (12 rows x 960 x 768: 72.8 -> 68.4 us);
  // with 3 bits it costs more (71.7 -> 75.9).
  constexpr int kFirst = kLayout.high_bits == 2 && kRows > 8 ? kRows / 2 : kRows;
  TileInput rows = in;
  LaneScales header{};
  __m512 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = _mm512_setzero_ps();
  for (int32_t b = 0; b < in.blocks; ++b, w += kLayout.block_bytes) {
    if (kLayout.blocks > 1 && b % kLayout.blocks == 0) {
      header.d = LoadHalfs(w);
      if constexpr (kLayout.header_bytes > 32) header.m = LoadHalfs(w + 32);
      if (kRows >= 4) _mm_prefetch(reinterpret_cast<const char*>(w) + ahead, _MM_HINT_T1);
      w += kLayout.header_bytes;
    }
    // The hardware prefetcher does not run ahead while later tiles compute. Below 4 rows it streams
    // well by itself and the instructions only hurt: 1 row 2.7 -> 4.0 ms a step.
    if constexpr (kRows >= 4) {
      for (int i = 0; i < kLayout.block_bytes; i += 64)
        _mm_prefetch(reinterpret_cast<const char*>(w) + ahead + i, _MM_HINT_T1);
    }
    const LaneScales s = ScalesOfBlock<kPacking>(w, header);
    AddBlock<kPacking, kFirst>(w, s, rows, acc);
    if constexpr (kFirst < kRows)
      AddBlock<kPacking, kRows - kFirst>(w, s, AfterRows(rows, kFirst), acc + kFirst);
    rows = AfterRows(rows, kRows);
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) StoreOutput(out, m, {acc[m]});
}

}  // namespace sluice::cpu::SLUICE_ISA
