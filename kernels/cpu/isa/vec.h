// F32x16: sixteen floats, as one zmm, two ymm or an array. Every function here gives equal bits in
// all forms (NaN payloads excepted), so an op written with it needs one source and has promise 3
// for nothing.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/form.h"

#if !defined(SLUICE_ISA_SCALAR)
#include <immintrin.h>
#endif

namespace sluice::cpu::SLUICE_ISA {

constexpr int kLanes = 16;

SLUICE_INLINE uint32_t BitsOf(float x) { return __builtin_bit_cast(uint32_t, x); }
SLUICE_INLINE float FloatOf(uint32_t bits) { return __builtin_bit_cast(float, bits); }

#if defined(SLUICE_ISA_AVX512)

struct F32x16 {
  __m512 v;
};
struct I32x16 {
  __m512i v;
};
struct Mask16 {
  __mmask16 m;
};

SLUICE_INLINE F32x16 Broadcast(float x) { return {_mm512_set1_ps(x)}; }
SLUICE_INLINE F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
SLUICE_INLINE void Store(float* p, F32x16 a) { _mm512_storeu_ps(p, a.v); }
SLUICE_INLINE F32x16 LoadF16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
SLUICE_INLINE void StoreF16(uint16_t* p, F32x16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
SLUICE_INLINE F32x16 LoadBf16(const uint16_t* p) {
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
SLUICE_INLINE F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
SLUICE_INLINE F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
SLUICE_INLINE F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
SLUICE_INLINE F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
// a * b + c, rounded once.
SLUICE_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// a > b ? a : b in each lane, so b where either is NaN.
SLUICE_INLINE F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
// a < b ? a : b in each lane, so b where either is NaN.
SLUICE_INLINE F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
SLUICE_INLINE F32x16 Sqrt(F32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
SLUICE_INLINE Mask16 Less(F32x16 a, F32x16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
SLUICE_INLINE Mask16 LessEqual(F32x16 a, F32x16 b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)};
}
SLUICE_INLINE Mask16 Equal(F32x16 a, F32x16 b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)};
}
SLUICE_INLINE Mask16 IsNan(F32x16 a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
// Lanes [0, n).
SLUICE_INLINE Mask16 FirstLanes(int n) {
  return {static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1)};
}
// Bit i is lane i.
SLUICE_INLINE uint32_t Bits(Mask16 m) { return m.m; }
SLUICE_INLINE F32x16 Select(Mask16 m, F32x16 yes, F32x16 no) {
  return {_mm512_mask_blend_ps(m.m, no.v, yes.v)};
}
// Lanes [0, n) of p; the others are 0 and not read.
SLUICE_INLINE F32x16 LoadFirst(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(FirstLanes(n).m, p)};
}
SLUICE_INLINE void StoreFirst(float* p, F32x16 a, int n) {
  _mm512_mask_storeu_ps(p, FirstLanes(n).m, a.v);
}

