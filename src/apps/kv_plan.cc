#include "apps/kv_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status_macros.h"

namespace sluice {
namespace {

int64_t Mib(int64_t bytes) { return bytes >> 20; }

// Memory for the KV cache beside the weights, the activations and the rotation tables, all of which
// must fit into what there is.
absl::StatusOr<int64_t> KvBytes(const Config& config, const MemoryPlan& plan) {
  const int64_t wanted = config.kv_cache_mib << 20;
  if (plan.left() <= 0 || wanted > plan.left()) {
    return absl::ResourceExhaustedError(fmt::format(
        "{}: the model needs {} MiB for weights, {} MiB for activations and {} MiB for the KV "
        "cache; {} MiB of memory are available",
        config.model_shape.empty() ? config.model : config.model_shape, Mib(plan.weights),
        Mib(plan.step), Mib(wanted), Mib(plan.available)));
  }
  return wanted > 0 ? wanted : plan.kv_most;
}

}  // namespace

absl::StatusOr<KvPlan> PlanKv(
    const Config& config, const ModelConfig& model, int64_t block_bytes,
    const std::function<absl::StatusOr<MemoryPlan>(int64_t max_len)>& memory) {
  if (config.max_model_len > model.max_context) {
    return absl::InvalidArgumentError(fmt::format("max-model-len is {}; the model allows {}",
                                                  config.max_model_len, model.max_context));
  }
  const int64_t wanted_len = config.max_model_len > 0 ? config.max_model_len : model.max_context;
  const int64_t blocks_a_row = (wanted_len + kKvBlockTokens - 1) / kKvBlockTokens;
  const int64_t useful = blocks_a_row * config.max_rows;
  ASSIGN_OR_RETURN(const MemoryPlan plan, memory(wanted_len));
  ASSIGN_OR_RETURN(const int64_t bytes, KvBytes(config, plan));
  const int64_t blocks = std::min({useful, bytes / block_bytes, int64_t{1} << 30});
  if (blocks < 1) {
    return absl::ResourceExhaustedError(
        fmt::format("a KV block of {} tokens needs {} bytes; there are {} bytes for the KV cache",
                    kKvBlockTokens, block_bytes, bytes));
  }
  const int64_t len = std::min(wanted_len, blocks * kKvBlockTokens);
  if (config.max_model_len > len) {
    return absl::ResourceExhaustedError(
        fmt::format("max-model-len is {}; {} MiB of KV cache hold {} tokens", config.max_model_len,
                    (blocks * block_bytes) >> 20, len));
  }
  return KvPlan{static_cast<int32_t>(blocks), static_cast<int32_t>(len)};
}

}  // namespace sluice
