// Where threads wait for each other, and which goes on.
#include "kernels/simt/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace sluice::simt {

thread_local Runner* running = nullptr;

void Runner::ThreadMain() {
  FiberBegan(host_);
  main_(context_);
  EndThread();
}

// A runnable thread: with seed 0 the first of the running warp, or else of the first warp.
Thread* Runner::Next() {
  Warp* const warp = NextWarp();
  if (warp == nullptr) return nullptr;
  if (launch_.seed == 0) return &warp->lanes[std::countr_zero(warp->runnable)];
  const uint32_t turn = random_.Below(kWarpThreads);
  const auto lane =
      static_cast<uint32_t>(std::countr_zero(std::rotr(warp->runnable, static_cast<int>(turn))));
  return &warp->lanes[(lane + turn) % kWarpThreads];
}

Warp* Runner::NextWarp() {
  Warp* const own = current_ == nullptr ? nullptr : current_->warp;
  const bool stay =
      own != nullptr && own->runnable != 0 && (launch_.seed == 0 || random_.Below(8) != 0);
  if (stay) return own;
  const auto count = static_cast<uint32_t>(warps_.size());
  const uint32_t first = launch_.seed == 0 ? 0 : random_.Below(count);
  for (uint32_t i = 0; i < count; ++i) {
    Warp& warp = warps_[(first + i) % count];
    if (warp.runnable != 0) return &warp;
  }
  return nullptr;
}

void Runner::SwitchTo(Thread& next) {
  Thread& from = *std::exchange(current_, &next);
  if (!next.began) {
    next.began = true;
    PrepareFiber(next.fiber, stacks_.get() + next.index * kStackBytes,
                 [] { running->ThreadMain(); });
  }
  ++report_.switches;
  SwitchFiber(from.fiber, next.fiber, from.ended);
}

// The current thread, which is no longer runnable, lets others go on until it is again.
void Runner::Park(const char* in, Site site) {
  current_->waits_in = in;
  current_->waits_at = site;
  Thread* const next = Next();
  if (next == nullptr) StopInDeadlock();
  SwitchTo(*next);
}

void Runner::CheckAligned(const void* address, size_t bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(address) % bytes == 0) return;
  Stop(FindingKind::kMisaligned, site,
       fmt::format("an access of {} bytes at {}, which is no multiple of that", bytes, address));
}

void Runner::Copy(void* to, const void* from, bool filled, Site site) {
  constexpr size_t kBytes = sizeof(AsyncCopy::bytes);
  CheckAligned(to, kBytes, site);
  CheckAligned(from, kBytes, site);
  AsyncCopy copy{.to = static_cast<std::byte*>(to),
                 .from = static_cast<const std::byte*>(from),
                 .filled = filled,
                 .read = filled && launch_.seed != 0 && random_.Below(2) != 0,
                 .bytes = {},
                 .site = site};
  if (checker_ != nullptr) checker_->CopyBegins(to, from, filled, site);
  if (copy.read) std::memcpy(copy.bytes, from, kBytes);
  std::memset(to, 0xff, kBytes);
  current_->copies.push_back(copy);
}

void Runner::EndGroup() {
  Thread& t = *current_;
  const uint32_t grouped = std::accumulate(t.copy_groups.begin(), t.copy_groups.end(), 0U);
  t.copy_groups.push_back(static_cast<uint32_t>(t.copies.size()) - grouped);
}

void Runner::WaitForGroups(uint32_t left) {
  Thread& t = *current_;
  if (t.copy_groups.size() <= left) return;
  const auto end = t.copy_groups.end() - left;
  const auto landed = static_cast<std::ptrdiff_t>(std::accumulate(t.copy_groups.begin(), end, 0U));
  for (auto copy = t.copies.begin(); copy != t.copies.begin() + landed; ++copy) {
    if (copy->filled && !copy->read) std::memcpy(copy->bytes, copy->from, sizeof(copy->bytes));
    std::memcpy(copy->to, copy->bytes, sizeof(copy->bytes));
    if (checker_ != nullptr) checker_->CopyLands(copy->to, copy->from, copy->filled, copy->site);
  }
  t.copies.erase(t.copies.begin(), t.copies.begin() + landed);
  t.copy_groups.erase(t.copy_groups.begin(), end);
}

void Runner::EndThread() {
  Thread& t = *current_;
  if (!t.copies.empty()) {
    Stop(FindingKind::kCopy, t.copies.front().site,
         fmt::format("thread {} ended and {} of its asynchronous copies were never waited for",
                     t.index, t.copies.size()));
  }
  t.ended = true;
  --num_live_;
  Warp& warp = *t.warp;
  warp.live &= ~BitOf(t.place.lane);
  warp.runnable &= ~BitOf(t.place.lane);
  for (const Meeting& meeting : warp.meetings) {
    if (meeting.arrived != 0 && (meeting.mask & BitOf(t.place.lane)) != 0) {
      Stop(FindingKind::kWarp, meeting.site,
           fmt::format("lane {} ended while lanes {:#x} wait for it in an operation of mask {:#x}",
                       t.place.lane, meeting.arrived, meeting.mask));
    }
  }
  for (const NamedBarrier& barrier : barriers_) {
    if (barrier.arrived != 0 && barrier.count > num_live_) {
      Stop(FindingKind::kBarrier, barrier.site,
           fmt::format("thread {} ended without the barrier at which {} threads wait for {}",
                       t.index, barrier.arrived, barrier.count));
    }
  }
  if (num_live_ == 0) {
    SwitchFiber(t.fiber, host_, true);
    return;  // never
  }
  Thread* const next = Next();
  if (next == nullptr) StopInDeadlock();
  SwitchTo(*next);
}

