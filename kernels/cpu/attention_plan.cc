#include "kernels/cpu/attention_plan.h"

#include <algorithm>

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

void AttentionPlan::Build(const BatchView& batch, int32_t group, const KvLayer& kv,
                          int32_t num_threads) {
  if (group == group_) return;
  group_ = group;
  tiles_.clear();
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    const int32_t begin = batch.row_begin[r];
    const int32_t num_queries = (batch.row_begin[r + 1] - begin) * group;
    for (int32_t first = 0; first < num_queries; first += kAttentionTile) {
      const int32_t count = std::min(kAttentionTile, num_queries - first);
      const int32_t context = batch.positions[begin + (first + count - 1) / group] + 1;
      tiles_.push_back({.row = r,
                        .first_query = first,
                        .num_queries = count,
                        .num_partitions = CeilDiv(context, kAttentionPartition)});
    }
  }
  split_ = Split(kv, num_threads);
}

bool AttentionPlan::Split(const KvLayer& kv, int32_t num_threads) {
  const auto num_tiles = static_cast<int64_t>(tiles_.size());
  if (num_threads == 1 || num_tiles * kv.num_kv_heads >= kItemsPerThread * num_threads)
    return false;
  const int64_t state_floats = 2 * 16 + KvPaddedDim(kv.head_dim);
  split_tiles_.clear();
  int64_t states = 0;
  for (AttentionTile tile : tiles_) {
    tile.first_partial = static_cast<int32_t>(states);
    for (tile.partition = 0; tile.partition < tile.num_partitions; ++tile.partition)
      split_tiles_.push_back(tile);
    states += int64_t{tile.num_partitions} * kv.num_kv_heads * tile.num_queries;
    if (states * state_floats > kMaxPartialFloats) return false;
  }
  if (split_tiles_.size() == tiles_.size()) return false;  // every context is one partition
  partials_.resize(kMaxPartialFloats);
  std::swap(tiles_, split_tiles_);
  return true;
}

}  // namespace sluice::cpu
