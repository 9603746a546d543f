#include "tokenizer/merge_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <queue>

#include "base/check.h"

namespace sluice {
namespace {

// Up to here a scan for the lowest rank beats a heap; both give the same tokens.
constexpr size_t kMaxShort = 32;

}  // namespace

MergeTable::MergeTable(size_t num_merges) {
  const size_t num_slots = std::bit_ceil(std::max<size_t>(2 * num_merges, 2));
  slots_.assign(num_slots, Slot{});
  mask_ = num_slots - 1;
  shift_ = 64 - std::countr_zero(num_slots);
  results_.reserve(num_merges);
}

bool MergeTable::Add(TokenId left, TokenId right, TokenId result) {
  SLUICE_CHECK(2 * results_.size() < slots_.size(), "{} merges", results_.size());
  const uint64_t key = KeyOf(left, right);
  size_t slot = SlotOf(key);
  for (; slots_[slot].key != kEmpty; slot = (slot + 1) & mask_) {
    if (slots_[slot].key == key) return false;
  }
  slots_[slot] = {key, static_cast<uint32_t>(results_.size())};
  results_.push_back(result);
  return true;
}

size_t MergeTable::Merge(std::span<TokenId> tokens) const {
  if (tokens.size() < 2) return tokens.size();
  return tokens.size() <= kMaxShort ? MergeShort(tokens) : MergeLong(tokens);
}

size_t MergeTable::MergeShort(std::span<TokenId> tokens) const {
  std::array<uint32_t, kMaxShort> ranks;  // [i]: of tokens i and i + 1
  size_t n = tokens.size();
  for (size_t i = 0; i + 1 < n; ++i) ranks[i] = RankOf(tokens[i], tokens[i + 1]);
  while (n > 1) {
    const auto lowest = std::min_element(ranks.begin(), ranks.begin() + (n - 1));
    if (*lowest == kNoRank) break;
    const auto i = static_cast<size_t>(lowest - ranks.begin());
    tokens[i] = results_[*lowest];
    std::copy(tokens.begin() + i + 2, tokens.begin() + n, tokens.begin() + i + 1);
    std::copy(ranks.begin() + i + 1, ranks.begin() + (n - 1), ranks.begin() + i);
    --n;
    if (i + 1 < n) ranks[i] = RankOf(tokens[i], tokens[i + 1]);
    if (i > 0) ranks[i - 1] = RankOf(tokens[i - 1], tokens[i]);
  }
  return n;
}

// A heap of (rank, position) over a linked list of tokens. An entry is stale when the pair at its
// position has another rank by now: the pair at a position only ever grows, so it never comes back.
size_t MergeTable::MergeLong(std::span<TokenId> tokens) const {
  SLUICE_CHECK(tokens.size() < UINT32_MAX, "a word of {} bytes", tokens.size());
  const auto n = static_cast<uint32_t>(tokens.size());
  struct Link {
    uint32_t previous, next, rank;  // next == n: none; rank: of this token and the next
  };
  std::vector<Link> links(n);
  std::vector<uint64_t> entries;  // rank << 32 | position: ascending is the order of merging
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t rank = i + 1 < n ? RankOf(tokens[i], tokens[i + 1]) : kNoRank;
    links[i] = {i - 1, i + 1, rank};
    if (rank != kNoRank) entries.push_back(static_cast<uint64_t>(rank) << 32 | i);
  }
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap(std::greater<>{},
                                                                            std::move(entries));
  const auto rank_again = [&](uint32_t i) {
    const uint32_t next = links[i].next;
    links[i].rank = next < n ? RankOf(tokens[i], tokens[next]) : kNoRank;
    if (links[i].rank != kNoRank) heap.push(static_cast<uint64_t>(links[i].rank) << 32 | i);
  };
  while (!heap.empty()) {
    const auto rank = static_cast<uint32_t>(heap.top() >> 32);
    const auto i = static_cast<uint32_t>(heap.top());
    heap.pop();
    if (links[i].rank != rank) continue;
    tokens[i] = results_[rank];
    const uint32_t gone = links[i].next;
    links[gone].rank = kNoRank;
    links[i].next = links[gone].next;
    if (links[i].next < n) links[links[i].next].previous = i;
    rank_again(i);
    if (i > 0) rank_again(links[i].previous);
  }
  size_t left = 0;
  for (uint32_t i = 0; i < n; i = links[i].next) tokens[left++] = tokens[i];
  return left;
}

}  // namespace sluice
