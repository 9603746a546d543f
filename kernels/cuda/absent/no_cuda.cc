// In place of the CUDA backend where a build has none.
#include "kernels/cuda/cuda_ops.h"

namespace sluice {

absl::StatusOr<std::vector<CudaDevice>> FindCudaDevices() {
  return absl::UnavailableError("this build has no CUDA backend");
}

absl::StatusOr<CudaMemory> CudaMemoryOf(int32_t /*device*/) { return FindCudaDevices().status(); }

absl::StatusOr<std::unique_ptr<Ops>> CreateCudaOps(const CudaOpsOptions& /*options*/) {
  return FindCudaDevices().status();
}

absl::StatusOr<std::vector<std::unique_ptr<Ops>>> CreateCudaRanks(const CudaOpsOptions& /*options*/,
                                                                  int32_t /*num_ranks*/) {
  return FindCudaDevices().status();
}

absl::StatusOr<CudaHealthReader> WatchCudaDevice(int32_t /*device*/) {
  return FindCudaDevices().status();
}

int64_t CudaMatrixBytes(DType /*dtype*/, int64_t /*rows*/, int64_t /*cols*/) { return 0; }

int64_t CudaStepBytes(int32_t /*max_step_tokens*/, int32_t /*max_rows*/, int64_t /*vocab*/,
                      int64_t /*widest*/) {
  return 0;
}

int64_t CudaExchangeBytes(int32_t /*max_step_tokens*/, int32_t /*max_rows*/, int64_t /*vocab*/,
                          int64_t /*model_dim*/, int32_t /*num_ranks*/, bool /*deterministic*/) {
  return 0;
}

}  // namespace sluice
