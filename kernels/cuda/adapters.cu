// Low-rank additions: out[t] += scale (B (A x[t])) with the factors of t's row's adapter.
//
// Work: two launches. Shrink gives h = A x[t], a warp one element of h, a block 8 of a token's;
// Expand gives a thread one column of out. Tokens without an adapter are blocks that return at
// once. A is [rank][K]; B is [rank][N], so that neighbouring threads read neighbouring elements.
// Bytes: rank (K + N) factors and 4 K + 8 N of x and out for each token that has an adapter; tokens
// of one adapter find its factors in L2. Bound by memory.
// Accumulation: f32. h: each lane every 32nd column ascending, then a butterfly; out: the elements
// of h ascending, one fma each, and one with the scale. The order depends on K and the rank alone.
// Source: arXiv:2106.09685 eq. 3; gathered by row: arXiv:2310.18547.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {
namespace {

constexpr int32_t kWarps = kRowThreads / 32;

SLUICE_DEVICE float FactorOf(float factor) { return factor; }
SLUICE_DEVICE float FactorOf(uint16_t factor) { return HalfToFloat(factor); }

// The token's adapter; -1: none, or a token that a graph adds.
SLUICE_DEVICE int32_t AdapterOf(const DeviceBatch& batch, uint32_t token) {
  if (batch.counts != nullptr && static_cast<int32_t>(token) >= batch.counts[0]) return -1;
  return batch.adapters[batch.token_row[token]];
}

template <class Factor>
SLUICE_KERNEL(kRowThreads)
ShrinkKernel(AdapterArgs args) {
  const uint32_t token = BlockIndex().x, lane = ThreadIndex().x % 32;
  const int32_t index = AdapterOf(args.batch, token);
  if (index < 0) return;
  const DeviceAdapter adapter = args.adapters[index];
  const auto j = static_cast<int32_t>(BlockIndex().y * kWarps + ThreadIndex().x / 32);
  if (j >= adapter.rank) return;
  const auto* a = static_cast<const Factor*>(adapter.a) + int64_t{j} * args.x.cols;
  const float* x = RowOf(args.x, token);
  float sum = 0;
  for (auto k = static_cast<int32_t>(lane); k < args.x.cols; k += 32)
    sum = Fma(FactorOf(a[k]), x[k], sum);
  sum = GroupSum<32>(sum);
  if (lane == 0) args.shrunk[int64_t{token} * kMaxAdapterRank + j] = sum;
}

template <class Factor>
SLUICE_KERNEL(kRowThreads)
ExpandKernel(AdapterArgs args) {
  const uint32_t token = BlockIndex().x;
  const int32_t index = AdapterOf(args.batch, token);
  if (index < 0) return;
  const DeviceAdapter adapter = args.adapters[index];
  const auto n = static_cast<int32_t>(BlockIndex().y * kRowThreads + ThreadIndex().x);
  if (adapter.rank == 0 || n >= args.out.cols) return;
  const auto* b = static_cast<const Factor*>(adapter.b) + n;
  const float* shrunk = args.shrunk + int64_t{token} * kMaxAdapterRank;
  float sum = 0;
  for (int32_t j = 0; j < adapter.rank; ++j)
    sum = Fma(FactorOf(b[int64_t{j} * args.out.cols]), shrunk[j], sum);
  float* out = RowOf(args.out, token) + n;
  *out = Fma(adapter.scale, sum, *out);
}

template <class Factor>
cudaError_t AddFactors(const AdapterArgs& args, cudaStream_t stream) {
  LaunchShape shape{.grid_x = static_cast<uint32_t>(args.x.rows),
                    .grid_y = static_cast<uint32_t>((args.max_rank + kWarps - 1) / kWarps),
                    .threads = kRowThreads};
  const cudaError_t error = Launch("shrink", &ShrinkKernel<Factor>, shape, stream, args);
  if (error != cudaSuccess) return error;
  shape.grid_y = (static_cast<uint32_t>(args.out.cols) + kRowThreads - 1) / kRowThreads;
  return Launch("expand", &ExpandKernel<Factor>, shape, stream, args);
}

}  // namespace

cudaError_t AddAdapters(const AdapterArgs& args, cudaStream_t stream) {
  return args.halfs ? AddFactors<uint16_t>(args, stream) : AddFactors<float>(args, stream);
}

}  // namespace sluice::cuda
