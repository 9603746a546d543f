// The CPU backend of Ops.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

namespace sluice {

struct CpuOpsOptions {
  CpuIsa isa = BestCpuIsa();
  int32_t threads = 0;  // 0: one for each core this process may run on
};

// Errors: FailedPrecondition if the CPU cannot run `isa`; InvalidArgument for threads outside [0,
// 1024].
absl::StatusOr<std::unique_ptr<Ops>> CreateCpuOps(const CpuOpsOptions& options);

}  // namespace sluice
