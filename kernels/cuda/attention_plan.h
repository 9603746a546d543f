// How a step's attention is cut into items; see kernels.h. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/kernels.h"
#include "kernels/view.h"

namespace sluice::cuda {

// What a plan depends on besides the step's batch.
struct AttentionShape {
  int32_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0;
  int32_t window = 0;
  KvType type = KvType::kF16;
  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};

struct AttentionPlan {
  std::vector<AttentionItem> items;
  bool long_rows = false;
  int32_t num_partials = 0, num_counters = 0;
};

// No plan has more partials than this, or for a longest row alone.
inline constexpr int32_t kMaxPartials = 2048;

// Rows of few query vectors are cut by partition while there are fewer blocks than the device's
// multiprocessors can hold. The plan changes who computes what, never a bit of the result.
void PlanAttention(const BatchView& batch, const AttentionShape& shape, int32_t multiprocessors,
                   AttentionPlan& plan);

}  // namespace sluice::cuda
