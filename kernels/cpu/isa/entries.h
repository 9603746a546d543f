// The entry points of this form, one group a file of this folder; table.cc collects them.
#pragma once

#include "kernels/cpu/isa/form.h"
#include "kernels/cpu/kernels.h"

namespace sluice::cpu::SLUICE_ISA {

void QuantiseRows(const QuantiseArgs& args, int64_t begin, int64_t end, const Worker& worker);
void MatMulQuantised(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void MatMulFloat(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void AddAdapterRows(const AdapterArgs& args, int64_t begin, int64_t end, const Worker& worker);
void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end, const Worker& worker);
void GateMulRows(const GateMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void SoftCapChunks(const SoftCapArgs& args, int64_t begin, int64_t end, const Worker& worker);
void AddGatedRows(const AddGatedArgs& args, int64_t begin, int64_t end, const Worker& worker);
void ChooseExperts(const RouteArgs& args, int64_t begin, int64_t end, const Worker& worker);
void GroupByExpert(const RouteArgs& args, int64_t begin, int64_t end, const Worker& worker);
void GatherPlaces(const GatherPlacesArgs& args, int64_t begin, int64_t end, const Worker& worker);
void QuantisePlaces(const QuantisePlacesArgs& args, int64_t begin, int64_t end,
                    const Worker& worker);
void MatMulExperts(const ExpertMatMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void CombineExpertRows(const CombineExpertsArgs& args, int64_t begin, int64_t end,
                       const Worker& worker);
void EmbedTokens(const EmbedArgs& args, int64_t begin, int64_t end, const Worker& worker);
void RopeStoreKvTokens(const RopeStoreKvArgs& args, int64_t begin, int64_t end,
                       const Worker& worker);
void AttendTiles(const AttentionArgs& args, int64_t begin, int64_t end, const Worker& worker);
void CombinePartitions(const AttentionArgs& args, int64_t begin, int64_t end, const Worker& worker);
void AddPositionRows(const AddPositionsArgs& args, int64_t begin, int64_t end,
                     const Worker& worker);
void LayerNormRows(const LayerNormArgs& args, int64_t begin, int64_t end, const Worker& worker);
void GeluRows(const GeluArgs& args, int64_t begin, int64_t end, const Worker& worker);
void PoolRows(const PoolArgs& args, int64_t begin, int64_t end, const Worker& worker);
void GatherRows(const GatherArgs& args, int64_t begin, int64_t end, const Worker& worker);
void SampleRows(const SampleArgs& args, int64_t begin, int64_t end, const Worker& worker);

}  // namespace sluice::cpu::SLUICE_ISA
