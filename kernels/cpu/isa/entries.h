// The entry points of this form, one group a file of this folder; table.cc collects them.
#pragma once

#include "kernels/cpu/isa/form.h"
#include "kernels/cpu/kernels.h"

namespace sluice::cpu::SLUICE_ISA {

void QuantiseRows(const QuantiseArgs& args, int64_t begin, int64_t end, const Worker& worker);
void MatMulPanels(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& worker);
void RmsNormRows(const RmsNormArgs& args, int64_t begin, int64_t end, const Worker& worker);
void SiluMulRows(const SiluMulArgs& args, int64_t begin, int64_t end, const Worker& worker);

}  // namespace sluice::cpu::SLUICE_ISA