SLUICE_INLINE I32x16 Broadcast(int32_t x) { return {_mm512_set1_epi32(x)}; }
SLUICE_INLINE I32x16 Load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
SLUICE_INLINE void Store(int32_t* p, I32x16 a) { _mm512_storeu_si512(p, a.v); }
SLUICE_INLINE I32x16 operator+(I32x16 a, I32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
SLUICE_INLINE I32x16 operator-(I32x16 a, I32x16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
SLUICE_INLINE I32x16 operator&(I32x16 a, I32x16 b) { return {_mm512_and_si512(a.v, b.v)}; }
SLUICE_INLINE I32x16 Max(I32x16 a, I32x16 b) { return {_mm512_max_epi32(a.v, b.v)}; }
template <int kBits>
SLUICE_INLINE I32x16 ShiftLeft(I32x16 a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
SLUICE_INLINE F32x16 ToFloat(I32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
// Ties to even; |a| < 2^31.
SLUICE_INLINE I32x16 RoundToInt(F32x16 a) { return {_mm512_cvtps_epi32(a.v)}; }
SLUICE_INLINE F32x16 AsFloat(I32x16 a) { return {_mm512_castsi512_ps(a.v)}; }
SLUICE_INLINE I32x16 AsInt(F32x16 a) { return {_mm512_castps_si512(a.v)}; }

SLUICE_INLINE __m256 LowHalf(F32x16 a) { return _mm512_castps512_ps256(a.v); }
SLUICE_INLINE __m256 HighHalf(F32x16 a) { return _mm512_extractf32x8_ps(a.v, 1); }

#elif defined(SLUICE_ISA_AVX2)

struct F32x16 {
  __m256 lo, hi;
};
struct I32x16 {
  __m256i lo, hi;
};
struct Mask16 {
  __m256 lo, hi;
};

SLUICE_INLINE F32x16 Broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
SLUICE_INLINE F32x16 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
SLUICE_INLINE void Store(float* p, F32x16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
SLUICE_INLINE __m128i LoadHalf(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
SLUICE_INLINE F32x16 LoadF16(const uint16_t* p) {
  return {_mm256_cvtph_ps(LoadHalf(p)), _mm256_cvtph_ps(LoadHalf(p + 8))};
}
SLUICE_INLINE void StoreF16(uint16_t* p, F32x16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8),
                   _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
SLUICE_INLINE F32x16 LoadBf16(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalf(p)), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalf(p + 8)), 16))};
}
SLUICE_INLINE F32x16 operator+(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
SLUICE_INLINE F32x16 operator-(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
SLUICE_INLINE F32x16 operator*(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
SLUICE_INLINE F32x16 operator/(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
SLUICE_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
SLUICE_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
SLUICE_INLINE F32x16 Min(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
SLUICE_INLINE F32x16 Sqrt(F32x16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
SLUICE_INLINE Mask16 Less(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
SLUICE_INLINE Mask16 LessEqual(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LE_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LE_OQ)};
}
SLUICE_INLINE Mask16 Equal(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}
SLUICE_INLINE Mask16 IsNan(F32x16 a) {
  return {_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q)};
}
SLUICE_INLINE Mask16 FirstLanes(int n) {
  const __m256i count = _mm256_set1_epi32(n);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))),
          _mm256_castsi256_ps(
              _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)))};
}
SLUICE_INLINE uint32_t Bits(Mask16 m) {
  return static_cast<uint32_t>(_mm256_movemask_ps(m.lo)) |
         static_cast<uint32_t>(_mm256_movemask_ps(m.hi)) << 8;
}
SLUICE_INLINE F32x16 Select(Mask16 m, F32x16 yes, F32x16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}
SLUICE_INLINE F32x16 LoadFirst(const float* p, int n) {
  const Mask16 m = FirstLanes(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)),
          _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}
SLUICE_INLINE void StoreFirst(float* p, F32x16 a, int n) {
  const Mask16 m = FirstLanes(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), a.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), a.hi);
}

SLUICE_INLINE I32x16 Broadcast(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
SLUICE_INLINE I32x16 Load(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
SLUICE_INLINE void Store(int32_t* p, I32x16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
}
SLUICE_INLINE I32x16 operator+(I32x16 a, I32x16 b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
SLUICE_INLINE I32x16 operator-(I32x16 a, I32x16 b) {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
SLUICE_INLINE I32x16 operator&(I32x16 a, I32x16 b) {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
SLUICE_INLINE I32x16 Max(I32x16 a, I32x16 b) {
  return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)};
}
template <int kBits>
SLUICE_INLINE I32x16 ShiftLeft(I32x16 a) {
  return {_mm256_slli_epi32(a.lo, kBits), _mm256_slli_epi32(a.hi, kBits)};
}
SLUICE_INLINE F32x16 ToFloat(I32x16 a) {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
SLUICE_INLINE I32x16 RoundToInt(F32x16 a) {
  return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)};
}
SLUICE_INLINE F32x16 AsFloat(I32x16 a) {
  return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}
SLUICE_INLINE I32x16 AsInt(F32x16 a) {
  return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)};
}

SLUICE_INLINE __m256 LowHalf(F32x16 a) { return a.lo; }
SLUICE_INLINE __m256 HighHalf(F32x16 a) { return a.hi; }

#else

struct F32x16 {
  float v[16];
};
struct I32x16 {
  int32_t v[16];
};
struct Mask16 {
  uint32_t m;
};

