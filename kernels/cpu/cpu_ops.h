// The CPU backend of Ops.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

namespace sluice {

namespace cpu {
class ThreadPool;
}

// Kernel threads, for several Ops that take turns, a step at a time. threads 0: one for each core
// this process may run on. Errors: InvalidArgument for threads outside [0, 1024].
absl::StatusOr<std::shared_ptr<cpu::ThreadPool>> CreateCpuThreads(int32_t threads);

struct CpuOpsOptions {
  CpuIsa isa = BestCpuIsa();
  int32_t threads = 0;                    // as for CreateCpuThreads
  std::shared_ptr<cpu::ThreadPool> pool;  // in place of `threads`; owners: the Ops that share it
};

// Errors: FailedPrecondition if the CPU cannot run `isa`; those of CreateCpuThreads.
absl::StatusOr<std::unique_ptr<Ops>> CreateCpuOps(const CpuOpsOptions& options);

}  // namespace sluice
