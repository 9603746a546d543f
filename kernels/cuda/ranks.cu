// What ranks gathered from each other, put together; see AllReduce and AllGather in ops.h.
//
//   sum   x[r,i] = parts[0][r,i] + parts[1][r,i] + ..., one chain of f32 additions
//   join  out[r, s w + c] = parts[s][r,c]
//
// Work: a block 1024 columns of a row, a thread every 256th of them. Bytes: 4 D (N + 1) a row for
// the sum over N ranks, 8 V a row for the join. Bound by memory for many rows, by latency for few.
// Accumulation: f32, ranks ascending whatever the number of rows, where NCCL's order may depend on
// it. Source: arXiv:1909.08053 section 3.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"
#if !defined(__CUDACC__)
#include "kernels/simt/nccl.h"
#endif

namespace sluice::cuda {
namespace {

constexpr int32_t kChunk = 1024;  // columns of a row that a block does

struct Columns {
  int32_t begin, end;  // the thread's: every kRowThreads-th
};
SLUICE_DEVICE Columns ColumnsOfThread(int32_t cols) {
  const int32_t begin = static_cast<int32_t>(BlockIndex().y) * kChunk;
  return {begin + static_cast<int32_t>(ThreadIndex().x),
          cols - begin < kChunk ? cols : begin + kChunk};
}

SLUICE_KERNEL(kRowThreads) SumRanksKernel(const float* parts, int32_t num_ranks, Tensor x) {
  const int64_t row = BlockIndex().x;
  const int64_t rank_floats = int64_t{x.rows} * x.cols;
  const Columns columns = ColumnsOfThread(x.cols);
  for (int32_t i = columns.begin; i < columns.end; i += kRowThreads) {
    const float* part = parts + row * x.cols + i;
    float sum = *part;
    for (int32_t s = 1; s < num_ranks; ++s) sum += part[s * rank_floats];
    RowOf(x, row)[i] = sum;
  }
}

SLUICE_KERNEL(kRowThreads) JoinRanksKernel(const float* parts, int32_t width, Tensor out) {
  const int64_t row = BlockIndex().x;
  const Columns columns = ColumnsOfThread(out.cols);
  for (int32_t i = columns.begin; i < columns.end; i += kRowThreads) {
    const int32_t rank = i / width;
    RowOf(out, row)[i] = parts[(int64_t{rank} * out.rows + row) * width + (i - rank * width)];
  }
}

LaunchShape Chunks(const Tensor& x) {
  return {.grid_x = static_cast<uint32_t>(x.rows),
          .grid_y = static_cast<uint32_t>((x.cols + kChunk - 1) / kChunk),
          .threads = kRowThreads};
}

}  // namespace

cudaError_t SumRanks(const float* parts, int32_t num_ranks, Tensor x, cudaStream_t stream) {
  return Launch("sum_ranks", &SumRanksKernel, Chunks(x), stream, parts, num_ranks, x);
}
cudaError_t JoinRanks(const float* parts, int32_t width, Tensor out, cudaStream_t stream) {
  return Launch("join_ranks", &JoinRanksKernel, Chunks(out), stream, parts, width, out);
}

#if defined(__CUDACC__)
FindPointer FindCollectives() { return nullptr; }
#else
FindPointer FindCollectives() { return simt::FindNcclFunction; }
#endif

}  // namespace sluice::cuda
