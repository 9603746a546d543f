// Weights as a file holds them, of random bytes.
#pragma once

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

}  // namespace sluice
