#include "tests/kernels/step.h"

#include <random>
#include <utility>

#include "base/check.h"

namespace sluice {

std::vector<CpuIsa> CpuForms() {
  std::vector<CpuIsa> forms;
  for (const CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (CpuSupports(isa)) forms.push_back(isa);
  }
  return forms;
}

std::vector<CpuSetting> CpuSettings() {
  std::vector<CpuSetting> settings;
  for (const CpuIsa isa : CpuForms()) {
    for (const int32_t threads : {1, 2}) settings.push_back({isa, threads});
  }
  return settings;
}

std::string ToString(const CpuSetting& setting) {
  return std::string(CpuIsaName(setting.isa)) + ", " + std::to_string(setting.threads) + " threads";
}

std::unique_ptr<Ops> MakeCpuOps(const CpuSetting& setting) {
  auto ops = CreateCpuOps({setting.isa, setting.threads});
  SLUICE_CHECK(ops.ok(), "{}", std::string(ops.status().message()));
  return *std::move(ops);
}

std::vector<float> RandomFloats(size_t count, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0, deviation);
  std::vector<float> floats(count);
  for (float& v : floats) v = value(random);
  return floats;
}

void StepBatch::AddRow(int32_t num_tokens, int32_t num_cached, std::span<const int32_t> blocks,
                       int32_t slot, bool output) {
  for (int32_t i = 0; i < num_tokens; ++i) {
    tokens_.push_back(0);
    positions_.push_back(num_cached + i);
  }
  if (output) output_rows_.push_back(static_cast<int32_t>(slots_.size()));
  row_begin_.push_back(row_begin_.back() + num_tokens);
  context_len_.push_back(num_cached + num_tokens);
  blocks_.insert(blocks_.end(), blocks.begin(), blocks.end());
  block_begin_.push_back(static_cast<int32_t>(blocks_.size()));
  slots_.push_back(slot);
}

BatchView StepBatch::view() const {
  BatchView view;
  view.num_tokens = static_cast<int32_t>(positions_.size());
  view.num_rows = static_cast<int32_t>(slots_.size());
  view.tokens = tokens_.data();
  view.positions = positions_.data();
  view.row_begin = row_begin_.data();
  view.context_len = context_len_.data();
  view.blocks = blocks_.data();
  view.block_begin = block_begin_.data();
  view.slots = slots_.data();
  view.num_outputs = static_cast<int32_t>(output_rows_.size());
  view.output_rows = output_rows_.data();
  if (!adapters_.empty()) view.adapters = adapters_.data();
  return view;
}

}  // namespace sluice
