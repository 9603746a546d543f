// What kernels share that give a block to each row: sums over the block, and the row as Halves and
// Fp8Rows.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.h"

namespace sluice::cuda {

inline constexpr uint32_t kRowThreads = 256;

// Over all kRowThreads threads, the same bits in each: a butterfly in every warp, then the warps'
// values in ascending order. `warps` is the block's, [kRowThreads / 32], and free when it returns.
SLUICE_DEVICE float BlockSum(float value, float* warps) {
  const uint32_t thread = ThreadIndex().x;
  const float sum = GroupSum<32>(value);
  if (thread % 32 == 0) warps[thread / 32] = sum;
  SyncBlock();
  float total = 0;
  for (uint32_t w = 0; w < kRowThreads / 32; ++w) total += warps[w];
  SyncBlock();
  return total;
}
// The same, but `warps` is free after the next barrier only.
SLUICE_DEVICE float BlockMax(float value, float* warps) {
  const uint32_t thread = ThreadIndex().x;
  const float top = GroupMax<32>(value);
  if (thread % 32 == 0) warps[thread / 32] = top;
  SyncBlock();
  float total = warps[0];
  for (uint32_t w = 1; w < kRowThreads / 32; ++w) total = Larger(total, warps[w]);
  return total;
}

SLUICE_DEVICE float* RowOf(const Tensor& x, int64_t row) { return x.data + row * x.stride; }
SLUICE_DEVICE float Magnitude(float x) { return FloatOf(BitsOf(x) & 0x7fffffffU); }

// Where element k of a row lies in Halves.
SLUICE_DEVICE int32_t HalvesIndex(int32_t k) {
  return (k & ~31) | (k % 8 / 2 * 8) | (k % 32 / 8 * 2) | (k & 1);
}

// The power of two that a row of largest magnitude `top` is multiplied by.
SLUICE_DEVICE float HalvesFactor(float top) {
  if (!(top > 0x1p-100F) || !(top < 0x1p100F)) return 1;
  return FloatOf(((127U + 127U + 13U) << 23) - (BitsOf(top) & 0x7f800000U));
}

// Writes row `row` of `halves` from the k floats at `x`, whose largest magnitude is `top`. By all
// threads of the block; each reads what it wrote itself if `x` was written with the same stride.
SLUICE_DEVICE void WriteHalves(const Halves& halves, int32_t row, const float* x, int32_t k,
                               float top) {
  const float factor = HalvesFactor(top);
  uint16_t* out = halves.data + int64_t{row} * halves.columns;
  for (int32_t i = static_cast<int32_t>(ThreadIndex().x); i < halves.columns; i += kRowThreads) {
    out[HalvesIndex(i)] = FloatToHalf(i < k ? x[i] * factor : 0.0F);
  }
  if (ThreadIndex().x == 0) halves.scale[row] = Divide(1.0F, factor);
}

// The same as e4m3: scale = max|x| / 448, to nearest, ties to even: within 2^-4 |x|, or scale
// 2^-10.
SLUICE_DEVICE void WriteFp8(const Fp8Rows& rows, int32_t row, const float* x, int32_t k,
                            float top) {
  constexpr float kLargestE4m3 = 448;
  const bool none = !(top > 0x1p-100F);  // nothing that a scale could be made of
  const float factor = none ? 1 : Divide(kLargestE4m3, top);
  uint8_t* out = rows.data + int64_t{row} * rows.columns;
  for (int32_t i = static_cast<int32_t>(ThreadIndex().x); i < rows.columns; i += kRowThreads)
    out[HalvesIndex(i)] = static_cast<uint8_t>(FloatToE4m3(i < k ? x[i] * factor : 0.0F));
  if (ThreadIndex().x == 0) rows.scale[row] = none ? 1 : Divide(top, kLargestE4m3);
}

// Either, or none, for the product that follows. `top`: the largest magnitude that the calling
// thread wrote.
SLUICE_DEVICE void WriteForProduct(const Halves& halves, const Fp8Rows& fp8, int32_t row,
                                   const float* x, int32_t k, float top, float* warps) {
  if (fp8.data != nullptr) {
    WriteFp8(fp8, row, x, k, BlockMax(top, warps));
  } else if (halves.data != nullptr) {
    WriteHalves(halves, row, x, k, BlockMax(top, warps));
  }
}

}  // namespace sluice::cuda
