// Puts a kernel on a stream: the same call for a card and for the emulator.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace sluice::cuda {

struct LaunchShape {
  uint32_t grid_x = 1, grid_y = 1, grid_z = 1;  // blocks
  uint32_t threads = 1;                         // of a block
  size_t shared_bytes = 0;                      // dynamic shared memory of a block
};

}  // namespace sluice::cuda

#if defined(__CUDACC__)

namespace sluice::cuda {

// `name` is for findings and counters of the emulator. A grid without blocks is no launch.
template <class... Params, class... Args>
cudaError_t Launch(const char* /*name*/, void (*kernel)(Params...), const LaunchShape& shape,
                   cudaStream_t stream, const Args&... args) {
  if (shape.grid_x == 0 || shape.grid_y == 0 || shape.grid_z == 0) return cudaSuccess;
  const auto* function = reinterpret_cast<const void*>(kernel);
  constexpr size_t kSharedWithoutAsking = 48 * 1024;
  if (shape.shared_bytes > kSharedWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  return [&](Params... params) {
    void* pointers[] = {&params...};
    return cudaLaunchKernel(function, dim3(shape.grid_x, shape.grid_y, shape.grid_z),
                            dim3(shape.threads), pointers, shape.shared_bytes, stream);
  }(args...);
}

}  // namespace sluice::cuda

#else

#include "kernels/simt/runtime.h"

namespace sluice::cuda {

template <class... Params, class... Args>
cudaError_t Launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape,
                   cudaStream_t stream, const Args&... args) {
  if (shape.grid_x == 0 || shape.grid_y == 0 || shape.grid_z == 0) return cudaSuccess;
  const auto* function = reinterpret_cast<const void*>(kernel);
  constexpr size_t kSharedWithoutAsking = 48 * 1024;
  if (shape.shared_bytes > kSharedWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  const simt::Launch launch{.kernel = name,
                            .grid = {shape.grid_x, shape.grid_y, shape.grid_z},
                            .block = {shape.threads, 1, 1},
                            .dynamic_shared_bytes = shape.shared_bytes};
  return simt::EnqueueKernel(function, launch, stream, [=] { kernel(args...); });
}

}  // namespace sluice::cuda

#endif
