#include "kernels/simt/checked_order.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace sluice::simt {
namespace {

template <class Times>
void Raise(Times& to, const Times& from) {
  if (to.size() < from.size()) to.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) to[i] = std::max(to[i], from[i]);
}

template <class BlockTimes>
std::shared_ptr<const BlockTimes> Both(const std::shared_ptr<const BlockTimes>& a,
                                       const std::shared_ptr<const BlockTimes>& b) {
  if (a == nullptr || a == b) return b;
  if (b == nullptr) return a;
  auto both = std::make_shared<BlockTimes>(*a);
  for (const auto& [block, times] : *b) Raise((*both)[block], times);
  return both;
}

}  // namespace

void Order::Tick(Thread& thread) {
  SLUICE_CHECK(now_ != UINT32_MAX, "too many launches for one process");
  thread.now = ++now_;
}

void Order::BeginBlock(uint32_t num_threads) {
  block_begin_ = ++now_;
  block_begins_.push_back(block_begin_);
  const auto nothing = std::make_shared<const Clock>(Clock{.seen = Times(num_threads)});
  threads_.assign(num_threads, {.now = block_begin_, .clock = nothing});
}

void Order::Join(const std::vector<uint32_t>& threads) {
  auto joined = std::make_shared<Clock>(*threads_[threads.front()].clock);
  const Clock* last = threads_[threads.front()].clock.get();
  for (const uint32_t t : threads) {
    const std::shared_ptr<const Clock>& clock = threads_[t].clock;
    if (clock.get() == last) continue;  // as most are, after a barrier
    last = clock.get();
    Raise(joined->seen, last->seen);
    joined->other_blocks = Both(joined->other_blocks, last->other_blocks);
  }
  for (const uint32_t t : threads) joined->seen[t] = threads_[t].now;
  ++now_;
  for (const uint32_t t : threads) {
    threads_[t].clock = joined;
    threads_[t].now = now_;
  }
}

void Order::Fence(uint32_t thread) {
  Thread& t = threads_[thread];
  See(t, std::exchange(t.learnt, {}));
  auto fence = std::make_shared<Clock>(*t.clock);
  fence->seen[thread] = t.fenced = t.now;
  t.fence = std::move(fence);
  Tick(t);
}

void Order::Atomic(uint32_t thread, uintptr_t address) {
  Thread& t = threads_[thread];
  const auto known = published_.find(address);
  if (known != published_.end()) {
    for (const auto& [block, times] : known->second) Raise(t.learnt[block], times);
  }
  if (t.fence == nullptr) return;
  Publish(thread, known == published_.end() ? published_[address] : known->second);
  Tick(t);
}

void Order::See(Thread& thread, const BlockTimes& learnt) {
  if (learnt.empty()) return;
  const auto own = static_cast<uint32_t>(block_begins_.size() - 1);
  auto clock = std::make_shared<Clock>(*thread.clock);
  auto others = std::make_shared<BlockTimes>();
  for (const auto& [block, times] : learnt) {
    if (block == own) {
      Raise(clock->seen, times);
    } else {
      others->emplace(block, times);
    }
  }
  if (!others->empty()) {
    clock->other_blocks =
        Both<BlockTimes>(clock->other_blocks, std::shared_ptr<const BlockTimes>(others));
  }
  thread.clock = std::move(clock);
}

void Order::Publish(uint32_t thread, BlockTimes& published) const {
  const Thread& t = threads_[thread];
  Times& own = published[static_cast<uint32_t>(block_begins_.size() - 1)];
  Raise(own, t.fence->seen);
  for (size_t u = 0; u < own.size(); ++u) {
    own[u] = std::max(own[u], std::min(t.clock->seen[u], threads_[u].fenced));
  }
  if (t.fence->other_blocks == nullptr) return;
  for (const auto& [block, times] : *t.fence->other_blocks) Raise(published[block], times);
}

bool Order::Before(const Mark& mark, uint32_t thread) const {
  const Clock& clock = *threads_[thread].clock;
  if (OfThisBlock(mark)) return mark.thread == thread || clock.seen[mark.thread] >= mark.time;
  if (clock.other_blocks == nullptr) return false;
  const auto next = std::upper_bound(block_begins_.begin(), block_begins_.end(), mark.time);
  const auto block = static_cast<uint32_t>(next - block_begins_.begin() - 1);
  const auto seen = clock.other_blocks->find(block);
  return seen != clock.other_blocks->end() && seen->second[mark.thread] >= mark.time;
}

}  // namespace sluice::simt
