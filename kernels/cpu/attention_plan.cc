#include "kernels/cpu/attention_plan.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/kv_layout.h"

namespace sluice::cpu {
namespace {

// With at least this many items a thread, whole tiles balance well enough.
constexpr int64_t kItemsPerThread = 8;
// 4 MiB: more partial results than that would leave L2, and so many partitions keep any number of
// threads busy anyway.
constexpr int64_t kMaxPartialFloats = 1 << 20;

int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

}  // namespace

void AttentionPlans::Reset() {
  for (const auto& plan : plans_) plan->valid = false;
}

const AttentionPlan& AttentionPlans::Get(const BatchView& batch, const AttentionShape& shape,
                                         int32_t num_threads) {
  auto found = std::ranges::find_if(plans_, [&](const auto& plan) { return plan->shape == shape; });
  if (found == plans_.end()) {
    plans_.push_back(std::make_unique<AttentionPlan>(AttentionPlan{.shape = shape, .tiles = {}}));
    found = std::prev(plans_.end());
  }
  AttentionPlan& plan = **found;
  if (plan.valid) return plan;
  plan.valid = true;
  plan.tiles.clear();
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    const int32_t begin = batch.row_begin[r];
    const int32_t num_queries = (batch.row_begin[r + 1] - begin) * shape.group;
    for (int32_t first = 0; first < num_queries; first += kAttentionTile) {
      const int32_t count = std::min(kAttentionTile, num_queries - first);
      const int32_t lowest = batch.positions[begin + first / shape.group] + 1 - shape.window;
      const int32_t context = shape.causal
                                  ? batch.positions[begin + (first + count - 1) / shape.group] + 1
                                  : batch.context_len[r];
      const int32_t seen = shape.window > 0 ? std::max(lowest, 0) : 0;
      plan.tiles.push_back({.row = r,
                            .first_query = first,
                            .num_queries = count,
                            .first_partition = seen / kAttentionPartition,
                            .num_partitions = CeilDiv(context, kAttentionPartition)});
    }
  }
  plan.split = Split(shape, num_threads, plan);
  return plan;
}

bool AttentionPlans::Split(const AttentionShape& shape, int32_t num_threads, AttentionPlan& plan) {
  const auto num_tiles = static_cast<int64_t>(plan.tiles.size());
  if (num_threads == 1 || num_tiles * shape.num_kv_heads >= kItemsPerThread * num_threads)
    return false;
  const int64_t state_floats = 2 * 16 + KvPaddedDim(shape.head_dim);
  split_tiles_.clear();
  int64_t states = 0;
  for (AttentionTile tile : plan.tiles) {
    tile.first_partial = static_cast<int32_t>(states);
    for (tile.partition = tile.first_partition; tile.partition < tile.num_partitions;
         ++tile.partition)
      split_tiles_.push_back(tile);
    states +=
        int64_t{tile.num_partitions - tile.first_partition} * shape.num_kv_heads * tile.num_queries;
    if (states * state_floats > kMaxPartialFloats) return false;
  }
  if (split_tiles_.size() == plan.tiles.size()) return false;  // every context is one partition
  partials_.resize(kMaxPartialFloats);
  std::swap(plan.tiles, split_tiles_);
  return true;
}

}  // namespace sluice::cpu
