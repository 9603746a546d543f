// Ops that work row by row on activations: RMS norm, SiLU. Memory-bound in L2: 8 bytes read or
// written an element.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {

// out = x * (1 / sqrt(mean(x^2) + eps)) * weight. Sum of squares in 16 lanes (lane = i mod 16,
// ascending), then the tree.
void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  const int32_t cols = args.cols;
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * args.x_stride;
    float* out = args.out + r * args.out_stride;
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
    const F32x16 factor = Broadcast(1.0F / __builtin_sqrtf(mean + args.eps));
    for (i = 0; i + kLanes <= cols; i += kLanes)
      Store(out + i, Load(x + i) * factor * Load(args.weight + i));
    if (i < cols) {
      const int n = cols - i;
      StoreFirst(out + i, LoadFirst(x + i, n) * factor * LoadFirst(args.weight + i, n), n);
    }
  }
}

void SiluMulRows(const SiluMulArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  const int32_t cols = args.cols;
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + cols;
    float* out = args.out + r * args.out_stride;
    int32_t i = 0;
    for (; i + kLanes <= cols; i += kLanes) Store(out + i, Silu(Load(gate + i)) * Load(up + i));
    if (i < cols) {
      const int n = cols - i;
      StoreFirst(out + i, Silu(LoadFirst(gate + i, n)) * LoadFirst(up + i, n), n);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
