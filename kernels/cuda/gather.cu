// Rows from here to there; see ops.h for the formulas.
//
// Work: a block a row of the result, a thread every 256th column. Bytes: 8 D a row, 12 D of
// AddPositions, 4 D for each token pooled. Bound by memory.
// Accumulation: a mean is one f32 chain over the row's tokens ascending, then divided.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {
namespace {

SLUICE_DEVICE void CopyRow(const float* from, int32_t columns, float* to) {
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < columns; i += kRowThreads)
    to[i] = from[i];
}

SLUICE_KERNEL(kRowThreads) GatherOutputsKernel(Tensor x, DeviceBatch batch, Tensor out) {
  const uint32_t i = BlockIndex().x;
  const int32_t token = batch.row_begin[batch.output_rows[i] + 1] - 1;
  CopyRow(RowOf(x, token), x.cols, RowOf(out, i));
}

SLUICE_KERNEL(kRowThreads) GatherPlacesKernel(Tensor x, Routing routing, Tensor out) {
  const uint32_t place = BlockIndex().x;
  CopyRow(RowOf(x, routing.choice[place] / routing.num_used), x.cols, RowOf(out, place));
}

SLUICE_KERNEL(kRowThreads) AddPositionsKernel(AddPositionsArgs args) {
  const uint32_t token = BlockIndex().x;
  const int64_t columns = args.x.cols;
  const float* position = args.positions + args.batch.positions[token] * columns;
  const float* type = args.types + args.token_types[token] * columns;
  float* x = RowOf(args.x, token);
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < columns; i += kRowThreads)
    x[i] = (x[i] + position[i]) + type[i];
}

SLUICE_KERNEL(kRowThreads) PoolKernel(Tensor x, Pooling pooling, DeviceBatch batch, Tensor out) {
  const uint32_t i = BlockIndex().x;
  const int32_t row = batch.output_rows[i];
  int32_t first = batch.row_begin[row], last = batch.row_begin[row + 1] - 1;
  if (pooling == Pooling::kFirst) last = first;
  if (pooling == Pooling::kLast) first = last;
  const auto count = static_cast<float>(last - first + 1);
  float* to = RowOf(out, i);
  for (auto c = static_cast<int32_t>(ThreadIndex().x); c < x.cols; c += kRowThreads) {
    float sum = RowOf(x, first)[c];
    for (int32_t t = first + 1; t <= last; ++t) sum += RowOf(x, t)[c];
    to[c] = Divide(sum, count);
  }
}

LaunchShape Rows(int32_t rows) {
  return {.grid_x = static_cast<uint32_t>(rows), .threads = kRowThreads};
}

}  // namespace

cudaError_t GatherOutputs(Tensor x, const DeviceBatch& batch, Tensor out, cudaStream_t stream) {
  return Launch("gather_outputs", &GatherOutputsKernel, Rows(out.rows), stream, x, batch, out);
}
cudaError_t GatherPlaces(Tensor x, const Routing& routing, Tensor out, cudaStream_t stream) {
  return Launch("gather_places", &GatherPlacesKernel, Rows(out.rows), stream, x, routing, out);
}
cudaError_t AddPositions(const AddPositionsArgs& args, cudaStream_t stream) {
  return Launch("add_positions", &AddPositionsKernel, Rows(args.x.rows), stream, args);
}
cudaError_t Pool(Tensor x, Pooling pooling, const DeviceBatch& batch, Tensor out,
                 cudaStream_t stream) {
  return Launch("pool", &PoolKernel, Rows(out.rows), stream, x, pooling, batch, out);
}

}  // namespace sluice::cuda
