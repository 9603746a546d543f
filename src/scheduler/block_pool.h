// Who holds which KV block. Every block is in one of three states: free; referenced by one or more
// block tables; cached, which is unreferenced with content that the prefix index knows. Engine
// thread only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "scheduler/prefix_index.h"
#include "sluice/types.h"
#include "step/batch_plan.h"

namespace sluice {

class BlockPool {
 public:
  BlockPool(int32_t num_blocks, int32_t block_tokens);

  // A block with one reference and no content: a free one, else the least recently used cached one,
  // which is evicted. kNoBlock: every block is referenced.
  [[nodiscard]] BlockId Allocate();
  void AddReference(BlockId block);
  // Without its last reference a block is cached where the index knows it, else free.
  void Release(BlockId block);

  // Tells the index that `block`, referenced and computed, holds `tokens` after `parent`. Returns
  // the chain's new end.
  PrefixNode Publish(BlockId block, const PrefixNode& parent, std::string_view salt,
                     std::span<const TokenId> tokens);
  // Takes back Publish; no effect on a block the index does not know.
  void Unpublish(BlockId block);

  [[nodiscard]] PrefixMatch Match(std::string_view salt, std::span<const TokenId> tokens) const {
    return index_.Match(salt, tokens);
  }
  [[nodiscard]] bool IsPublished(BlockId block) const { return index_.Contains(block); }
  [[nodiscard]] int32_t num_references(BlockId block) const {
    return blocks_[block].num_references;
  }
  [[nodiscard]] int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  [[nodiscard]] int32_t num_cached() const { return num_cached_; }
  [[nodiscard]] int32_t num_referenced() const { return num_referenced_; }
  [[nodiscard]] int32_t num_available() const {
    return num_free() + num_cached_;
  }  // Allocate()s that would succeed

  // Aborts unless lists, counts and index agree and the reference counts are `expected`
  // [num_blocks]. For tests.
  void CheckInvariants(std::span<const int32_t> expected) const;

 private:
  struct Block {
    int32_t num_references = 0;
    BlockId older = kNoBlock, newer = kNoBlock;  // neighbours among the cached blocks
  };
  void AppendCached(BlockId block);  // as the most recently used
  void RemoveCached(BlockId block);

  std::vector<Block> blocks_;
  std::vector<BlockId> free_;  // a stack
  BlockId oldest_ = kNoBlock, newest_ = kNoBlock;
  int32_t num_cached_ = 0, num_referenced_ = 0;
  PrefixIndex index_;
};

}  // namespace sluice
