// How the CPU backend lays out weights and rounded activations. Plain data only: the files compiled
// for each form include this, so its functions are static.
//
// Weights: panels of 16 output rows (lane = row), one forward stream a panel; lanes past the last
// row are zero. Quantised weights come in blocks of 32 k; the K types put the f16 numbers of a
// super-block in a header before its 8 blocks. A block is
//   planes   the codes. Group g of a block is k = 4g..4g+3, one dword a lane. A plane set of n bits
//            is n vectors of 64 bytes; group g lies at bit n * (g / n) of each byte of vector g mod
//            n. So 8 bits are bytes as they come, 4 bits are the nibbles of a file transposed by
//            dwords, 1 bit is one dword a lane. Codes of 3, 5 and 6 bits are two sets: the low bits
//            and, behind them, the high ones.
//   scales   as Scales says.
// Bytes for 16 rows, against the file's: equal, but for Q4_K, Q5_K and Q3_K, whose 6-bit scales
// become bytes: 2.8, 2.3 and 3.6 % more. Float weights: [k][16 lanes], each element as in the file.
//
// Activations, rounded to int8: the rows are cut into chunks of nearly equal size of at most
// kChunkRows, each chunk into tiles of nearly equal size of at most the form's tile; a tile is
// [block][row of the tile][32], so that every address in the kernel is a constant offset.
#pragma once

#include <cstdint>

namespace sluice::cpu {

enum class Packing : uint8_t {
  kQ4_0,
  kQ4_1,
  kQ8_0,
  kQ5_0,
  kQ5_1,
  kIq4Nl,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,
  kF32,
  kF16,
  kBF16
};
constexpr int32_t kQuantisedPackings = 11;  // those before kF32

constexpr int32_t kPanelRows = 16;
constexpr int32_t kBlock = 32;
// 128 rows of rounded activations and the outputs they meet stay in a 1 MiB L2: 512 rows in one
// piece cost 3 % more.
constexpr int32_t kChunkRows = 128;
// Up to this many rows each thread rounds all of them for itself: cheaper than sharing the result.
constexpr int32_t kPrivateRows = 4;

// What follows the planes of a block, by lane, and what the header holds. s and t stand for the
// integers of a file (FileBlock's scale and minimum) of the block or of its halves of 16.
enum class Scales : uint8_t {
  kD,      // block: d f16[16]. Value d * q
  kDM,     // block: d f16[16], m f16[16]. Value d * q + m
  kST,     // header: d, m f16[16]; block: s, t i8[16]. Value d s q + m t
  kPair,   // header: d f16[16]; block: (s0, s1) i8[16][2]. Value d s q
  kPairs,  // header: d, m f16[16]; block: (s0 | -t0 << 4, ...) u8[16][2]. Value d s q + m t
};

// q = code - offset, or IQ4_NL's table.
struct PackedLayout {
  int32_t low_bits = 0, high_bits = 0, offset = 0;
  Scales scales = Scales::kD;
  bool table = false;
  int32_t blocks = 1;  // behind one header
  int32_t header_bytes = 0;
  int32_t high_at = 0, scales_at = 0;  // in a block
  int32_t block_bytes = 0;
};

constexpr static inline PackedLayout MakeLayout(int32_t low_bits, int32_t high_bits, int32_t offset,
                                                Scales scales) {
  PackedLayout l;
  l.low_bits = low_bits;
  l.high_bits = high_bits;
  l.offset = offset;
  l.scales = scales;
  const bool header = scales >= Scales::kST;
  l.blocks = header ? 8 : 1;
  l.header_bytes = !header ? 0 : scales == Scales::kPair ? 32 : 64;
  l.high_at = 64 * low_bits;
  l.scales_at = 64 * (low_bits + high_bits);
  l.block_bytes = l.scales_at + (scales == Scales::kDM ? 64 : 32);
  return l;
}

// Of a quantised packing.
constexpr static inline PackedLayout LayoutOf(Packing packing) {
  switch (packing) {
    case Packing::kQ4_0:
      return MakeLayout(4, 0, 8, Scales::kD);
    case Packing::kQ4_1:
      return MakeLayout(4, 0, 0, Scales::kDM);
    case Packing::kQ5_0:
      return MakeLayout(4, 1, 16, Scales::kD);
    case Packing::kQ5_1:
      return MakeLayout(4, 1, 0, Scales::kDM);
    case Packing::kIq4Nl: {
      PackedLayout l = MakeLayout(4, 0, 128, Scales::kD);  // of the table's values plus 128
      l.table = true;
      return l;
    }
    case Packing::kQ2K:
      return MakeLayout(2, 0, 0, Scales::kPairs);
    case Packing::kQ3K:
      return MakeLayout(2, 1, 4, Scales::kPair);
    case Packing::kQ4K:
      return MakeLayout(4, 0, 0, Scales::kST);
    case Packing::kQ5K:
      return MakeLayout(4, 1, 0, Scales::kST);
    case Packing::kQ6K:
      return MakeLayout(4, 2, 32, Scales::kPair);
    default:
      return MakeLayout(8, 0, 128, Scales::kD);
  }
}

// Of `cols` weights of each of 16 rows; cols is whole super-blocks.
constexpr static inline int64_t PanelBytes(const PackedLayout& l, int64_t cols) {
  return cols / kBlock / l.blocks * (l.header_bytes + l.blocks * l.block_bytes);
}

// Activations rounded to int8.
struct QuantisedRows {
  int8_t* q = nullptr;          // [tile][block][row of the tile][32]; null: at the worker's scratch
  float* scale = nullptr;       // [tile][block][row of the tile]
  float* scaled_sum = nullptr;  // the same: scale * sum(q)
  int32_t* half_sums = nullptr;  // the same: the sums of q[0..16) and q[16..32), two int16
};

}  // namespace sluice::cpu
