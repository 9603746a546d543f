// How large a model's KV cache is: the settings, the model's sizes and the memory together.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "apps/backend.h"
#include "model/model_config.h"
#include "sluice/config.h"

namespace sluice {

inline constexpr int32_t kKvBlockTokens = 16;

// How many KV blocks, and how long a sequence may be.
struct KvPlan {
  int32_t num_blocks = 0;
  int32_t max_model_len = 0;
};

// For a decoder of these sizes whose KV blocks take block_bytes. `memory`: the plan for sequences
// of so many positions. Errors: InvalidArgument for a max-model-len beyond the model's;
// ResourceExhausted, with the numbers, where memory is too small.
absl::StatusOr<KvPlan> PlanKv(
    const Config& config, const ModelConfig& model, int64_t block_bytes,
    const std::function<absl::StatusOr<MemoryPlan>(int64_t max_len)>& memory);

}  // namespace sluice
