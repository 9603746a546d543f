// The CUDA backend of Ops: one device, one stream, two steps in flight.
//
// Work is enqueued as the ops are called; Finish waits for the oldest step. The plan's arrays go up
// from pinned memory in one copy. Steps in which every row has one token are captured as a graph
// for each bucket of row counts and replayed. Nothing is allocated once the first largest step has
// been.
//
// A row's bits do not depend on the other rows, on chunks or on the number of steps: every kernel
// reduces in an order of its own (see their files). The device's own order is not the CPU's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/ops.h"

namespace sluice {

struct CudaOpsOptions {
  int32_t device = 0;
  int32_t max_step_tokens = 0;  // memory for steps up to this is taken at the start; 0: when met
  bool graphs = true;
};

// Errors: Unavailable without a usable device (see FindCudaDevices); what the device says.
absl::StatusOr<std::unique_ptr<Ops>> CreateCudaOps(const CudaOpsOptions& options);

struct CudaDevice {
  int32_t index = 0;
  std::string name;
  int32_t major = 0, minor = 0;  // compute capability
  int64_t total_bytes = 0, free_bytes = 0;
  int32_t multiprocessors = 0;
};
inline constexpr int32_t kLeastComputeCapability = 8;  // major: Ampere

// The devices that kernels run on. Errors: Unavailable that says why there is none, in one
// sentence.
absl::StatusOr<std::vector<CudaDevice>> FindCudaDevices();

}  // namespace sluice
