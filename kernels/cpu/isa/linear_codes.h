// The codes of a packed block (packing.h) as u8 lanes, group by group.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/form.h"
#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/packing.h"
#include "kernels/file_blocks.h"

namespace sluice::cpu::SLUICE_ISA {

// Whether the scales are of halves of 16.
constexpr bool HasPairs(const PackedLayout& l) { return l.scales >= Scales::kPair; }

#if defined(SLUICE_ISA_AVX512) || defined(SLUICE_ISA_AVX2)

#if defined(SLUICE_ISA_AVX512)

using Wide = __m512i;  // 16 dwords, one a lane of the panel
SLUICE_INLINE Wide LoadWide(const uint8_t* p) { return _mm512_loadu_si512(p); }
SLUICE_INLINE Wide And(Wide a, Wide b) { return _mm512_and_si512(a, b); }
SLUICE_INLINE Wide Or(Wide a, Wide b) { return _mm512_or_si512(a, b); }
SLUICE_INLINE Wide BroadcastByte(int b) { return _mm512_set1_epi8(static_cast<char>(b)); }
// By 16-bit lanes, to the left if positive.
template <int kBits>
SLUICE_INLINE Wide Shift(Wide a) {
  if constexpr (kBits > 0) return _mm512_slli_epi16(a, kBits);
  if constexpr (kBits < 0) return _mm512_srli_epi16(a, -kBits);
  return a;
}
SLUICE_INLINE Wide BroadcastWord(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}
SLUICE_INLINE Wide LookUp(__m128i table, Wide index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index);
}

#else

using Wide = __m256i;  // 8 dwords: half of the panel
SLUICE_INLINE Wide LoadWide(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
SLUICE_INLINE Wide And(Wide a, Wide b) { return _mm256_and_si256(a, b); }
SLUICE_INLINE Wide Or(Wide a, Wide b) { return _mm256_or_si256(a, b); }
SLUICE_INLINE Wide BroadcastByte(int b) { return _mm256_set1_epi8(static_cast<char>(b)); }
template <int kBits>
SLUICE_INLINE Wide Shift(Wide a) {
  if constexpr (kBits > 0) return _mm256_slli_epi16(a, kBits);
  if constexpr (kBits < 0) return _mm256_srli_epi16(a, -kBits);
  return a;
}
SLUICE_INLINE Wide BroadcastWord(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}
SLUICE_INLINE Wide LookUp(__m128i table, Wide index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index);
}

#endif

// Group kGroup of a plane set of kBits bits, at bit kTo of each byte. Shifts of 16-bit lanes carry
// other bits across bytes; the mask removes them.
template <int kBits, int kGroup, int kTo>
SLUICE_INLINE Wide Field(const uint8_t* planes) {
  const Wide v = LoadWide(planes + 64 * (kGroup % kBits));
  if constexpr (kBits == 8) return v;
  constexpr int kFrom = kBits * (kGroup / kBits);
  return And(Shift<kTo - kFrom>(v), BroadcastByte(((1 << kBits) - 1) << kTo));
}

// q + offset of group kGroup: u8, below 2^(low_bits + high_bits), or any u8 for Q8_0 and IQ4_NL. On
// AVX2 those two are q itself, s8.
template <Packing kPacking, int kGroup>
SLUICE_INLINE Wide Codes(const uint8_t* w) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  Wide v = Field<kLayout.low_bits, kGroup, 0>(w);
  if constexpr (kLayout.high_bits > 0) {
    v = Or(v, Field<kLayout.high_bits, kGroup, kLayout.low_bits>(w + kLayout.high_at));
  }
  if constexpr (kLayout.table) {
    v = LookUp(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Values)), v);
  }
#if defined(SLUICE_ISA_AVX512)
  if constexpr (kLayout.table) v = _mm512_xor_si512(v, BroadcastByte(0x80));
#else
  if constexpr (kLayout.low_bits == 8) v = _mm256_xor_si256(v, BroadcastByte(0x80));
#endif
  return v;
}

// Calls f.template operator()<g>() for g = kBegin..kEnd-1, unrolled.
template <int kBegin, int kEnd, class F>
SLUICE_INLINE void ForGroups(const F& f) {
  if constexpr (kBegin < kEnd) {
    f.template operator()<kBegin>();
    ForGroups<kBegin + 1, kEnd>(f);
  }
}

#else

// q of one lane's 32 k.
template <Packing kPacking>
SLUICE_INLINE void LaneValues(const uint8_t* w, int lane, int32_t* q) {
  constexpr PackedLayout kLayout = LayoutOf(kPacking);
  const auto field = [&](const uint8_t* planes, int bits, int k) {
    const int group = k / 4;
    const int byte = planes[64 * (group % bits) + 4 * lane + k % 4];
    return byte >> (bits * (group / bits)) & ((1 << bits) - 1);
  };
  for (int k = 0; k < kBlock; ++k) {
    int code = field(w, kLayout.low_bits, k);
    if constexpr (kLayout.high_bits > 0) {
      code |= field(w + kLayout.high_at, kLayout.high_bits, k) << kLayout.low_bits;
    }
    q[k] = kLayout.table ? kIq4Values[code] : code - kLayout.offset;
  }
}

#endif

}  // namespace sluice::cpu::SLUICE_ISA
