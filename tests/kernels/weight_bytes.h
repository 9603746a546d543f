// Weights as a file holds them, of random bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/view.h"

namespace sluice {

// Every byte is random, but the floats of each block are uniform in [-0.05, 0.05]: every integer
// value occurs, and no sum is infinite.
std::vector<uint8_t> RandomWeightBytes(DType dtype, int64_t rows, int64_t cols, uint32_t seed);

// The f16 numbers of a block; m is 0 for types without a minimum. Not for float types.
struct BlockScales {
  float d = 0, m = 0;
};
BlockScales GetBlockScales(DType dtype, const uint8_t* block);
// Sets the f16 number(s) of the block at `block`; m is not used by types without a minimum.
void SetBlockScales(DType dtype, uint8_t* block, float d, float m);

// A weight over random bytes.
struct RandomWeights {
  RandomWeights(DType dtype, int64_t rows, int64_t cols, uint32_t seed);

  // The same weights with f16 numbers of every finite size, subnormals and zeros among them.
  void SpreadScales(uint32_t seed);
  // What the rounding error of W x is proportional to, [x.rows * rows]: a value and its minimum may
  // cancel in the weight, but are added one after the other.
  [[nodiscard]] std::vector<double> Magnitude(const Tensor& x) const;

  [[nodiscard]] size_t block_bytes() const {
    return static_cast<size_t>(GetDTypeInfo(view.dtype).block_bytes);
  }

  std::vector<uint8_t> bytes;
  WeightView view;
};

}  // namespace sluice
