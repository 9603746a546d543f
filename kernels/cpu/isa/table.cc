#include "kernels/cpu/isa/entries.h"

namespace sluice::cpu::SLUICE_ISA {

constexpr Kernels Table() {
  Kernels k;
  k.rms_norm = RmsNormRows;
  k.silu_mul = SiluMulRows;
  return k;
}

extern const Kernels kKernels;
constinit const Kernels kKernels = Table();

}  // namespace sluice::cpu::SLUICE_ISA
