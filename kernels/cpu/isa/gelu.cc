// GELU in its exact form, in place: x = x Phi(x) = x/2 (1 + erf(x / sqrt 2)).
//
// With t = 1 / (1 + p |x| / sqrt 2) the upper tail of the normal distribution is
// q = t P(t) exp(-x^2 / 2) / 2, P of degree 4; so x Phi(x) is x - x q for x >= 0 and x q below,
// where nothing cancels. q is within 8e-8.
// Order: elementwise, f32. Work: items are rows. Bytes: 8 * rows * F.
// Bound by the exponential and the division.
// Sources: arXiv:1606.08415 (GELU), Abramowitz and Stegun 7.1.26 (erf).
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

SLUICE_INLINE F32x16 Gelu(F32x16 x) {
  const F32x16 magnitude = AsFloat(AsInt(x) & Broadcast(INT32_MAX));
  const F32x16 one = Broadcast(1.0F);
  const F32x16 t = one / Fma(magnitude, Broadcast(0.3275911F * 0.70710678F), one);
  F32x16 p = Broadcast(0.5F * 1.061405429F);
  p = Fma(p, t, Broadcast(0.5F * -1.453152027F));
  p = Fma(p, t, Broadcast(0.5F * 1.421413741F));
  p = Fma(p, t, Broadcast(0.5F * -0.284496736F));
  p = Fma(p, t, Broadcast(0.5F * 0.254829592F));
  const F32x16 tail = x * (p * t * Exp(x * x * Broadcast(-0.5F)));
  return Select(Less(x, Zero()), tail, x - tail);
}

}  // namespace

void GeluRows(const GeluArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t r = begin; r < end; ++r) {
    float* x = args.x + r * args.x_stride;
    int32_t i = 0;
    for (; i + kLanes <= args.cols; i += kLanes) Store(x + i, Gelu(Load(x + i)));
    if (i < args.cols) StoreFirst(x + i, Gelu(LoadFirst(x + i, args.cols - i)), args.cols - i);
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
