// RMS and layer norms; see ops.h for the formulas.
//
// Work: a block a row (or a group of a row); a thread takes every 256th column. Bytes: 8 D a row
// (4 D more with a residual), 2 D more for its Halves or D for its e4m3; x is read twice and out
// once more, from the caches. Bound by memory for many rows, by the latency of three barriers for
// few. Accumulation: f32, a thread's columns ascending, then the order of BlockSum; it depends on D
// only. Sources: arXiv:1910.07467 eq. 4, arXiv:1607.06450 eq. 4.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {
namespace {

SLUICE_KERNEL(kRowThreads) RmsNormKernel(RmsNormArgs args) {
  SLUICE_SHARED(float, warps, [kRowThreads / 32]);
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  const auto row = static_cast<int32_t>(BlockIndex().x);
  const int32_t begin = static_cast<int32_t>(BlockIndex().y) * args.group;
  const float* x = RowOf(args.x, row) + begin;
  float squares = 0;
  for (int32_t i = thread; i < args.group; i += kRowThreads) squares = Fma(x[i], x[i], squares);
  const float mean = Divide(BlockSum(squares, warps), static_cast<float>(args.group));
  const float factor = Divide(1.0F, SquareRoot(mean + args.eps));
  const float* residual =
      args.residual.data == nullptr ? nullptr : RowOf(args.residual, row) + begin;
  float* out = RowOf(args.out, row) + begin;
  float top = 0;
  for (int32_t i = thread; i < args.group; i += kRowThreads) {
    float y = x[i] * factor * args.weight[begin + i];
    if (residual != nullptr) y += residual[i];
    out[i] = y;
    top = Larger(top, Magnitude(y));
  }
  WriteForProduct(args.halves, args.fp8, row, out, args.group, top, warps);
}

SLUICE_KERNEL(kRowThreads) LayerNormKernel(LayerNormArgs args) {
  SLUICE_SHARED(float, warps, [kRowThreads / 32]);
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  const auto row = static_cast<int32_t>(BlockIndex().x);
  const int32_t columns = args.x.cols;
  const float* x = RowOf(args.x, row);
  const float* residual = args.residual.data == nullptr ? nullptr : RowOf(args.residual, row);
  float* out = RowOf(args.out, row);
  float sum = 0;
  for (int32_t i = thread; i < columns; i += kRowThreads) {
    const float y = residual == nullptr ? x[i] : x[i] + residual[i];
    out[i] = y;
    sum += y;
  }
  const float mean = Divide(BlockSum(sum, warps), static_cast<float>(columns));
  float squares = 0;
  for (int32_t i = thread; i < columns; i += kRowThreads) {
    const float d = out[i] - mean;
    squares = Fma(d, d, squares);
  }
  const float variance = Divide(BlockSum(squares, warps), static_cast<float>(columns));
  const float factor = Divide(1.0F, SquareRoot(variance + args.eps));
  float top = 0;
  for (int32_t i = thread; i < columns; i += kRowThreads) {
    const float y = Fma((out[i] - mean) * factor, args.weight[i], args.bias[i]);
    out[i] = y;
    top = Larger(top, Magnitude(y));
  }
  if (args.halves.data == nullptr) return;
  WriteHalves(args.halves, row, out, columns, BlockMax(top, warps));
}

}  // namespace

cudaError_t RmsNorm(const RmsNormArgs& args, cudaStream_t stream) {
  return Launch("rms_norm", &RmsNormKernel,
                {.grid_x = static_cast<uint32_t>(args.x.rows),
                 .grid_y = static_cast<uint32_t>(args.x.cols / args.group),
                 .threads = kRowThreads},
                stream, args);
}

cudaError_t LayerNorm(const LayerNormArgs& args, cudaStream_t stream) {
  return Launch("layer_norm", &LayerNormKernel,
                {.grid_x = static_cast<uint32_t>(args.x.rows), .threads = kRowThreads}, stream,
                args);
}

}  // namespace sluice::cuda
