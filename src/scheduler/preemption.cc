// The policy's other half: who gives up a row or KV blocks, and for whom. Why it ends is said in
// scheduler.cc.
#include <algorithm>
#include <utility>

#include "scheduler/scheduler.h"

namespace sluice {

// Before the plan is made, for a row of it can be taken from nobody: the victim of a running
// sequence that lacks a block leaves, and the waiting sequence whose turn it is gets a row, or
// blocks, of a tenant that holds far more.
void Scheduler::MakeRoom() {
  Sequence* const yielding = std::exchange(yield_, {}).victim;
  if (yielding != nullptr && pool_.num_available() == 0) Preempt(*yielding);
  const bool lacks_row = free_slots_.empty();
  const Sequence* const lacks_blocks = std::exchange(lacks_blocks_, nullptr);
  const Sequence* const next = waiting_.Front(now_);
  if (next == nullptr || (!lacks_row && (next != lacks_blocks || num_leaving_ > 0))) return;
  const int64_t priority = waiting_.TurnOf(*next, now_).priority;
  Sequence* const victim = lacks_row ? FairVictim(*next->tenant, priority, &Tenant::num_rows, 1)
                                     : FairVictim(*next->tenant, priority, &Tenant::num_blocks,
                                                  NumBlocks(next->num_tokens()));
  if (victim != nullptr) Preempt(*victim);
}

// For a running sequence that lacks a block: takes the youngest of the tenant that holds the most,
// its own perhaps, or else the lowest in rank. False: there is nothing to take now.
bool Scheduler::PreemptFor(Sequence& sequence) {
  if (num_leaving_ > 0) return false;  // their blocks are on the way
  const Tenant* richest = tenants_.Richest(&Tenant::num_blocks);
  Sequence* victim = richest == sequence.tenant
                         ? Youngest(*richest)
                         : FairVictim(*sequence.tenant, sequence.priority, &Tenant::num_blocks, 1);
  if (victim == nullptr || victim->priority < running_.back()->priority) victim = running_.back();
  if (victim == &sequence) return false;
  if (victim->last_planned == last_step_ + 1) {
    if (yield_.victim == nullptr) yield_ = {&sequence, victim};
    return false;
  }
  Preempt(*victim);
  return num_leaving_ == 0;
}

// The lowest in rank of the tenant's running sequences, of which there are some.
Sequence* Scheduler::Youngest(const Tenant& tenant) const {
  return *std::ranges::find_if(running_.rbegin(), running_.rend(),
                               [&](const Sequence* s) { return s->tenant == &tenant; });
}

// Whom fairness takes `wanted` rows or blocks from for a tenant: the youngest of the tenant that
// holds the most by weight, if that one has also been served more and keeps twice what `poor` will
// have. Null: nobody has so much more.
Sequence* Scheduler::FairVictim(const Tenant& poor, int64_t priority, int64_t Tenant::* holding,
                                int64_t wanted) const {
  const Tenant* rich = tenants_.Richest(holding);
  if (rich == nullptr || rich == &poor || rich->served <= poor.served) return nullptr;
  Sequence* const victim = Youngest(*rich);
  const int64_t taken =
      holding == &Tenant::num_rows ? 1 : static_cast<int64_t>(victim->blocks.size());
  const int64_t kept = (rich->*holding - taken) * poor.weight;
  const bool takes = kept >= 2 * (poor.*holding + wanted) * rich->weight;
  return takes && victim->priority >= priority ? victim : nullptr;
}

// Its tokens so far, output included, are all to be computed again, as far as the prefix cache does
// not keep them.
void Scheduler::Preempt(Sequence& sequence) {
  ++num_preemptions_;
  LeaveRunning(sequence);
  OpenPrompt(sequence);
  if (sequence.num_rows_in_flight > 0) {
    sequence.state = SequenceState::kLeaving;
    ++num_leaving_;
  } else {
    Requeue(sequence);
  }
}

}  // namespace sluice
