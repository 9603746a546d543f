// The KV pool: num_blocks blocks of block_tokens positions for every layer, one layer after the
// other. Which block belongs to whom is the scheduler's business.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/model_config.h"

namespace sluice {

class KvCache {
 public:
  // The memory belongs to `ops`. Errors: ResourceExhausted with the bytes asked for.
  static absl::StatusOr<KvCache> Create(Ops& ops, const ModelConfig& config, int32_t num_blocks,
                                        int32_t block_tokens, KvType type);

  [[nodiscard]] const KvLayer& layer(int32_t index) const { return layers_[index]; }
  // Bytes of one block over all layers.
  [[nodiscard]] static int64_t BlockBytes(const Ops& ops, const ModelConfig& config,
                                          int32_t block_tokens, KvType type);

 private:
  std::vector<KvLayer> layers_;
};

}  // namespace sluice
