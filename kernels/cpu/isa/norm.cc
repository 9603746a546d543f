// RMS norm of groups of G columns (G = D: of whole rows):
//   out[r,i] = x[r,i] * (1 / sqrt(mean over i's group(x[r,j]^2) + eps)) * weight[i] +
//   residual[r,i].
//
// Order: a group's squares are summed in 16 lanes (lane = j mod 16, j ascending from the group's
// begin), then the fixed tree of vec.h, all in f32; the residual is added last.
// Work: items are rows. Bytes: 8 * rows * D (x is read twice, the second time from L1) + 4 * D,
// with a residual 4 * rows * D more. Bound by the latency of each row's sum, root and division at D
// = 576, by L2 for longer rows. Measured: 1.3 ms for 61 norms of 512 rows of 576 on two Zen 4 cores
// (CPU time of one, halved). Source: arXiv:1910.07467 eq. 4.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

// One group. kResidual: whether there is one; `residual` may be `out`.
template <bool kResidual>
SLUICE_INLINE void NormGroup(const float* x, const float* weight, float eps, int32_t cols,
                             const float* residual, float* out) {
  F32x16 sum = Zero();
  int32_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    const F32x16 v = Load(x + i);
    sum = Fma(v, v, sum);
  }
  if (i < cols) {
    const F32x16 v = LoadFirst(x + i, cols - i);
    sum = Fma(v, v, sum);
  }
  const float mean = HorizontalSum(sum) / static_cast<float>(cols);
  const F32x16 factor = Broadcast(1.0F / __builtin_sqrtf(mean + eps));
  for (i = 0; i + kLanes <= cols; i += kLanes) {
    F32x16 y = Load(x + i) * factor * Load(weight + i);
    if constexpr (kResidual) y = y + Load(residual + i);
    Store(out + i, y);
  }
  if (i < cols) {
    const int n = cols - i;
    F32x16 y = LoadFirst(x + i, n) * factor * LoadFirst(weight + i, n);
    if constexpr (kResidual) y = y + LoadFirst(residual + i, n);
    StoreFirst(out + i, y, n);
  }
}

}  // namespace

void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * args.x_stride;
    float* out = args.out + r * args.out_stride;
    for (int32_t g = 0; g < args.cols; g += args.group) {
      if (args.residual == nullptr) {
        NormGroup<false>(x + g, args.weight + g, args.eps, args.group, nullptr, out + g);
      } else {
        NormGroup<true>(x + g, args.weight + g, args.eps, args.group,
                        args.residual + r * args.residual_stride + g, out + g);
      }
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
