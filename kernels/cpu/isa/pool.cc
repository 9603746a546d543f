// A sequence's tokens into one vector, and where a token stands into its embedding:
//   out[i] = x of row i's first or last token, or the mean over the row's tokens;
//   x[t] = x[t] + positions[position of t] + types[type of t].
//
// Order: a mean's elements are one chain of additions over the row's tokens, ascending, then one
// division; so a row's bits depend on nothing but the row. The other two have nothing to reduce.
// Work: items are output rows, or tokens. Bytes: 4 * T * D, or 16 * T * D.
// Bound by reading x from L2.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {

void PoolRows(const PoolArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t i = begin; i < end; ++i) {
    const int32_t row = args.batch->output_rows[i];
    int64_t first = args.batch->row_begin[row], last = args.batch->row_begin[row + 1] - 1;
    if (args.pooling == Pooling::kFirst) last = first;
    if (args.pooling == Pooling::kLast) first = last;
    const F32x16 count = Broadcast(static_cast<float>(last - first + 1));
    float* out = args.out + i * args.out_stride;
    for (int32_t c = 0; c < args.cols; c += kLanes) {
      const int n = args.cols - c < kLanes ? args.cols - c : kLanes;
      F32x16 sum = LoadFirst(args.x + first * args.x_stride + c, n);
      for (int64_t t = first + 1; t <= last; ++t)
        sum = sum + LoadFirst(args.x + t * args.x_stride + c, n);
      StoreFirst(out + c, sum / count, n);
    }
  }
}

void AddPositionRows(const AddPositionsArgs& args, int64_t begin, int64_t end,
                     const Worker& /*worker*/) {
  for (int64_t t = begin; t < end; ++t) {
    float* x = args.x + t * args.x_stride;
    const float* position = args.positions + int64_t{args.batch->positions[t]} * args.cols;
    const float* type = args.types + int64_t{args.token_types[t]} * args.cols;
    for (int32_t c = 0; c < args.cols; c += kLanes) {
      const int n = args.cols - c < kLanes ? args.cols - c : kLanes;
      const F32x16 sum = LoadFirst(x + c, n) + LoadFirst(position + c, n);
      StoreFirst(x + c, sum + LoadFirst(type + c, n), n);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
