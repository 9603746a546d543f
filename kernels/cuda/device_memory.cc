#include "kernels/cuda/device_memory.h"

#include <fmt/format.h>

namespace sluice::cuda {

absl::Status ToStatus(cudaError_t error, std::string_view call) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      fmt::format("CUDA: {}: {} ({})", call, cudaGetErrorString(error), cudaGetErrorName(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(message);
  return absl::InternalError(message);
}

DeviceArena::~DeviceArena() {
  for (void* block : blocks_) cudaFree(block);
}

absl::StatusOr<void*> DeviceArena::Allocate(int64_t bytes) {
  void* data = nullptr;
  if (const cudaError_t error = cudaSetDevice(device_); error != cudaSuccess)
    return ToStatus(error, "cudaSetDevice");
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes > 0 ? bytes : 1));
  if (error == cudaErrorMemoryAllocation) {
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    return absl::ResourceExhaustedError(
        fmt::format("no {} MiB of device memory: {} of {} MiB are free", (bytes >> 20) + 1,
                    free >> 20, total >> 20));
  }
  if (error != cudaSuccess) return ToStatus(error, "cudaMalloc");
  blocks_.push_back(data);
  return data;
}

}  // namespace sluice::cuda
