// How a step's attention is cut into items: made once a step, used by every layer.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/view.h"

namespace sluice::cpu {

// Engine thread only. The plan changes who computes what, never a bit of the result.
class AttentionPlan {
 public:
  // Forgets the plan: the step's batch changed.
  void Reset() { group_ = 0; }

  // Tiles of `batch` for `group` query heads a KV head; does nothing if that is what it holds. Few
  // items and long contexts are split by partition as well, so that every thread has work.
  void Build(const BatchView& batch, int32_t group, const KvLayer& kv, int32_t num_threads);

  [[nodiscard]] const std::vector<AttentionTile>& tiles() const { return tiles_; }
  // Partial results of a split plan; nullptr if tiles are whole.
  [[nodiscard]] float* partials() { return split_ ? partials_.data() : nullptr; }

 private:
  bool Split(const KvLayer& kv, int32_t num_threads);

  int32_t group_ = 0;
  bool split_ = false;
  std::vector<AttentionTile> tiles_, split_tiles_;
  std::vector<float> partials_;
};

}  // namespace sluice::cpu
