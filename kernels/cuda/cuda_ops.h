// The CUDA backend of Ops: one device, one stream, two steps in flight. Several of them are the
// ranks of one model, which exchange sums and logits by NCCL.
//
// Work is enqueued as the ops are called; Finish waits for the oldest step. The plan's arrays go up
// from pinned memory in one copy. Steps in which every row has one token are captured as a graph
// for each bucket of row counts and replayed. Nothing is allocated once the first largest step has
// been.
//
// Every kernel reduces in an order of its own, which is not the CPU's. If `deterministic`, a row's
// bits do not depend on the other rows, on chunks or on steps; else products of many rows have a
// faster kernel, whose order differs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/nvml.h"
#include "kernels/ops.h"

namespace sluice {

struct CudaOpsOptions {
  int32_t device = 0;
  int32_t max_step_tokens = 0;  // memory for steps up to this is taken at the start; 0: when met
  bool graphs = true;
  // One kernel, and one order of sums, for any number of rows.
  bool deterministic = false;
  // Products of many rows by f16 weights go to cuBLASLt, if it can be opened, from this compute
  // capability on (major): there its kernels are beyond what ours may use. 0: never.
  int32_t blas_from_major = 0;
  // Where cuBLASLt's functions are; null: in the library itself.
  std::function<void*(const char* name)> find_blas;
};

// Errors: Unavailable without a usable device (see FindCudaDevices); what the device says.
absl::StatusOr<std::unique_ptr<Ops>> CreateCudaOps(const CudaOpsOptions& options);
// Ranks on options.device and those after it, each for a thread of its own: a rank waits for the
// others in Finish and wherever memory grows. Once one has failed, all report that failure.
// Errors: those of CreateCudaOps; InvalidArgument for too few devices or for such as differ;
// NotFound without NCCL.
absl::StatusOr<std::vector<std::unique_ptr<Ops>>> CreateCudaRanks(const CudaOpsOptions& options,
                                                                  int32_t num_ranks);

struct CudaDevice {
  int32_t index = 0;
  std::string name;
  int32_t major = 0, minor = 0;  // compute capability
  int32_t multiprocessors = 0;
};
inline constexpr int32_t kLeastComputeCapability = 8;  // major: Ampere

// Whether a device multiplies numbers of e4m3; others multiply FP8 weights by x in f16. Among them
// those after 10.x: they run what the driver makes of the PTX for 8.0, which has no such product.
[[nodiscard]] constexpr bool HasFp8Products(const CudaDevice& device) {
  return (device.major == 8 && device.minor >= 9) || device.major == 9 || device.major == 10;
}

struct CudaMemory {
  int64_t total_bytes = 0, free_bytes = 0;
};
// Begins to use the device, which takes some hundred MB of its memory. Errors: what the device
// says.
absl::StatusOr<CudaMemory> CudaMemoryOf(int32_t device);

// The devices that kernels run on; uses none of them. Errors: Unavailable that says why there is
// none, in one sentence.
absl::StatusOr<std::vector<CudaDevice>> FindCudaDevices();

// Asks the driver for a device's health: some milliseconds. One thread at a time.
using CudaHealthReader = std::function<cuda::DeviceHealth()>;
// Errors: NotFound or Unavailable, with the reason, where the driver's library does not tell.
absl::StatusOr<CudaHealthReader> WatchCudaDevice(int32_t device);

// Bytes of device memory that a matrix takes.
[[nodiscard]] int64_t CudaMatrixBytes(DType dtype, int64_t rows, int64_t cols);
// Bytes beside weights, tensors and KV cache: the widest input of a matrix as f16 and as e4m3 for
// each token, slots, plans, and what the driver and graphs take (an estimate).
[[nodiscard]] int64_t CudaStepBytes(int32_t max_step_tokens, int32_t max_rows, int64_t vocab,
                                    int64_t widest);
// Bytes of what a rank gathers of the others in a step.
[[nodiscard]] int64_t CudaExchangeBytes(int32_t max_step_tokens, int32_t max_rows, int64_t vocab,
                                        int64_t model_dim, int32_t num_ranks, bool deterministic);

}  // namespace sluice
