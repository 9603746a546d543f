#include "scheduler/prefix_index.h"

#include <xxhash.h>

#include <algorithm>

#include "base/check.h"

namespace sluice {
namespace {

// Appends `value` little-endian at `out`, which moves on.
template <typename T>
void Put(T value, unsigned char*& out) {
  for (size_t i = 0; i < sizeof(T); ++i) *out++ = static_cast<unsigned char>(value >> (8 * i));
}

PrefixKey Hash(const void* bytes, size_t size) {
  const XXH128_hash_t hash = XXH3_128bits(bytes, size);
  return {hash.low64, hash.high64};
}

}  // namespace

PrefixIndex::PrefixIndex(int32_t num_blocks, int32_t block_tokens)
    : block_tokens_(block_tokens),
      entries_(num_blocks),
      tokens_(static_cast<size_t>(num_blocks) * block_tokens),
      bytes_(2 * sizeof(uint64_t) + block_tokens * sizeof(TokenId)) {
  blocks_.reserve(num_blocks);
}

PrefixNode PrefixIndex::Root(std::string_view salt) { return {Hash(salt.data(), salt.size()), 0}; }

PrefixMatch PrefixIndex::Match(std::string_view salt, std::span<const TokenId> tokens) const {
  PrefixMatch match{{}, Root(salt)};
  for (; tokens.size() >= static_cast<size_t>(block_tokens_);
       tokens = tokens.subspan(block_tokens_)) {
    const auto block_content = tokens.first(block_tokens_);
    const PrefixKey key = KeyOf(match.node, block_content);
    const auto it = blocks_.find(key);
    if (it == blocks_.end() || !Holds(it->second, match.node, salt, block_content)) break;
    match.blocks.push_back(it->second);
    match.node = {key, entries_[it->second].serial};
  }
  return match;
}

PrefixIndex::InsertResult PrefixIndex::Insert(BlockId block, const PrefixNode& parent,
                                              std::string_view salt,
                                              std::span<const TokenId> tokens) {
  SLUICE_CHECK(!Contains(block), "block {}", block);
  SLUICE_CHECK(tokens.size() == static_cast<size_t>(block_tokens_), "{} tokens", tokens.size());
  InsertResult result{{KeyOf(parent, tokens), 0}, kNoBlock};
  const auto [it, inserted] = blocks_.try_emplace(result.node.key, block);
  if (!inserted) {
    if (Holds(it->second, parent, salt, tokens)) {
      result.node.entry = entries_[it->second].serial;
      return result;
    }
    result.displaced = it->second;
    entries_[it->second] = {};
    it->second = block;
  }
  result.node.entry = ++last_serial_;
  entries_[block] = {last_serial_, parent.entry, result.node.key,
                     parent.entry == 0 ? std::string(salt) : std::string()};
  std::copy(tokens.begin(), tokens.end(),
            tokens_.begin() + static_cast<ptrdiff_t>(block) * block_tokens_);
  return result;
}

void PrefixIndex::Erase(BlockId block) {
  SLUICE_CHECK(Contains(block), "block {}", block);
  blocks_.erase(entries_[block].key);
  entries_[block] = {};
}

PrefixKey PrefixIndex::KeyOf(const PrefixNode& parent, std::span<const TokenId> tokens) const {
  unsigned char* out = bytes_.data();
  Put(parent.key.low, out);
  Put(parent.key.high, out);
  for (const TokenId token : tokens) Put(static_cast<uint32_t>(token), out);
  return Hash(bytes_.data(), bytes_.size());
}

bool PrefixIndex::Holds(BlockId block, const PrefixNode& parent, std::string_view salt,
                        std::span<const TokenId> tokens) const {
  const Entry& entry = entries_[block];
  if (entry.parent != parent.entry || (parent.entry == 0 && entry.salt != salt)) return false;
  return std::equal(tokens.begin(), tokens.end(),
                    tokens_.begin() + static_cast<ptrdiff_t>(block) * block_tokens_);
}

}  // namespace sluice
