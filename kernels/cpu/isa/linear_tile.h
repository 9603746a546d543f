// Where a linear kernel's tile of results goes.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/form.h"
#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/kernels.h"

namespace sluice::cpu::SLUICE_ISA {

struct TileOutput {
  float* out;
  int64_t out_stride;
  const float* residual;  // null: none
  int64_t residual_stride;
  int32_t outputs;  // of the panel's 16 that exist
};

SLUICE_INLINE TileOutput MakeTileOutput(const MatMulArgs& args, int64_t row, int32_t panel) {
  const int32_t column = panel * kPanelRows;
  const int32_t left = args.num_outputs - column;
  TileOutput t;
  t.out = args.out + row * args.out_stride + column;
  t.out_stride = args.out_stride;
  t.residual =
      args.residual == nullptr ? nullptr : args.residual + row * args.residual_stride + column;
  t.residual_stride = args.residual_stride;
  t.outputs = left < kPanelRows ? left : kPanelRows;
  return t;
}

// Row m of the tile: acc, plus the residual.
SLUICE_INLINE void StoreOutput(const TileOutput& t, int64_t m, F32x16 acc) {
  float* out = t.out + m * t.out_stride;
  if (t.outputs == kPanelRows) {
    if (t.residual != nullptr) acc = acc + Load(t.residual + m * t.residual_stride);
    Store(out, acc);
  } else {
    if (t.residual != nullptr) acc = acc + LoadFirst(t.residual + m * t.residual_stride, t.outputs);
    StoreFirst(out, acc, t.outputs);
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
