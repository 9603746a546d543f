// The entry points of this form, one group a file of this folder; table.cc collects them.
#pragma once

#include "kernels/cpu/isa/form.h"
#include "kernels/cpu/kernels.h"

namespace sluice::cpu::SLUICE_ISA {

void QuantiseRows(const QuantiseArgs& args, int64_t begin, int64_t end, const Worker& worker);
void MatMulQuantised(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void MatMulFloat(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end, const Worker& worker);
void SiluMulRows(const SiluMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void EmbedTokens(const EmbedArgs& args, int64_t begin, int64_t end, const Worker& worker);
void RopeStoreKvTokens(const RopeStoreKvArgs& args, int64_t begin, int64_t end,
                       const Worker& worker);
void AttendTiles(const AttentionArgs& args, int64_t begin, int64_t end, const Worker& worker);
void CombinePartitions(const AttentionArgs& args, int64_t begin, int64_t end, const Worker& worker);
void GatherRows(const GatherArgs& args, int64_t begin, int64_t end, const Worker& worker);
void SampleRows(const SampleArgs& args, int64_t begin, int64_t end, const Worker& worker);

}  // namespace sluice::cpu::SLUICE_ISA
