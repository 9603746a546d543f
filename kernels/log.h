// log for logprobs: the same steps, so the same bits, in every backend and form. Each fused
// multiply-add is written out; the rest must be compiled without contraction.
//
// x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); with s = f / (2 + f) and z = s^2
//   log(1 + f) = 2 atanh(s) = 2 s + 2 s (z/3 + z^2/5 + ...) = f - s (f - R),
//   R = 2 (z/3 + z^2/5 + ... + z^10/21),
// and ln 2 is a sum of two parts, of which e times the first is exact. What the series leaves out
// is below z^11 / 11 <= 1.3e-18 of log(1 + f), as |s| <= 0.1716.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define SLUICE_ANYWHERE __host__ __device__
#else
#define SLUICE_ANYWHERE
#endif

namespace sluice {

SLUICE_ANYWHERE static inline double FmaOfLog(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

// log x within 1 unit in the last place; x normal and positive.
SLUICE_ANYWHERE static inline double Log(double x) {
  constexpr uint64_t kRootOfHalf = 0x3fe6a09e667f3bcd;  // the bits of sqrt(1/2)
  constexpr uint64_t kExponent = 0xfff0000000000000;
  const uint64_t bits = __builtin_bit_cast(uint64_t, x) - kRootOfHalf;
  const auto e = static_cast<double>(static_cast<int64_t>(bits) >> 52);
  const double m = __builtin_bit_cast(double, (bits & ~kExponent) + kRootOfHalf);
  const double f = m - 1.0;
  const double s = f / (m + 1.0);
  const double z = s * s;
  double p = 2.0 / 21;
  p = FmaOfLog(p, z, 2.0 / 19);
  p = FmaOfLog(p, z, 2.0 / 17);
  p = FmaOfLog(p, z, 2.0 / 15);
  p = FmaOfLog(p, z, 2.0 / 13);
  p = FmaOfLog(p, z, 2.0 / 11);
  p = FmaOfLog(p, z, 2.0 / 9);
  p = FmaOfLog(p, z, 2.0 / 7);
  p = FmaOfLog(p, z, 2.0 / 5);
  p = FmaOfLog(p, z, 2.0 / 3);
  const double less = s * FmaOfLog(-p, z, f);
  const double tail = FmaOfLog(e, 0x1.a39ef35793c76p-33, -less);
  return FmaOfLog(e, 0x1.62e42feep-1, f + tail);
}

}  // namespace sluice

#undef SLUICE_ANYWHERE
