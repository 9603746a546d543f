// What the partitions of a token's positions give, and how it is merged; see attention.cu.
//
// A partial: weighted values [H], the maximum of the scores, the sum of weights. Partials of a row
// that is cut lie in memory; the last of the row's blocks, by an atomic counter, merges them
// ascending, so that it does not matter which one it is. It leaves the counter at zero, for the
// next launch.
// Source: CUDA C++ Programming Guide, "Memory Fence Functions" (the last block).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {

inline constexpr float kNone = -INFINITY;  // the maximum where nothing is seen

// What an earlier sum is multiplied by when the maximum grows from `from` to `to`.
SLUICE_DEVICE float Decay(float from, float to) { return from == kNone ? 0.0F : Exp(from - to); }

// One element of a merge; the same from registers and from memory.
SLUICE_DEVICE float Merge(float earlier, float decay, float later, float share) {
  return Fma(earlier, decay, later * share);
}

// Whether other blocks have the rest of the row.
SLUICE_DEVICE bool IsCut(const AttentionItem& item) { return item.num_parts > 0; }

// What partition `partition` gives for a head of the item's token number `token`: [H + 2].
SLUICE_DEVICE float* PartialOf(const AttentionArgs& args, const AttentionItem& item, int32_t token,
                               int32_t partition, int32_t head) {
  const int64_t partial =
      item.partial + token * item.row_partitions + partition - item.row_first_partition;
  return args.partials + (partial * args.num_q_heads + head) * (args.kv.head_dim + 2);
}

SLUICE_DEVICE void WriteElement(const AttentionArgs& args, int32_t token, int32_t head,
                                int32_t dimension, float values, float weight) {
  const int32_t column = head * args.kv.head_dim + dimension;
  const float y = weight > 0 ? Divide(values, weight) : 0.0F;
  RowOf(args.out, token)[column] = y;
  if (args.halves.data == nullptr) return;
  // Values were f16, and this is their mean: no power of two is needed.
  args.halves.data[int64_t{token} * args.halves.columns + HalvesIndex(column)] = FloatToHalf(y);
  if (column == 0) args.halves.scale[token] = 1;
}

// Whether all other blocks of the item's row and heads have ended; what they wrote is then seen.
// By all threads of the block.
SLUICE_DEVICE bool EndsLast(const AttentionArgs& args, const AttentionItem& item) {
  SLUICE_SHARED(uint32_t, is_last, [1]);
  SyncBlock();
  if (ThreadIndex().x == 0) {
    uint32_t* ended = args.ended + int64_t{item.counter} * args.num_q_heads + BlockIndex().y;
    const auto parts = static_cast<uint32_t>(item.num_parts);
    Fence();
    is_last[0] = AtomicAdd(ended, 1) == parts - 1 ? 1 : 0;
    if (is_last[0] != 0) AtomicAdd(ended, 0U - parts);
    Fence();
  }
  SyncBlock();
  return is_last[0] != 0;
}

// One element of out.
SLUICE_DEVICE void MergePartials(const AttentionArgs& args, const AttentionItem& item,
                                 int32_t token, int32_t head, int32_t dimension) {
  const int32_t head_dim = args.kv.head_dim;
  const int64_t stride = int64_t{args.num_q_heads} * (head_dim + 2);
  const float* part = PartialOf(args, item, token, item.row_first_partition, head);
  float top = kNone, weight = 0, values = 0;
  for (int32_t p = 0; p < item.row_partitions; ++p, part += stride) {
    const float next = Larger(top, part[head_dim]);
    const float decay = Decay(top, next), share = Decay(part[head_dim], next);
    top = next;
    weight = Merge(weight, decay, part[head_dim + 1], share);
    values = Merge(values, decay, part[dimension], share);
  }
  WriteElement(args, item.first_token + token, head, dimension, values, weight);
}

}  // namespace sluice::cuda
