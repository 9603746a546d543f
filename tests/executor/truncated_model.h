// The real model with its first layers only: true weights and shapes at a fraction of the time.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "base/check.h"
#include "executor/model_executor.h"
#include "kernels/cpu/cpu_ops.h"
#include "model/model_file.h"
#include "tests/model/real_model.h"

namespace sluice {

inline ModelFile OpenTruncatedModel(int32_t num_layers) {
  auto model = ModelFile::Open(RealModelPath());
  SLUICE_CHECK(model.ok(), "{}", model.status().ToString());
  model->config.num_layers = num_layers;
  model->weights.layers.resize(num_layers);
  return *std::move(model);
}

inline std::unique_ptr<ModelExecutor> MakeExecutor(const ModelFile& model, const CpuOpsOptions& cpu,
                                                   ModelExecutorOptions options) {
  auto ops = CreateCpuOps(cpu);
  SLUICE_CHECK(ops.ok(), "{}", ops.status().ToString());
  auto executor = ModelExecutor::Create(model, *std::move(ops), std::move(options));
  SLUICE_CHECK(executor.ok(), "{}", executor.status().ToString());
  return *std::move(executor);
}

}  // namespace sluice
