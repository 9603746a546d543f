// The numbers that kernels compute with: f16, bf16 and e4m3 as their bits, and arithmetic on pairs
// of f16. Each function rounds once, to nearest with ties to even.
//
// Kernels are compiled without contraction: a fused multiply-add is one only where Fma is written,
// so that a card and the emulator have the same bits. Sources: the PTX ISA, "Half Precision
// Floating Point Instructions" and "cvt"; e4m3: arXiv:2209.05433.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"

#if defined(__CUDACC__)

namespace sluice::cuda {

SLUICE_DEVICE uint32_t BitsOf(float x) { return __float_as_uint(x); }
SLUICE_DEVICE float FloatOf(uint32_t bits) { return __uint_as_float(bits); }
SLUICE_DEVICE float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SLUICE_DEVICE float SquareRoot(float x) { return __fsqrt_rn(x); }
SLUICE_DEVICE float Divide(float a, float b) { return __fdiv_rn(a, b); }

// To nearest, ties to even; the nearest int32 there is, 0 for NaN.
SLUICE_DEVICE int32_t RoundToInt(float x) { return __float2int_rn(x); }

SLUICE_DEVICE float HalfToFloat(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
SLUICE_DEVICE uint16_t FloatToHalf(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
// Two f16 in a word, the first in its low half.
SLUICE_DEVICE uint32_t PackHalves(float low, float high) {
  uint32_t bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
SLUICE_DEVICE uint32_t SubtractHalves(uint32_t a, uint32_t b) {
  uint32_t bits;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(bits) : "r"(a), "r"(b));
  return bits;
}
SLUICE_DEVICE uint32_t MultiplyHalves(uint32_t a, uint32_t b) {
  uint32_t bits;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(bits) : "r"(a), "r"(b));
  return bits;
}
SLUICE_DEVICE uint32_t FmaHalves(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t bits;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(bits) : "r"(a), "r"(b), "r"(c));
  return bits;
}
// Byte i of the result is the byte that nibble i of `selector` names among b's and a's eight.
template <uint32_t kSelector>
SLUICE_DEVICE uint32_t SelectBytes(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, kSelector);
}
// The same with a selector made as the kernel runs, whose low half counts. A nibble of 8 and more
// gives the sign of byte nibble - 8: 0 or 255.
SLUICE_DEVICE uint32_t SelectBytes(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(a), "r"(b), "r"(selector));
  return bytes;
}

}  // namespace sluice::cuda

#else

#include <cmath>