// IEEE half to float, exact; signalling NaNs become quiet, as the hardware does it.
SLUICE_INLINE float HalfToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000U) << 16;
  const uint32_t exponent = h >> 10 & 31U;
  const uint32_t mantissa = h & 0x3ffU;
  if (exponent == 31)
    return FloatOf(sign | 0x7f800000U | mantissa << 13 | (mantissa != 0 ? 0x400000U : 0));
  if (exponent != 0) return FloatOf(sign | (exponent + 112) << 23 | mantissa << 13);
  return FloatOf(sign | BitsOf(static_cast<float>(mantissa) * 0x1p-24F));
}
// Float to IEEE half, ties to even.
SLUICE_INLINE uint16_t FloatToHalf(float x) {
  const uint32_t bits = BitsOf(x);
  const uint32_t sign = bits >> 16 & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  uint32_t half = 0;
  if (magnitude > 0x7f800000U) {
    half = 0x7e00U | (magnitude >> 13 & 0x3ffU);
  } else if (magnitude >= 0x477ff000U) {  // 65520 and above round to infinity
    half = 0x7c00U;
  } else if (magnitude < 0x38800000U) {  // below 2^-14: a multiple of 2^-24, rounded by the adder
    half = BitsOf(FloatOf(magnitude) + 0.5F) - BitsOf(0.5F);
  } else {
    const uint32_t odd = magnitude >> 13 & 1U;
    half = (magnitude - (112U << 23) + 0xfffU + odd) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

#define SLUICE_LANES for (int i = 0; i < 16; ++i)
SLUICE_INLINE F32x16 Broadcast(float x) {
  F32x16 r;
  SLUICE_LANES r.v[i] = x;
  return r;
}
SLUICE_INLINE F32x16 Load(const float* p) {
  F32x16 r;
  SLUICE_LANES r.v[i] = p[i];
  return r;
}
SLUICE_INLINE void Store(float* p, F32x16 a) { SLUICE_LANES p[i] = a.v[i]; }
SLUICE_INLINE F32x16 LoadF16(const uint16_t* p) {
  F32x16 r;
  SLUICE_LANES r.v[i] = HalfToFloat(p[i]);
  return r;
}
SLUICE_INLINE void StoreF16(uint16_t* p, F32x16 a) { SLUICE_LANES p[i] = FloatToHalf(a.v[i]); }
SLUICE_INLINE F32x16 LoadBf16(const uint16_t* p) {
  F32x16 r;
  SLUICE_LANES r.v[i] = FloatOf(static_cast<uint32_t>(p[i]) << 16);
  return r;
}
SLUICE_INLINE F32x16 operator+(F32x16 a, F32x16 b) {
  SLUICE_LANES a.v[i] += b.v[i];
  return a;
}
SLUICE_INLINE F32x16 operator-(F32x16 a, F32x16 b) {
  SLUICE_LANES a.v[i] -= b.v[i];
  return a;
}
SLUICE_INLINE F32x16 operator*(F32x16 a, F32x16 b) {
  SLUICE_LANES a.v[i] *= b.v[i];
  return a;
}
SLUICE_INLINE F32x16 operator/(F32x16 a, F32x16 b) {
  SLUICE_LANES a.v[i] /= b.v[i];
  return a;
}
SLUICE_INLINE F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  SLUICE_LANES c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
}
SLUICE_INLINE F32x16 Max(F32x16 a, F32x16 b) {
  SLUICE_LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
SLUICE_INLINE F32x16 Min(F32x16 a, F32x16 b) {
  SLUICE_LANES a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
SLUICE_INLINE F32x16 Sqrt(F32x16 a) {
  SLUICE_LANES a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
SLUICE_INLINE Mask16 Less(F32x16 a, F32x16 b) {
  Mask16 r{0};
  SLUICE_LANES r.m |= static_cast<uint32_t>(a.v[i] < b.v[i]) << i;
  return r;
}
SLUICE_INLINE Mask16 LessEqual(F32x16 a, F32x16 b) {
  Mask16 r{0};
  SLUICE_LANES r.m |= static_cast<uint32_t>(a.v[i] <= b.v[i]) << i;
  return r;
}
SLUICE_INLINE Mask16 Equal(F32x16 a, F32x16 b) {
  Mask16 r{0};
  SLUICE_LANES r.m |= static_cast<uint32_t>(a.v[i] == b.v[i]) << i;
  return r;
}
SLUICE_INLINE Mask16 IsNan(F32x16 a) {
  Mask16 r{0};
  SLUICE_LANES r.m |= static_cast<uint32_t>(a.v[i] != a.v[i]) << i;
  return r;
}
SLUICE_INLINE Mask16 FirstLanes(int n) {
  return {n >= 16 ? 0xffffU : n <= 0 ? 0U : (1U << n) - 1U};
}
SLUICE_INLINE uint32_t Bits(Mask16 m) { return m.m; }
SLUICE_INLINE F32x16 Select(Mask16 m, F32x16 yes, F32x16 no) {
  SLUICE_LANES no.v[i] = (m.m >> i & 1U) != 0 ? yes.v[i] : no.v[i];
  return no;
}
SLUICE_INLINE F32x16 LoadFirst(const float* p, int n) {
  F32x16 r;
  SLUICE_LANES r.v[i] = i < n ? p[i] : 0.0F;
  return r;
}
SLUICE_INLINE void StoreFirst(float* p, F32x16 a, int n) {
  for (int i = 0; i < n && i < 16; ++i) p[i] = a.v[i];
}

SLUICE_INLINE I32x16 Broadcast(int32_t x) {
  I32x16 r;
  SLUICE_LANES r.v[i] = x;
  return r;
}
SLUICE_INLINE I32x16 Load(const int32_t* p) {
  I32x16 r;
  SLUICE_LANES r.v[i] = p[i];
  return r;
}
SLUICE_INLINE void Store(int32_t* p, I32x16 a) { SLUICE_LANES p[i] = a.v[i]; }
SLUICE_INLINE I32x16 operator+(I32x16 a, I32x16 b) {
  SLUICE_LANES a.v[i] =
      static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i]));
  return a;
}
SLUICE_INLINE I32x16 operator-(I32x16 a, I32x16 b) {
  SLUICE_LANES a.v[i] =
      static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) - static_cast<uint32_t>(b.v[i]));
  return a;
}
SLUICE_INLINE I32x16 operator&(I32x16 a, I32x16 b) {
  SLUICE_LANES a.v[i] &= b.v[i];
  return a;
}
SLUICE_INLINE I32x16 Max(I32x16 a, I32x16 b) {
  SLUICE_LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
template <int kBits>
SLUICE_INLINE I32x16 ShiftLeft(I32x16 a) {
  SLUICE_LANES a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << kBits);
  return a;
}
SLUICE_INLINE F32x16 ToFloat(I32x16 a) {
  F32x16 r;
  SLUICE_LANES r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
SLUICE_INLINE I32x16 RoundToInt(F32x16 a) {
  I32x16 r;
  SLUICE_LANES r.v[i] = static_cast<int32_t>(__builtin_lrintf(a.v[i]));
  return r;
}
SLUICE_INLINE F32x16 AsFloat(I32x16 a) {
  F32x16 r;
  SLUICE_LANES r.v[i] = FloatOf(static_cast<uint32_t>(a.v[i]));
  return r;
}
SLUICE_INLINE I32x16 AsInt(F32x16 a) {
  I32x16 r;
  SLUICE_LANES r.v[i] = static_cast<int32_t>(BitsOf(a.v[i]));
  return r;
}
#undef SLUICE_LANES

#endif

// The sum of all lanes as a fixed tree: lanes i and i+8, then i and i+4, i and i+2, i and i+1.
SLUICE_INLINE float HorizontalSum(F32x16 a) {
#if defined(SLUICE_ISA_SCALAR)
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = a.v[i] + a.v[i + 8];
  for (int n = 4; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) s[i] += s[i + n];
  }
  return s[0];
#else
  const __m256 s8 = _mm256_add_ps(LowHalf(a), HighHalf(a));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
#endif
}

