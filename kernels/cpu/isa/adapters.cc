// Low-rank additions: out[t] += scale (B (A x[t])) with the factors of t's row's adapter.
//
// Order: A x is sums in 16 lanes (lane = k mod 16, k ascending), then the fixed tree of vec.h; an
// output is one chain of fma over the rank ascending, then one with the scale. f32; depends on K
// and the rank alone. Work: items are tokens. Bytes: 4 rank (K + N) + 4 K + 8 N for each token that
// has an adapter. Bound by reading the factors from L2 or memory.
// Source: arXiv:2106.09685 eq. 3.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

SLUICE_INLINE float Dot(const float* a, const float* x, int32_t cols) {
  F32x16 sum = Zero();
  int32_t k = 0;
  for (; k + kLanes <= cols; k += kLanes) sum = Fma(Load(a + k), Load(x + k), sum);
  if (k < cols) sum = Fma(LoadFirst(a + k, cols - k), LoadFirst(x + k, cols - k), sum);
  return HorizontalSum(sum);
}

}  // namespace

void AddAdapterRows(const AdapterArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t t = begin; t < end; ++t) {
    const int32_t index = args.batch->adapters[args.token_row[t]];
    if (index < 0 || args.adapters[index].rank == 0) continue;
    const AdapterFactors& adapter = args.adapters[index];
    const float* x = args.x + t * args.x_stride;
    float shrunk[kMaxAdapterRank];
    for (int32_t j = 0; j < adapter.rank; ++j)
      shrunk[j] = Dot(adapter.a + int64_t{j} * args.cols, x, args.cols);
    float* out = args.out + t * args.out_stride;
    const F32x16 scale = Broadcast(adapter.scale);
    for (int32_t n = 0; n < args.num_outputs; n += kLanes) {
      const int lanes = args.num_outputs - n < kLanes ? args.num_outputs - n : kLanes;
      F32x16 sum = Zero();
      for (int32_t j = 0; j < adapter.rank; ++j) {
        const float* b = adapter.b + int64_t{j} * args.num_outputs + n;
        sum = Fma(LoadFirst(b, lanes), Broadcast(shrunk[j]), sum);
      }
      StoreFirst(out + n, Fma(scale, sum, LoadFirst(out + n, lanes)), lanes);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
