// How the CPU backend lays out weights and rounded activations.
//
// Weights: panels of 16 output rows (lane = row), one forward stream a panel. Rows past the last
// are zero. For each block of 32 k:
//   Q4_1  320 bytes: 4 x 64 bytes of nibbles (dword j, lane r: low nibbles k = 4j.., high nibbles k
//   = 16 + 4j..), then
//         16 scales and 16 minima, f16. The same bytes as in the file, transposed by dwords.
//   Q4_0  288 bytes: the same without minima. The value is d * (nibble - 8).
//   Q8_0  544 bytes: 8 x 64 bytes of q + 128 (dword g, lane r: k = 4g..), then 16 scales, f16.
// Float weights: [k][16 lanes], each element as in the file.
//
// Activations, rounded to int8: chunks of at most kChunkRows rows, each cut into tiles of nearly
// equal size of at most kTileRows; a tile is [block][row of the tile][32], so that every address in
// the kernel is a constant offset.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cpu/arena.h"
#include "kernels/cpu/kernels.h"

namespace sluice::cpu {

struct PackedPart {
  Packing packing = Packing::kF32;
  int32_t rows = 0;    // outputs
  int32_t column = 0;  // its first column of the stacked output
  const uint8_t* panels = nullptr;
};

struct PackedLinear {
  int32_t rows = 0, cols = 0;
  bool quantised = false;  // some part wants int8 activations
  std::vector<PackedPart> parts;
};

// Packs `parts` into `arena`. Errors: InvalidArgument for no parts, unequal cols, or cols that are
// not whole blocks; ResourceExhausted.
absl::StatusOr<PackedLinear> PackLinear(std::span<const WeightView> parts, Arena& arena);

}  // namespace sluice::cpu