// The largest lane; no lane may be NaN.
SLUICE_INLINE float HorizontalMax(F32x16 a) {
#if defined(SLUICE_ISA_SCALAR)
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) a.v[i] = a.v[i] > a.v[i + n] ? a.v[i] : a.v[i + n];
  }
  return a.v[0];
#else
  const __m256 m8 = _mm256_max_ps(LowHalf(a), HighHalf(a));
  const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
  const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
  return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
#endif
}

SLUICE_INLINE F32x16 Zero() { return Broadcast(0.0F); }

// e^x within 1.5 units in the last place for x in [-87.3, 88.3]; 0 below, e^88.3 above, NaN for
// NaN. x = n ln 2 + r with ln 2 in two parts, n by adding 1.5 * 2^23; the Taylor polynomial of
// degree 7 in r, times 2^n.
SLUICE_INLINE F32x16 Exp(F32x16 x) {
  const F32x16 magic = Broadcast(12582912.0F);
  const F32x16 clamped = Min(Max(x, Broadcast(-87.3F)), Broadcast(88.3F));
  const F32x16 shifted = Fma(clamped, Broadcast(1.44269504F), magic);
  const F32x16 n = shifted - magic;
  const F32x16 r =
      Fma(n, Broadcast(-1.42860677e-6F), Fma(n, Broadcast(-0.693145751953125F), clamped));
  F32x16 p = Broadcast(1.0F / 5040);
  p = Fma(p, r, Broadcast(1.0F / 720));
  p = Fma(p, r, Broadcast(1.0F / 120));
  p = Fma(p, r, Broadcast(1.0F / 24));
  p = Fma(p, r, Broadcast(1.0F / 6));
  p = Fma(p, r, Broadcast(0.5F));
  p = Fma(p, r, Broadcast(1.0F));
  p = Fma(p, r, Broadcast(1.0F));
  // The low bits of `shifted` are n; its exponent bits leave with the shift.
  const F32x16 power = AsFloat(ShiftLeft<23>(AsInt(shifted) + Broadcast(127)));
  const F32x16 y = Select(Less(x, Broadcast(-87.3F)), Zero(), p * power);
  return Select(IsNan(x), x, y);
}

