#include "kernels/cpu/isa/entries.h"

namespace sluice::cpu::SLUICE_ISA {

constexpr Kernels Table() {
  Kernels k;
  k.quantise = QuantiseRows;
  k.matmul_quantised = MatMulQuantised;
  k.matmul_float = MatMulFloat;
  k.rms_norm = RmsNormRows;
  k.silu_mul = SiluMulRows;
  k.embed = EmbedTokens;
  k.rope_store_kv = RopeStoreKvTokens;
  k.attention = AttendTiles;
  k.combine_partitions = CombinePartitions;
  k.gather = GatherRows;
  k.sample = SampleRows;
  return k;
}

extern const Kernels kKernels;
constinit const Kernels kKernels = Table();

}  // namespace sluice::cpu::SLUICE_ISA