void Runner::Wait(uint32_t id, uint32_t count, Site site) {
  Thread& t = *current_;
  if (count == 0) count = static_cast<uint32_t>(threads_.size());
  if (id >= kNumBarriers || (count % kWarpThreads != 0 && count != threads_.size())) {
    Stop(FindingKind::kBarrier, site,
         fmt::format("barrier {} of {} threads; there are {} barriers, for whole warps", id, count,
                     kNumBarriers));
  }
  NamedBarrier& barrier = barriers_[id];
  if (barrier.arrived == 0) {
    barrier.count = count;
    barrier.site = site;
  } else if (barrier.count != count || !(barrier.site == site)) {
    Stop(FindingKind::kBarrier, site,
         fmt::format("thread {} is at barrier {} for {} threads, others are at the one of {}:{} "
                     "for {}",
                     t.index, id, count, barrier.site.file, barrier.site.line, barrier.count));
  }
  if (count > num_live_) {
    Stop(FindingKind::kBarrier, site,
         fmt::format("a barrier of {} threads; {} of them have ended", count, count - num_live_));
  }
  ++barrier.arrived;
  if (barrier.arrived == barrier.count) return Release(barrier);
  barrier.waiting[t.place.warp] |= BitOf(t.place.lane);
  t.warp->runnable &= ~BitOf(t.place.lane);
  Park("a barrier", site);
}

void Runner::Release(NamedBarrier& barrier) {
  for (size_t w = 0; w < warps_.size(); ++w) warps_[w].runnable |= barrier.waiting[w];
  if (checker_ != nullptr) {
    joined_ = {current_->index};
    for (uint32_t w = 0; w < warps_.size(); ++w) JoinLanes(w, barrier.waiting[w]);
    checker_->Meet(joined_);
  }
  barrier = {};
  ++report_.barriers;
}

void Runner::Meet(uint32_t mask, void* argument, WarpOperation operation, Site site) {
  Thread& t = *current_;
  Warp& warp = *t.warp;
  const uint32_t bit = BitOf(t.place.lane);
  Meeting* meeting = nullptr;
  Meeting* unused = nullptr;
  for (Meeting& m : warp.meetings) {
    if (m.arrived == 0) {
      unused = &m;
    } else if (m.mask == mask) {
      meeting = &m;
    }
  }
  if ((mask & bit) == 0 || (mask & ~warp.live) != 0) {
    Stop(FindingKind::kWarp, site,
         fmt::format("lane {} takes part in an operation of mask {:#x}; lanes {:#x} are there",
                     t.place.lane, mask, warp.live));
  }
  if (meeting == nullptr) {
    if (unused == nullptr) {
      Stop(FindingKind::kWarp, site,
           fmt::format("the lanes of one warp wait in more than {} operations", kMaxMasks));
    }
    meeting = unused;
    meeting->mask = mask;
    meeting->operation = operation;
    meeting->site = site;
  } else if (meeting->operation != operation || !(meeting->site == site)) {
    Stop(FindingKind::kWarp, site,
         fmt::format("lane {} is here and lanes {:#x} of the same mask {:#x} are at {}:{}",
                     t.place.lane, meeting->arrived, mask, meeting->site.file, meeting->site.line));
  }
  meeting->arguments[t.place.lane] = argument;
  meeting->arrived |= bit;
  if (meeting->arrived != mask) {
    warp.runnable &= ~bit;
    return Park("an operation of its warp", site);
  }
  meeting->arrived = 0;
  ++report_.warp_operations;
  if (checker_ != nullptr) checker_->set_quiet(true);
  operation(meeting->arguments, mask);
  if (checker_ != nullptr) checker_->set_quiet(false);
  if (checker_ != nullptr && mask == ~0U) checker_->LanesMet(t.place.warp);
  warp.runnable |= mask;
}

void Runner::JoinLanes(uint32_t warp, uint32_t lanes) {
  for (; lanes != 0; lanes &= lanes - 1) {
    joined_.push_back(warp * kWarpThreads + static_cast<uint32_t>(std::countr_zero(lanes)));
  }
}

void Runner::MeetInOrder(uint32_t mask, Site site) {
  const auto join = [](void** runners, uint32_t lanes) {
    auto& runner = *static_cast<Runner*>(runners[std::countr_zero(lanes)]);
    if (runner.checker_ == nullptr) return;
    runner.joined_.clear();
    runner.JoinLanes(runner.current_->place.warp, lanes);
    runner.checker_->Meet(runner.joined_);
  };
  Meet(mask, this, join, site);
}

void Runner::Announce(const void* address, size_t bytes, AccessKind kind, Site site) {
  if (checker_ == nullptr) return CheckAligned(address, bytes, site);
  checker_->Access(address, bytes, kind, site);
}

void Runner::Fence() {
  if (checker_ != nullptr) checker_->order().Fence(current_->index);
}

void Runner::Preempt() {
  Thread* const next = Next();
  if (next != current_) SwitchTo(*next);
}

void Runner::OnHost(const std::function<void()>& errand) {
  errand_ = &errand;
  SwitchFiber(current_->fiber, host_, false);
}

void Runner::Stop(FindingKind kind, Site site, std::string message) {
  Note(kind, site, std::move(message));
  SwitchFiber(current_->fiber, host_, true);
  SLUICE_CHECK(false, "a thread of a stopped block goes on");
  std::abort();
}

void Runner::StopInDeadlock() {
  const auto waiting = std::ranges::find_if(threads_, [](const Thread& t) { return !t.ended; });
  SLUICE_CHECK(waiting != threads_.end(), "no thread is left");
  Stop(FindingKind::kDeadlock, waiting->waits_at,
       fmt::format("no thread can go on; {} are left, thread {} waits in {}", num_live_,
                   waiting->index, waiting->waits_in));
}

}  // namespace sluice::simt
