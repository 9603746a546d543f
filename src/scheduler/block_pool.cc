#include "scheduler/block_pool.h"

#include "base/check.h"

namespace sluice {

BlockPool::BlockPool(int32_t num_blocks, int32_t block_tokens)
    : blocks_(num_blocks), index_(num_blocks, block_tokens) {
  free_.reserve(num_blocks);
  for (BlockId block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

BlockId BlockPool::Allocate() {
  if (free_.empty()) {
    if (oldest_ == kNoBlock) return kNoBlock;
    Unpublish(oldest_);
  }
  const BlockId block = free_.back();
  free_.pop_back();
  blocks_[block].num_references = 1;
  ++num_referenced_;
  return block;
}

void BlockPool::AddReference(BlockId block) {
  SLUICE_CHECK(num_references(block) > 0 || IsPublished(block), "block {} is free", block);
  if (blocks_[block].num_references++ == 0) {
    RemoveCached(block);
    ++num_referenced_;
  }
}

void BlockPool::Release(BlockId block) {
  SLUICE_CHECK(num_references(block) > 0, "block {}", block);
  if (--blocks_[block].num_references > 0) return;
  --num_referenced_;
  if (IsPublished(block)) {
    AppendCached(block);
  } else {
    free_.push_back(block);
  }
}

PrefixNode BlockPool::Publish(BlockId block, const PrefixNode& parent, std::string_view salt,
                              std::span<const TokenId> tokens) {
  SLUICE_CHECK(num_references(block) > 0, "block {}", block);
  const auto [node, displaced] = index_.Insert(block, parent, salt, tokens);
  if (displaced != kNoBlock && num_references(displaced) == 0) {
    RemoveCached(displaced);
    free_.push_back(displaced);
  }
  return node;
}

void BlockPool::Unpublish(BlockId block) {
  if (!IsPublished(block)) return;
  index_.Erase(block);
  if (num_references(block) > 0) return;
  RemoveCached(block);
  free_.push_back(block);
}

void BlockPool::AppendCached(BlockId block) {
  blocks_[block].older = newest_;
  blocks_[block].newer = kNoBlock;
  (newest_ == kNoBlock ? oldest_ : blocks_[newest_].newer) = block;
  newest_ = block;
  ++num_cached_;
}

void BlockPool::RemoveCached(BlockId block) {
  const Block& b = blocks_[block];
  (b.older == kNoBlock ? oldest_ : blocks_[b.older].newer) = b.newer;
  (b.newer == kNoBlock ? newest_ : blocks_[b.newer].older) = b.older;
  --num_cached_;
}

void BlockPool::CheckInvariants(std::span<const int32_t> expected) const {
  const int32_t num_blocks = static_cast<int32_t>(blocks_.size());
  SLUICE_CHECK(num_free() + num_cached_ + num_referenced_ == num_blocks,
               "{} free + {} cached + {} referenced of {}", num_free(), num_cached_,
               num_referenced_, num_blocks);
  int32_t num_referenced = 0, num_published = 0, num_cached = 0;
  for (BlockId block = 0; block < num_blocks; ++block) {
    SLUICE_CHECK(num_references(block) == expected[block], "block {}: {} references, {} tables",
                 block, num_references(block), expected[block]);
    num_referenced += num_references(block) > 0 ? 1 : 0;
    num_published += IsPublished(block) ? 1 : 0;
  }
  SLUICE_CHECK(num_referenced == num_referenced_, "{} != {}", num_referenced, num_referenced_);
  SLUICE_CHECK(num_published == index_.size(), "{} != {}", num_published, index_.size());
  for (BlockId block = oldest_; block != kNoBlock; block = blocks_[block].newer, ++num_cached) {
    SLUICE_CHECK(num_references(block) == 0 && IsPublished(block), "cached block {}", block);
  }
  SLUICE_CHECK(num_cached == num_cached_, "{} != {}", num_cached, num_cached_);
  for (const BlockId block : free_) {
    SLUICE_CHECK(num_references(block) == 0 && !IsPublished(block), "free block {}", block);
  }
}

}  // namespace sluice
