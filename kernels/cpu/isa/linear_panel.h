// What a quantised panel kernel reads; and the kernel of this form, `Panel<packing, rows>`.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/form.h"

namespace sluice::cpu::SLUICE_ISA {

// A tile of rounded activations.
struct TileInput {
  const int8_t* q;
  const float* scale;
  const float* scaled_sum;
  const int32_t* half_sums;
  int32_t blocks;
};

}  // namespace sluice::cpu::SLUICE_ISA

#if defined(SLUICE_ISA_AVX512)
#include "kernels/cpu/isa/linear_panel_avx512.h"
#elif defined(SLUICE_ISA_AVX2)
#include "kernels/cpu/isa/linear_panel_avx2.h"
#else
#include "kernels/cpu/isa/linear_panel_scalar.h"
#endif
