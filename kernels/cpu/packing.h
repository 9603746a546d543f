// How the CPU backend lays out weights and rounded activations. Plain data only: the files compiled
// for each form include this.
//
// Weights: panels of 16 output rows (lane = row), one forward stream a panel; lanes past the last
// row are zero. For each block of 32 k:
//   Q4_1  320 bytes: 4 x 64 bytes of nibbles (dword j of lane r: low nibbles k = 4j.., high nibbles
//   k = 16 + 4j..),
//         then 16 scales and 16 minima, f16. The bytes of the file, transposed by dwords.
//   Q4_0  288 bytes: the same without minima. The value is d * (nibble - 8).
//   Q8_0  544 bytes: 8 x 64 bytes of q + 128 (dword g of lane r: k = 4g..), then 16 scales, f16.
// Float weights: [k][16 lanes], each element as in the file.
//
// Activations, rounded to int8: the rows are cut into chunks of nearly equal size of at most
// kChunkRows, each chunk into tiles of nearly equal size of at most the form's tile; a tile is
// [block][row of the tile][32], so that every address in the kernel is a constant offset.
#pragma once

#include <cstdint>

namespace sluice::cpu {

enum class Packing : uint8_t { kQ4_0, kQ4_1, kQ8_0, kF32, kF16, kBF16 };

constexpr int32_t kPanelRows = 16;
constexpr int32_t kBlock = 32;
// 128 rows of rounded activations and the outputs they meet stay in a 1 MiB L2: 512 rows in one
// piece cost 3 % more.
constexpr int32_t kChunkRows = 128;
// Up to this many rows each thread rounds all of them for itself: cheaper than sharing the result.
constexpr int32_t kPrivateRows = 4;

constexpr int32_t kQ40Bytes = 288;
constexpr int32_t kQ41Bytes = 320;
constexpr int32_t kQ80Bytes = 544;

// Activations rounded to int8.
struct QuantisedRows {
  int8_t* q = nullptr;          // [tile][block][row of the tile][32]; null: at the worker's scratch
  float* scale = nullptr;       // [tile][block][row of the tile]
  float* scaled_sum = nullptr;  // the same: scale * sum(q)
  int32_t* sum = nullptr;       // the same: sum(q)
};

}  // namespace sluice::cpu
