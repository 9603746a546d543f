#include "kernels/cpu/cpu_ops.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "kernels/cpu/backend.h"
#include "kernels/half.h"

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

absl::StatusOr<std::shared_ptr<cpu::ThreadPool>> CreateCpuThreads(int32_t threads) {
  if (threads < 0 || threads > 1024) {
    return absl::InvalidArgumentError(
        fmt::format("threads is {}; it must be in [0, 1024]", threads));
  }
  return std::make_shared<cpu::ThreadPool>(threads > 0 ? threads : CoresOfThisProcess(),
                                           cpu::Backend::kScratchBytes);
}

absl::StatusOr<std::unique_ptr<Ops>> CreateCpuOps(const CpuOpsOptions& options) {
  RETURN_IF_ERROR(ParseCpuIsa(CpuIsaName(options.isa)).status());
  std::shared_ptr<cpu::ThreadPool> pool = options.pool;
  if (pool == nullptr) {
    ASSIGN_OR_RETURN(pool, CreateCpuThreads(options.threads));
  }
  return std::unique_ptr<Ops>(
      std::make_unique<cpu::Backend>(KernelsOf(options.isa), std::move(pool)));
}

namespace cpu {

Backend::Backend(const Kernels& kernels, std::shared_ptr<ThreadPool> pool)
    : kernels_(kernels), pool_(std::move(pool)) {}

namespace {

float FloatAt(const WeightView& weight, int64_t i) {
  const auto* bytes = static_cast<const char*>(weight.data);
  if (weight.dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, bytes + 4 * i, 4);
    return value;
  }
  uint16_t half = 0;
  std::memcpy(&half, bytes + 2 * i, 2);
  return weight.dtype == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
}

}  // namespace

absl::StatusOr<Vector> Backend::LoadVector(std::span<const WeightView> parts) {
  int64_t size = 0;
  for (const WeightView& part : parts) {
    if (part.rows != 1) {
      return absl::InvalidArgumentError(
          fmt::format("a vector has {} rows; it must have 1", part.rows));
    }
    if (part.dtype != DType::kF32 && part.dtype != DType::kF16 && part.dtype != DType::kBF16) {
      return absl::InvalidArgumentError(fmt::format(
          "a vector has type {}; it must be F32, F16 or BF16", GetDTypeInfo(part.dtype).name));
    }
    size += part.cols;
  }
  ASSIGN_OR_RETURN(void* memory, arena_.Allocate(size * 4));
  auto* out = static_cast<float*>(memory);
  for (const WeightView& part : parts) {
    for (int64_t i = 0; i < part.cols; ++i) *out++ = FloatAt(part, i);
  }
  return Vector{static_cast<const float*>(memory), static_cast<int32_t>(size)};
}

absl::StatusOr<void*> Backend::Allocate(int64_t bytes) { return arena_.Allocate(bytes); }

void Backend::BeginStep(const BatchView& batch) {
  batch_ = batch;
  commands_.Clear();
  status_ = absl::OkStatus();
  attention_plans_.Reset();
  token_row_.resize(static_cast<size_t>(batch.num_tokens));
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    std::fill(token_row_.begin() + batch.row_begin[r], token_row_.begin() + batch.row_begin[r + 1],
              r);
  }
}

absl::Status Backend::Finish() {
  if (status_.ok()) pool_->Run(commands_.commands());
  commands_.Clear();
  return std::move(status_);
}

}  // namespace cpu
}  // namespace sluice
