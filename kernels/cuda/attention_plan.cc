#include "kernels/cuda/attention_plan.h"

#include <algorithm>

namespace sluice::cuda {
namespace {

constexpr int32_t kBlocksAMultiprocessor = 4;

// The partitions that a row's tokens see.
struct Range {
  int32_t begin, end;
};
Range PartitionsOf(const BatchView& batch, int32_t row, int32_t window) {
  const int32_t context = batch.context_len[row];
  const int32_t cached = context - (batch.row_begin[row + 1] - batch.row_begin[row]);
  const int32_t first = window > 0 ? std::max(cached + 1 - window, 0) : 0;
  return {first / kAttentionPartition, (context + kAttentionPartition - 1) / kAttentionPartition};
}

}  // namespace

void PlanAttention(const BatchView& batch, const AttentionShape& shape, int32_t multiprocessors,
                   AttentionPlan& plan) {
  plan.items.clear();
  plan.long_rows = false;
  plan.num_partials = plan.num_counters = 0;
  const int32_t group = shape.num_q_heads / shape.num_kv_heads;
  const int32_t few = MaxItemTokens(false, group, shape.head_dim, shape.type);
  int64_t partitions = 0;
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    plan.long_rows |= batch.row_begin[r + 1] - batch.row_begin[r] > few;
    const Range range = PartitionsOf(batch, r, shape.window);
    partitions += range.end - range.begin;
  }
  const int32_t most = MaxItemTokens(plan.long_rows, group, shape.head_dim, shape.type);
  const int64_t blocks = int64_t{multiprocessors} * kBlocksAMultiprocessor;
  const auto each = static_cast<int32_t>(
      std::max<int64_t>((partitions * shape.num_kv_heads + blocks - 1) / blocks, 1));
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    const int32_t begin = batch.row_begin[r], end = batch.row_begin[r + 1];
    const Range range = PartitionsOf(batch, r, shape.window);
    const int32_t count = range.end - range.begin, partials = (end - begin) * count;
    const bool split = end - begin <= few && count > each &&
                       (plan.num_partials == 0 || plan.num_partials + partials <= kMaxPartials);
    if (!split) {
      for (int32_t t = begin; t < end; t += most) {
        plan.items.push_back({.row = r,
                              .first_token = t,
                              .num_tokens = std::min(most, end - t),
                              .first_partition = range.begin,
                              .num_partitions = count});
      }
      continue;
    }
    for (int32_t p = range.begin; p < range.end; p += each) {
      plan.items.push_back({.row = r,
                            .first_token = begin,
                            .num_tokens = end - begin,
                            .first_partition = p,
                            .num_partitions = std::min(each, range.end - p),
                            .row_first_partition = range.begin,
                            .row_partitions = count,
                            .partial = plan.num_partials,
                            .num_parts = (count + each - 1) / each,
                            .counter = plan.num_counters});
    }
    ++plan.num_counters;
    plan.num_partials += partials;
  }
}

}  // namespace sluice::cuda
