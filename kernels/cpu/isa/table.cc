#include "kernels/cpu/isa/entries.h"

namespace sluice::cpu::SLUICE_ISA {

constexpr Kernels Table() {
  Kernels k;
  k.quantise = QuantiseRows;
  k.matmul_quantised = MatMulQuantised;
  k.matmul_float = MatMulFloat;
  k.add_adapters = AddAdapterRows;
  k.rms_norm = RmsNormRows;
  k.gate_mul = GateMulRows;
  k.soft_cap = SoftCapChunks;
  k.add_gated = AddGatedRows;
  k.choose_experts = ChooseExperts;
  k.group_by_expert = GroupByExpert;
  k.gather_places = GatherPlaces;
  k.quantise_places = QuantisePlaces;
  k.expert_matmul = MatMulExperts;
  k.combine_experts = CombineExpertRows;
  k.embed = EmbedTokens;
  k.rope_store_kv = RopeStoreKvTokens;
  k.attention = AttendTiles;
  k.combine_partitions = CombinePartitions;
  k.add_positions = AddPositionRows;
  k.layer_norm = LayerNormRows;
  k.gelu = GeluRows;
  k.pool = PoolRows;
  k.gather = GatherRows;
  k.sample = SampleRows;
  return k;
}

extern const Kernels kKernels;
constinit const Kernels kKernels = Table();

}  // namespace sluice::cpu::SLUICE_ISA