// x / (1 + e^-x).
SLUICE_INLINE F32x16 Silu(F32x16 x) { return x / (Broadcast(1.0F) + Exp(Zero() - x)); }

// 1 / (1 + e^-x).
SLUICE_INLINE F32x16 Sigmoid(F32x16 x) {
  return Broadcast(1.0F) / (Broadcast(1.0F) + Exp(Zero() - x));
}

// GELU by its tanh formula: x/2 (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3).
SLUICE_INLINE F32x16 GeluTanh(F32x16 x) {
  const F32x16 inner = Fma(x * x, Broadcast(0.044715F), Broadcast(1.0F));
  const F32x16 minus_2u = x * Broadcast(-1.5957691216F) * inner;
  return x / (Broadcast(1.0F) + Exp(minus_2u));
}

// tanh within 2 units in the last place; NaN for NaN. Below 0.625 x + x^3 P(x^2), P of degree 4
// (minimax in the relative error, 4.4e-9); above it 1 - 2 / (e^2|x| + 1) with x's sign.
SLUICE_INLINE F32x16 Tanh(F32x16 x) {
  const I32x16 sign_bit = Broadcast(INT32_MIN);
  const F32x16 magnitude = AsFloat(AsInt(x) & Broadcast(INT32_MAX));
  const F32x16 square = x * x;
  F32x16 p = Broadcast(-0.0057049864F);
  p = Fma(p, square, Broadcast(0.020639086F));
  p = Fma(p, square, Broadcast(-0.053739715F));
  p = Fma(p, square, Broadcast(0.13331442F));
  p = Fma(p, square, Broadcast(-0.3333328F));
  const F32x16 small = Fma(x * square, p, x);
  const F32x16 e = Exp(magnitude + magnitude);
  const F32x16 large = Broadcast(1.0F) - Broadcast(2.0F) / (e + Broadcast(1.0F));
  // `large` is positive, so adding the sign bit sets it.
  const F32x16 with_sign = AsFloat(AsInt(large) + (AsInt(x) & sign_bit));
  return Select(Less(magnitude, Broadcast(0.625F)), small, with_sign);
}

// cap * tanh(x / cap).
SLUICE_INLINE F32x16 SoftCapped(F32x16 x, F32x16 cap, F32x16 inverse_cap) {
  return cap * Tanh(x * inverse_cap);
}

}  // namespace sluice::cpu::SLUICE_ISA