namespace sluice::cuda {

inline uint32_t BitsOf(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float FloatOf(uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float SquareRoot(float x) { return __builtin_sqrtf(x); }
inline float Divide(float a, float b) { return a / b; }

inline int32_t RoundToInt(float x) {
  if (x >= 0x1p31F) return INT32_MAX;
  if (x < -0x1p31F) return INT32_MIN;
  return x != x ? 0 : static_cast<int32_t>(std::lrint(x));
}

inline float HalfToFloat(uint16_t bits) {
  return static_cast<float>(__builtin_bit_cast(_Float16, bits));
}
inline uint16_t FloatToHalf(float value) {
  return __builtin_bit_cast(uint16_t, static_cast<_Float16>(value));
}
inline uint32_t PackHalves(float low, float high) {
  return FloatToHalf(low) | static_cast<uint32_t>(FloatToHalf(high)) << 16;
}
template <class Operation>
inline uint32_t OnHalves(uint32_t a, uint32_t b, uint32_t c, Operation operation) {
  const auto half = [](uint32_t word, int i) {
    return HalfToFloat(static_cast<uint16_t>(word >> (16 * i)));
  };
  return PackHalves(operation(half(a, 0), half(b, 0), half(c, 0)),
                    operation(half(a, 1), half(b, 1), half(c, 1)));
}
// f32 has more than twice the digits of f16: rounding to it first does not change the result.
inline uint32_t SubtractHalves(uint32_t a, uint32_t b) {
  return OnHalves(a, b, 0, [](float x, float y, float) { return x - y; });
}
inline uint32_t MultiplyHalves(uint32_t a, uint32_t b) {
  return OnHalves(a, b, 0, [](float x, float y, float) { return x * y; });
}
// The exact product and sum need more: rounded to odd, f32 keeps what decides the last rounding.
inline uint32_t FmaHalves(uint32_t a, uint32_t b, uint32_t c) {
  return OnHalves(a, b, c, [](float x, float y, float z) {
    const double exact = double{x} * double{y} + double{z};
    const auto near = static_cast<float>(exact);
    if (double{near} == exact || !std::isfinite(near)) return near;
    const uint32_t bits = BitsOf(near);
    const bool away = std::fabs(double{near}) > std::fabs(exact);
    return FloatOf((away ? bits - 1 : bits) | 1);
  });
}
inline uint32_t SelectBytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t nibble = selector >> (4 * i) & 15;
    auto byte = static_cast<uint32_t>(bytes >> (8 * (nibble & 7)) & 0xff);
    if (nibble >= 8) byte = byte >= 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}
template <uint32_t kSelector>
inline uint32_t SelectBytes(uint32_t a, uint32_t b) {
  return SelectBytes(a, b, kSelector & 0x7777);
}

}  // namespace sluice::cuda

#endif

namespace sluice::cuda {

inline constexpr float kLargestHalf = 65504;

SLUICE_DEVICE float LowHalf(uint32_t pair) { return HalfToFloat(static_cast<uint16_t>(pair)); }
SLUICE_DEVICE float HighHalf(uint32_t pair) {
  return HalfToFloat(static_cast<uint16_t>(pair >> 16));
}
SLUICE_DEVICE float Bf16ToFloat(uint16_t bits) {
  return FloatOf(static_cast<uint32_t>(bits) << 16);
}
// The nearest bf16; NaN stays.
SLUICE_DEVICE uint16_t FloatToBf16(float x) {
  const uint32_t bits = BitsOf(x);
  if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40U);
  return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}
// Two bf16 of a word as f16.
SLUICE_DEVICE uint32_t Bf16ToHalves(uint32_t pair) {
  return PackHalves(FloatOf(pair << 16), FloatOf(pair & 0xffff0000U));
}

// The nearest e4m3, ties to even; the largest one, 448, for what is beyond; NaN stays.
SLUICE_DEVICE uint32_t FloatToE4m3(float x) {
  const uint32_t bits = BitsOf(x), sign = bits >> 24 & 0x80U, size = bits & 0x7fffffffU;
  if (size > 0x7f800000U) return sign | 0x7fU;
  if (size >= BitsOf(448)) return sign | 0x7eU;
  // Below 2^-6 the code is a number of 2^-9.
  if (size < BitsOf(0x1p-6F))
    return sign | static_cast<uint32_t>(RoundToInt(FloatOf(size) * 0x1p9F));
  // Three of f32's digits and an exponent that is 120 less; a carry goes on into it.
  return sign | (((size + 0x7ffffU + (size >> 20 & 1U)) >> 20) - (120U << 3));
}

// The nearest finite f16; NaN stays.
SLUICE_DEVICE float WithinHalf(float x) {
  if (x > kLargestHalf) return kLargestHalf;
  return x < -kLargestHalf ? -kLargestHalf : x;
}

// e^x within 1.5 units in the last place for x in [-87.3, 88.3]; 0 below, e^88.3 above, NaN for
// NaN: the steps of the CPU backend's (kernels/cpu/isa/vec.h), so that both have the same bits.
SLUICE_DEVICE float Exp(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: rounds to an integer in the low bits
  float clamped = x > -87.3F ? x : -87.3F;
  clamped = clamped < 88.3F ? clamped : 88.3F;
  const float shifted = Fma(clamped, 1.44269504F, kMagic);
  const float n = shifted - kMagic;
  const float r = Fma(n, -1.42860677e-6F, Fma(n, -0.693145751953125F, clamped));
  float p = 1.0F / 5040;
  p = Fma(p, r, 1.0F / 720);
  p = Fma(p, r, 1.0F / 120);
  p = Fma(p, r, 1.0F / 24);
  p = Fma(p, r, 1.0F / 6);
  p = Fma(p, r, 0.5F);
  p = Fma(p, r, 1.0F);
  p = Fma(p, r, 1.0F);
  const float power = FloatOf((BitsOf(shifted) + 127) << 23);
  if (x < -87.3F) return 0;
  return x != x ? x : p * power;
}

// tanh within 2 units in the last place; NaN for NaN. As the CPU backend's.
SLUICE_DEVICE float Tanh(float x) {
  const float magnitude = FloatOf(BitsOf(x) & 0x7fffffffU);
  if (magnitude < 0.625F) {
    const float square = x * x;
    float p = -0.0057049864F;
    p = Fma(p, square, 0.020639086F);
    p = Fma(p, square, -0.053739715F);
    p = Fma(p, square, 0.13331442F);
    p = Fma(p, square, -0.3333328F);
    return Fma(x * square, p, x);
  }
  const float large = 1.0F - Divide(2.0F, Exp(magnitude + magnitude) + 1.0F);
  return FloatOf(BitsOf(large) | (BitsOf(x) & 0x80000000U));
}

}  // namespace sluice::cuda
