// How rows are cut into chunks and chunks into tiles; see packing.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/form.h"
#include "kernels/cpu/packing.h"

namespace sluice::cpu::SLUICE_ISA {

// AVX-512: 12 integer and 12 float accumulators fill the 32 registers. AVX2: 6 rows are slower
// than 4.
#if defined(SLUICE_ISA_AVX512)
constexpr int32_t kTileRows = 12;
#else
constexpr int32_t kTileRows = 4;
#endif

// [0, total) in the fewest parts of at most `most`, of nearly equal size.
struct Split {
  int32_t total, parts;
};
SLUICE_INLINE Split MakeSplit(int32_t total, int32_t most) {
  return {total, (total + most - 1) / most};
}
SLUICE_INLINE int32_t PartBegin(Split s, int32_t i) {
  return static_cast<int32_t>(static_cast<int64_t>(s.total) * i / s.parts);
}
// The part that holds x.
SLUICE_INLINE int32_t PartOf(Split s, int32_t x) {
  return static_cast<int32_t>((static_cast<int64_t>(x + 1) * s.parts - 1) / s.total);
}

struct Tile {
  int32_t begin = 0, rows = 0;
};
// The tile that holds row r.
SLUICE_INLINE Tile TileOf(int32_t num_rows, int32_t r) {
  const Split chunks = MakeSplit(num_rows, kChunkRows);
  const int32_t chunk = PartOf(chunks, r);
  const int32_t first = PartBegin(chunks, chunk);
  const Split tiles = MakeSplit(PartBegin(chunks, chunk + 1) - first, kTileRows);
  const int32_t tile = PartOf(tiles, r - first);
  const int32_t begin = PartBegin(tiles, tile);
  return {first + begin, PartBegin(tiles, tile + 1) - begin};
}

// Where an op's rounded activations are: the shared buffer, or this thread's scratch.
SLUICE_INLINE QuantisedRows Locate(const QuantisedRows& rows, int32_t num_rows, int32_t cols,
                                   char* scratch) {
  if (rows.q != nullptr) return rows;
  const int64_t blocks = static_cast<int64_t>(num_rows) * (cols / kBlock);
  QuantisedRows out;
  out.q = reinterpret_cast<int8_t*>(scratch);
  out.scale = reinterpret_cast<float*>(scratch + blocks * kBlock);
  out.scaled_sum = out.scale + blocks;
  out.half_sums = reinterpret_cast<int32_t*>(out.scaled_sum + blocks);
  return out;
}

}  // namespace sluice::cpu::SLUICE_ISA
