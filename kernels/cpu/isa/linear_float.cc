// y = W x for F32, F16 and BF16 weights, [k][16 lanes] a panel, and f32 activations.
//
// Order rule: one f32 accumulator an output, k ascending, acc = fma(w, x, acc) with w widened
// exactly; the residual comes last.
//
// Work: up to 4 panels x one tile of rows over the whole of K, so that at least 4 chains of fma
// hide each other's latency. Bytes: rows * K * (2 or 4) once a chunk. Bound: memory up to about 4
// rows, above it fma (one zmm a cycle on Zen 4). Weights of 2 bytes stay so in memory.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/linear_tile.h"
#include "kernels/cpu/isa/tiles.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

template <Packing kPacking>
SLUICE_INLINE F32x16 LoadWeights(const uint8_t* p) {
  if constexpr (kPacking == Packing::kF32) return Load(reinterpret_cast<const float*>(p));
  if constexpr (kPacking == Packing::kF16) return LoadF16(reinterpret_cast<const uint16_t*>(p));
  if constexpr (kPacking == Packing::kBF16) return LoadBf16(reinterpret_cast<const uint16_t*>(p));
}

// kPanels neighbouring panels x kRows rows from `row`.
template <Packing kPacking, int kRows, int kPanels>
void Panels(const MatMulArgs& args, int64_t row, int32_t panel) {
  constexpr int64_t kBytes = kPanelRows * (kPacking == Packing::kF32 ? 4 : 2);
  const int64_t panel_bytes = args.cols * kBytes;
  const uint8_t* w = args.panels + panel * panel_bytes;
  const float* x = args.x + row * args.x_stride;
  F32x16 acc[kRows][kPanels];
  for (int m = 0; m < kRows; ++m) {
    for (int p = 0; p < kPanels; ++p) acc[m][p] = Zero();
  }
  for (int64_t k = 0; k < args.cols; ++k, w += kBytes) {
    F32x16 weights[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) weights[p] = LoadWeights<kPacking>(w + p * panel_bytes);
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      const F32x16 v = Broadcast(x[m * args.x_stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) acc[m][p] = Fma(weights[p], v, acc[m][p]);
    }
  }
  for (int p = 0; p < kPanels; ++p) {
    const TileOutput out = MakeTileOutput(args, row, panel + p);
    for (int m = 0; m < kRows; ++m) StoreOutput(out, m, acc[m][p]);
  }
}

template <Packing kPacking, int kPanels, int kRows = kTileRows>
SLUICE_INLINE void CallForRows(const MatMulArgs& args, int64_t row, int32_t count, int32_t panel) {
  if constexpr (kRows > 1) {
    if (count < kRows) {
      CallForRows<kPacking, kPanels, kRows - 1>(args, row, count, panel);
      return;
    }
  }
  Panels<kPacking, kRows, kPanels>(args, row, panel);
}

template <Packing kPacking>
void MatMulOf(const MatMulArgs& args, int64_t begin, int64_t end) {
  constexpr int32_t kWide = 4;
  constexpr int32_t kFewRows =
      kTileRows / 4;  // with more, one panel has chains enough, and registers run out
  const int32_t panels = (args.num_outputs + kPanelRows - 1) / kPanelRows;
  const Split chunks = MakeSplit(args.rows, kChunkRows);
  for (int64_t item = begin; item < end;) {
    const auto chunk = static_cast<int32_t>(item / panels);
    const auto panel = static_cast<int32_t>(item % panels);
    const int32_t first = PartBegin(chunks, chunk);
    const int32_t rows = PartBegin(chunks, chunk + 1) - first;
    if (rows <= kFewRows && end - item >= kWide && panels - panel >= kWide) {
      CallForRows<kPacking, kWide, kFewRows>(args, first, rows, panel);
      item += kWide;
      continue;
    }
    const Split tiles = MakeSplit(rows, kTileRows);
    for (int32_t t = 0; t < tiles.parts; ++t) {
      const int32_t row = first + PartBegin(tiles, t);
      CallForRows<kPacking, 1>(args, row, first + PartBegin(tiles, t + 1) - row, panel);
    }
    ++item;
  }
}

}  // namespace

void MatMulFloat(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  switch (args.packing) {
    case Packing::kF32:
      return MatMulOf<Packing::kF32>(args, begin, end);
    case Packing::kF16:
      return MatMulOf<Packing::kF16>(args, begin, end);
    default:
      return MatMulOf<Packing::kBF16>(args, begin, end);
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
