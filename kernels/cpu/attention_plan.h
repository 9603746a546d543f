// How a step's attention is cut into items: made once a step for each kind of layer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/view.h"

namespace sluice::cpu {

// What a plan depends on besides the step's batch.
struct AttentionShape {
  int32_t group = 0;  // query heads a KV head
  int32_t num_kv_heads = 0, head_dim = 0;
  int32_t window = 0;  // of AttentionParams
  bool causal = true;
  bool operator==(const AttentionShape&) const = default;
};

// The plan changes who computes what, never a bit of the result.
struct AttentionPlan {
  AttentionShape shape;
  bool valid = false;  // for this step's batch
  bool split = false;  // tiles are single partitions, for the plans' partial results
  std::vector<AttentionTile> tiles;
};

// Engine thread only. Keeps its memory between steps.
class AttentionPlans {
 public:
  // Forgets the plans: the step's batch changed.
  void Reset();

  // Tiles of `batch` for layers of `shape`; stays valid until Reset. Few items and long contexts
  // are split by partition as well, so that every thread has work.
  const AttentionPlan& Get(const BatchView& batch, const AttentionShape& shape,
                           int32_t num_threads);

  // Partial results of one op at a time; room for those of any split plan.
  [[nodiscard]] float* partials() { return partials_.data(); }

 private:
  bool Split(const AttentionShape& shape, int32_t num_threads, AttentionPlan& plan);

  std::vector<std::unique_ptr<AttentionPlan>> plans_;  // commands point into them
  std::vector<AttentionTile> split_tiles_;
  std::vector<float> partials_;
};

}  // namespace sluice::cpu
