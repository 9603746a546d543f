// Which KV blocks hold which prefixes: whole blocks only, chained, salted, verified on the tokens.
// Engine thread only.
//
// A block's key is XXH3-128 over its parent's key and its token ids, little-endian; the key of a
// root is the hash of the salt. XXH3 is no cryptographic hash, so a key only finds an entry: it is
// believed when its tokens and its parent entry (at the root: the salt itself) are the very same.
// By induction a match has the whole prefix equal, token for token.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "sluice/types.h"
#include "step/batch_plan.h"

namespace sluice {

inline constexpr BlockId kNoBlock = -1;

struct PrefixKey {
  uint64_t low = 0, high = 0;
  friend bool operator==(const PrefixKey&, const PrefixKey&) = default;
};

// A place in the chain: a published block, or a salt's root.
struct PrefixNode {
  PrefixKey key;
  uint64_t entry = 0;  // serial number of the entry, never reused; 0: a root
};

struct PrefixMatch {
  std::vector<BlockId> blocks;  // from the first on
  PrefixNode node;              // of the last of them, or the root
};

class PrefixIndex {
 public:
  PrefixIndex(int32_t num_blocks, int32_t block_tokens);

  [[nodiscard]] static PrefixNode Root(std::string_view salt);

  // The longest known run of whole blocks at the start of `tokens`.
  [[nodiscard]] PrefixMatch Match(std::string_view salt, std::span<const TokenId> tokens) const;

  struct InsertResult {
    PrefixNode node;  // what the chain goes on from, whoever's block it is
    BlockId displaced =
        kNoBlock;  // lost its entry: its parent's entry is gone, or the keys collided
  };
  // Says that `block`, not yet in the index, holds `tokens` after `parent`. Where an equal entry
  // exists it stays, and `block` remains unknown.
  InsertResult Insert(BlockId block, const PrefixNode& parent, std::string_view salt,
                      std::span<const TokenId> tokens);

  void Erase(BlockId block);
  [[nodiscard]] bool Contains(BlockId block) const { return entries_[block].serial != 0; }
  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(blocks_.size()); }

 private:
  struct Entry {
    uint64_t serial = 0;  // 0: the block is not in the index
    uint64_t parent = 0;  // the parent's serial
    PrefixKey key;
    std::string salt;  // of entries below a root
  };
  struct KeyHash {
    size_t operator()(const PrefixKey& key) const { return key.low; }
  };

  [[nodiscard]] PrefixKey KeyOf(const PrefixNode& parent, std::span<const TokenId> tokens) const;
  [[nodiscard]] bool Holds(BlockId block, const PrefixNode& parent, std::string_view salt,
                           std::span<const TokenId> tokens) const;

  const int32_t block_tokens_;
  uint64_t last_serial_ = 0;
  std::vector<Entry> entries_;                               // [num_blocks]
  std::vector<TokenId> tokens_;                              // [num_blocks, block_tokens]
  mutable std::vector<unsigned char> bytes_;                 // KeyOf's input
  absl::flat_hash_map<PrefixKey, BlockId, KeyHash> blocks_;  // only looked up, never iterated
};

}  // namespace sluice
