// The linear ops of Backend.
#include <fmt/format.h>

#include <cstring>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/half.h"

namespace sluice::cpu {

absl::StatusOr<Linear> Backend::LoadLinear(std::span<const WeightView> /*parts*/) {
  return absl::UnimplementedError("LoadLinear");
}

absl::StatusOr<Vector> Backend::LoadVector(const WeightView& weight) {
  if (weight.rows != 1) {
    return absl::InvalidArgumentError(
        fmt::format("a vector has {} rows; it must have 1", weight.rows));
  }
  if (weight.dtype != DType::kF32 && weight.dtype != DType::kF16 && weight.dtype != DType::kBF16) {
    return absl::InvalidArgumentError(fmt::format(
        "a vector has type {}; it must be F32, F16 or BF16", GetDTypeInfo(weight.dtype).name));
  }
  ASSIGN_OR_RETURN(void* memory, arena_.Allocate(weight.cols * 4));
  auto* out = static_cast<float*>(memory);
  const auto* in = static_cast<const char*>(weight.data);
  for (int64_t i = 0; i < weight.cols; ++i) {
    uint16_t half = 0;
    if (weight.dtype == DType::kF32) {
      std::memcpy(out + i, in + 4 * i, 4);
      continue;
    }
    std::memcpy(&half, in + 2 * i, 2);
    out[i] = weight.dtype == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
  }
  return Vector{out, static_cast<int32_t>(weight.cols)};
}

void Backend::MatMul(Tensor /*x*/, const Linear& /*w*/, Tensor /*residual*/, Tensor /*out*/) {
  Fail(absl::UnimplementedError("MatMul"));
}

}  // namespace sluice::cpu
