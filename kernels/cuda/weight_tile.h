// The layout of a matrix's numbers in device memory, and how a lane makes matrix fragments of them.
//
// A matrix [N, K] is cut in panels of 16 rows, a panel in tiles of 64 columns, which follow each
// other: a warp that goes along K reads consecutive memory. A tile holds what the 32 lanes of a
// warp need for four m16n8k16 products, whose A fragments are rows g = lane / 4 and g + 8 and
// columns 2t, 2t + 1 and 8 more, t = lane % 4 (see matrix.h):
//
//   scales  [8 g][2 rows g, g + 8][64 / group] f16 s, or pairs of f16 s and m, or of bytes i and j
//   low     the codes' low bits: kLow words a lane, in vectors of 16 bytes [vector][lane] (of 8
//   where
//           kLow is 2). Step s = 0..3 takes columns 16 s ... 16 s + 15, its register i (rows g + 8
//           (i % 2), columns 8 (i / 2) on) elements e = 0, 1. With 4 bits, word s holds that at bit
//           4 i + 16 e; with 2 bits, word s / 2 at bit 8 (s % 2) + 2 i + 16 e; with 8 bits, word
//           2 s + i / 2 in byte 2 (i % 2) + e.
//   high    the codes' bits above: kHigh words a lane [lane][word], with 1 bit at 4 s + i + 16 e,
//           with 2 bits word s / 2 at bit 8 (s % 2) + 2 i + 16 e.
//
// Nested scales are s = d i and m = d' j; in front of every four tiles are [8 g][2 rows] pairs of
// f16 d and d', and K is a multiple of 256. Six bits would do for i and j: a byte is 2.8 % more
// memory, and one permute makes f16 of it.
//
// kFp8 is e4m3 codes in the order of two m16n8k32 products: scales [row / 8][column / 32] f32, then
// [product b][lane][word] with word 2 h + i of rows g + 8 i. Its byte 2 j + e, like byte 4 h + 2 j
// + e of a lane's eight bytes of x, is column 32 b + 16 h + 8 j + 2 t + e: the instruction's
// columns in another order, the same for both, so that Halves fit them too.
//
// A number is (code - offset) s, the code's value s or code s + m in f16, rounded once for each
// operation; the panel's row_scale (f32, a power of two) restores the magnitude. f16 matrices are
// plain rows of K padded to 64, in the order of Halves, so that other GEMMs can read them too.
#pragma once

#include <cstdint>

#include "kernels/cuda/kernels.h"

namespace sluice::cuda {

inline constexpr int32_t kPanelRows = 16, kTileColumns = 64, kNestTiles = 4;

struct FormatInfo {
  int32_t low_bits, high_bits;
  int32_t group;  // columns that share a scale; 0: f16 without
  bool minimum;
  int32_t offset;
  bool table = false;   // codes stand for the offset and IQ4_NL's values
  bool nested = false;  // scales are
  bool fp8 = false;     // the layout is that of kFp8

  [[nodiscard]] constexpr int32_t scale_bytes() const {
    if (fp8) return 16;
    if (group == 0) return 0;
    return kPanelRows * (kTileColumns / group) * (minimum && !nested ? 4 : 2);
  }
  // In front of every kNestTiles tiles.
  [[nodiscard]] constexpr int32_t nest_bytes() const { return nested ? kPanelRows * 4 : 0; }
  [[nodiscard]] constexpr int32_t low_bytes() const {
    return kPanelRows * kTileColumns * low_bits / 8;
  }
  // What a number without its scale is below, in magnitude.
  [[nodiscard]] constexpr int32_t span() const {
    return table ? offset : 1 << (low_bits + high_bits);
  }
  [[nodiscard]] constexpr int32_t tile_bytes() const {
    return scale_bytes() + low_bytes() + kPanelRows * kTileColumns * high_bits / 8;
  }
  // Where a panel's tile begins, and where the panel ends.
  [[nodiscard]] constexpr int64_t tile_at(int32_t tile) const {
    return int64_t{tile} * tile_bytes() + (tile / kNestTiles + 1) * nest_bytes();
  }
  [[nodiscard]] constexpr int64_t panel_bytes(int32_t num_tiles) const {
    return int64_t{num_tiles} * tile_bytes() +
           (num_tiles + kNestTiles - 1) / kNestTiles * nest_bytes();
  }
};
[[nodiscard]] constexpr FormatInfo InfoOf(WeightFormat format) {
  switch (format) {
    case WeightFormat::kInt8:
      return {8, 0, 32, false, 128};
    case WeightFormat::kInt4:
      return {4, 0, 32, false, 8};
    case WeightFormat::kInt4Min:
      return {4, 0, 32, true, 0};
    case WeightFormat::kInt5:
      return {4, 1, 32, false, 16};
    case WeightFormat::kInt5Min:
      return {4, 1, 32, true, 0};
    case WeightFormat::kInt6:
      return {4, 2, 16, false, 32};
    case WeightFormat::kInt3:
      return {2, 1, 16, false, 4};
    case WeightFormat::kInt2Min:
      return {2, 0, 16, true, 0};
    case WeightFormat::kTable4:
      return {4, 0, 32, false, 128, true};
    case WeightFormat::kInt4Nested:
      return {4, 0, 32, true, 0, false, true};
    case WeightFormat::kInt5Nested:
      return {4, 1, 32, true, 0, false, true};
    case WeightFormat::kFp8:
      return {8, 0, 32, false, 0, false, false, true};
    case WeightFormat::kHalf:
      break;
  }
  return {16, 0, 0, false, 0};
}

}  // namespace sluice::cuda
