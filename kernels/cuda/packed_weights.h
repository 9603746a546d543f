// Packs a matrix of a model file into the device's layout (weight_tile.h), on the host.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "kernels/view.h"

namespace sluice::cuda {

struct PackedWeights {
  WeightFormat format = WeightFormat::kHalf;
  int32_t rows = 0, columns = 0;  // N, and K padded to 64
  std::vector<uint8_t> tiles;     // N padded to 16 rows, whole panels
  std::vector<float> row_scale;   // [N padded to 16]
};

// The format that a type of a file becomes. F32 and BF16 become f16 with a row's power of two,
// which keeps all of BF16's digits and 11 of F32's. FP8 stays as it is.
[[nodiscard]] WeightFormat FormatOf(DType dtype);
// Bytes of `tiles` and `row_scale`.
[[nodiscard]] int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols);
// Whether the scales of an FP8 matrix are of whole rows, or of 8 rows or more from a multiple of 8
// on, as kFp8 has them; true for other types. Reads view.data.
[[nodiscard]] bool ScalesFit(const WeightView& view);
// Reads view.data; view.source must be null and ScalesFit(view). The result does not depend on the
// threads.
[[nodiscard]] PackedWeights PackWeights(const WeightView& view, int32_t num_threads = 1);

}  // namespace sluice::cuda
