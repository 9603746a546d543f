// What backends make of adapters' factors when they are loaded: checked, and as floats with B
// transposed, so that neighbouring outputs lie beside each other.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/half.h"
#include "kernels/view.h"

namespace sluice {

// Errors: as Ops::LoadAdapters.
inline absl::Status CheckAdapters(std::span<const AdapterView> adapters, int32_t rows,
                                  int32_t cols) {
  if (adapters.empty()) return absl::InvalidArgumentError("no adapters");
  for (size_t i = 0; i < adapters.size(); ++i) {
    const auto& [rank, scale, a, b] = adapters[i];
    if (rank < 0 || rank > kMaxAdapterRank) {
      return absl::InvalidArgumentError(
          fmt::format("adapter {} has rank {}; 0 to {} are allowed", i, rank, kMaxAdapterRank));
    }
    if (rank == 0) continue;
    if (a.rows != rank || a.cols != cols || b.rows != rows || b.cols != rank) {
      return absl::InvalidArgumentError(fmt::format(
          "adapter {} has factors of {} x {} and {} x {}; a linear op of {} x {} takes {} x {} and "
          "{} x {}",
          i, a.rows, a.cols, b.rows, b.cols, rows, cols, rank, cols, rows, rank));
    }
    for (const WeightView* factor : {&a, &b}) {
      if (factor->dtype != DType::kF32 && factor->dtype != DType::kF16) {
        return absl::InvalidArgumentError(
            fmt::format("adapter {} has a factor of type {}; it must be F32 or F16", i,
                        GetDTypeInfo(factor->dtype).name));
      }
    }
  }
  return absl::OkStatus();
}

// [rows][cols], or [cols][rows] if `transposed`.
inline std::vector<float> AdapterFactor(const WeightView& factor, bool transposed) {
  std::vector<float> values(static_cast<size_t>(factor.rows * factor.cols));
  const auto* bytes = static_cast<const char*>(factor.data);
  for (int64_t i = 0; i < factor.rows * factor.cols; ++i) {
    float value = 0;
    if (factor.dtype == DType::kF32) {
      std::memcpy(&value, bytes + 4 * i, 4);
    } else {
      uint16_t half = 0;
      std::memcpy(&half, bytes + 2 * i, 2);
      value = HalfToFloat(half);
    }
    const int64_t to = transposed ? i % factor.cols * factor.rows + i / factor.cols : i;
    values[static_cast<size_t>(to)] = value;
  }
  return values;
}

}  // namespace sluice
