#include "kernels/cpu/cpu_ops.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"
#include "kernels/cpu/backend.h"

namespace sluice {
namespace {

int32_t CoresOfThisProcess() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(CPU_COUNT(&set), 1);
}

const cpu::Kernels& KernelsOf(CpuIsa isa) {
#if defined(__x86_64__)
  if (isa == CpuIsa::kAvx512) return cpu::avx512::kKernels;
  if (isa == CpuIsa::kAvx2) return cpu::avx2::kKernels;
#else
  (void)isa;
#endif
  return cpu::scalar::kKernels;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> CreateCpuOps(const CpuOpsOptions& options) {
  if (options.threads < 0 || options.threads > 1024) {
    return absl::InvalidArgumentError(
        fmt::format("threads is {}; it must be in [0, 1024]", options.threads));
  }
  RETURN_IF_ERROR(ParseCpuIsa(CpuIsaName(options.isa)).status());
  const int32_t threads = options.threads > 0 ? options.threads : CoresOfThisProcess();
  return std::unique_ptr<Ops>(std::make_unique<cpu::Backend>(KernelsOf(options.isa), threads));
}

namespace cpu {

Backend::Backend(const Kernels& kernels, int32_t num_threads)
    : kernels_(kernels), pool_(num_threads, Backend::kScratchBytes) {}

absl::StatusOr<void*> Backend::Allocate(int64_t bytes) { return arena_.Allocate(bytes); }

void Backend::BeginStep(const BatchView& batch) {
  batch_ = batch;
  commands_.Clear();
  status_ = absl::OkStatus();
  attention_plan_.Reset();
  token_row_.resize(static_cast<size_t>(batch.num_tokens));
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    std::fill(token_row_.begin() + batch.row_begin[r], token_row_.begin() + batch.row_begin[r + 1],
              r);
  }
}

absl::Status Backend::Finish() {
  if (status_.ok()) pool_.Run(commands_.commands());
  commands_.Clear();
  return std::move(status_);
}

}  // namespace cpu
}  // namespace sluice
