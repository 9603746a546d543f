// Layer norm: out[r,i] = (y[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i] of
// y = x[r] + residual[r].
//
// Order: mean and variance are sums in 16 lanes (lane = i mod 16, i ascending), then the fixed tree
// of vec.h, f32; the variance is of y - mean, in a second pass. The last step is one fma.
// Work: items are rows. Bytes: 12 * rows * D; y waits in out, which stays in L1.
// Bound by the latency of each row's two sums, root and division at D = 384.
// Source: arXiv:1607.06450 eq. 4.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

// out = x + residual; returns the sum.
SLUICE_INLINE float AddRows(const float* x, const float* residual, int32_t cols, float* out) {
  F32x16 sum = Zero();
  int32_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    F32x16 y = Load(x + i);
    if (residual != nullptr) y = y + Load(residual + i);
    sum = sum + y;
    Store(out + i, y);
  }
  if (i < cols) {
    const int n = cols - i;
    F32x16 y = LoadFirst(x + i, n);
    if (residual != nullptr) y = y + LoadFirst(residual + i, n);
    sum = sum + y;
    StoreFirst(out + i, y, n);
  }
  return HorizontalSum(sum);
}

// y -= mean; returns the sum of squares.
SLUICE_INLINE float Centre(float* y, float mean, int32_t cols) {
  const F32x16 all = Broadcast(mean);
  F32x16 sum = Zero();
  int32_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    const F32x16 v = Load(y + i) - all;
    sum = Fma(v, v, sum);
    Store(y + i, v);
  }
  if (i < cols) {
    const int n = cols - i;
    const F32x16 v = Select(FirstLanes(n), LoadFirst(y + i, n) - all, Zero());
    sum = Fma(v, v, sum);
    StoreFirst(y + i, v, n);
  }
  return HorizontalSum(sum);
}

}  // namespace

void LayerNormRows(const LayerNormArgs& args, int64_t begin, int64_t end,
                   const Worker& /*worker*/) {
  const int32_t cols = args.cols;
  const auto size = static_cast<float>(cols);
  for (int64_t r = begin; r < end; ++r) {
    float* out = args.out + r * args.out_stride;
    const float* residual =
        args.residual == nullptr ? nullptr : args.residual + r * args.residual_stride;
    const float mean = AddRows(args.x + r * args.x_stride, residual, cols, out) / size;
    const float variance = Centre(out, mean, cols) / size;
    const F32x16 factor = Broadcast(1.0F / __builtin_sqrtf(variance + args.eps));
    int32_t i = 0;
    for (; i + kLanes <= cols; i += kLanes) {
      Store(out + i, Fma(Load(out + i) * factor, Load(args.weight + i), Load(args.bias + i)));
    }
    if (i < cols) {
      const int n = cols - i;
      const F32x16 scaled = LoadFirst(out + i, n) * factor;
      StoreFirst(out + i, Fma(scaled, LoadFirst(args.weight + i, n), LoadFirst(args.bias + i, n)),
                 n);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
