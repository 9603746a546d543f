#include "model/kv_cache.h"

#include "base/status_macros.h"

namespace sluice {

int64_t KvCache::BlockBytes(const Ops& ops, const ModelConfig& config, int32_t block_tokens,
                            KvType type) {
  return config.num_layers * ops.KvBlockBytes({.block_tokens = block_tokens,
                                               .num_kv_heads = config.num_kv_heads,
                                               .head_dim = config.head_dim,
                                               .type = type});
}

absl::StatusOr<KvCache> KvCache::Create(Ops& ops, const ModelConfig& config, int32_t num_blocks,
                                        int32_t block_tokens, KvType type) {
  KvLayer layer{nullptr, num_blocks, block_tokens, config.num_kv_heads, config.head_dim, type};
  const int64_t layer_bytes = num_blocks * ops.KvBlockBytes(layer);
  ASSIGN_OR_RETURN(void* memory, ops.Allocate(config.num_layers * layer_bytes));
  KvCache cache;
  for (int32_t i = 0; i < config.num_layers; ++i) {
    layer.data = static_cast<char*>(memory) + i * layer_bytes;
    cache.layers_.push_back(layer);
  }
  return cache;
}

}  // namespace sluice
