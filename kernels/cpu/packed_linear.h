// Weights in the layout of packing.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cpu/arena.h"
#include "kernels/cpu/packing.h"
#include "kernels/view.h"

namespace sluice::cpu {

// Consecutive output rows of one element type.
struct PackedPart {
  Packing packing = Packing::kF32;
  int32_t rows = 0;    // outputs
  int32_t column = 0;  // its first column of the stacked output
  const uint8_t* panels = nullptr;
};

struct PackedLinear {
  int32_t rows = 0, cols = 0;
  std::vector<PackedPart> parts;
};

[[nodiscard]] constexpr bool IsQuantised(Packing packing) { return packing < Packing::kF32; }

// Stacks `parts` and packs them into `arena`; neighbours of one type become one part. Their memory
// is not needed afterwards. Errors: InvalidArgument for no parts, unequal cols, cols that are not
// whole blocks, or more rows than fit int32; ResourceExhausted.
absl::StatusOr<PackedLinear> PackLinear(std::span<const WeightView> parts, Arena& arena);

}  // namespace sluice::cpu
