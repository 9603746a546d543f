#include "scheduler/waiting_queue.h"

#include <algorithm>

#include "base/check.h"
#include "scheduler/tenants.h"

namespace sluice {

void WaitingQueue::Push(Sequence* sequence) {
  const bool inserted = queue_.emplace(PlaceOf(*sequence), sequence).second;
  SLUICE_CHECK(inserted, "sequence {} waits already", sequence->id);
}

void WaitingQueue::Remove(const Sequence* sequence) {
  const size_t removed = queue_.erase(PlaceOf(*sequence));
  SLUICE_CHECK(removed == 1, "sequence {} does not wait", sequence->id);
}

// Walks over the first sequence of each tenant and priority. Without ageing only the best priority
// counts.
Sequence* WaitingQueue::Front(absl::Time now) const {
  Sequence* best = nullptr;
  Turn best_turn;
  for (auto it = queue_.begin(); it != queue_.end();) {
    const Place& place = it->first;
    if (ageing_ == absl::ZeroDuration() && place.priority != queue_.begin()->first.priority) break;
    const Turn turn = TurnOf(*it->second, now);
    if (best == nullptr || turn < best_turn) {
      best = it->second;
      best_turn = turn;
    }
    it = queue_.lower_bound({place.priority, place.tenant + 1, false, 0});
  }
  return best;
}

// Ageing lifts up to the best priority that waits and never beyond: old requests of a tenant that
// floods must not pass the new ones of others.
Turn WaitingQueue::TurnOf(const Sequence& waiting, absl::Time now) const {
  Turn turn{waiting.priority, waiting.tenant->served, true,
            waiting.admission != 0 ? waiting.admission : waiting.arrival};
  if (ageing_ == absl::ZeroDuration() || now <= waiting.waiting_since) return turn;
  absl::Duration rest;
  const int64_t steps = absl::IDivDuration(now - waiting.waiting_since, ageing_, &rest);
  const int64_t best = queue_.begin()->first.priority;
  turn.priority -= std::min(steps, turn.priority - best);
  return turn;
}

WaitingQueue::Place WaitingQueue::PlaceOf(const Sequence& sequence) {
  const bool fresh = sequence.admission == 0;
  return {sequence.priority, sequence.tenant->number, fresh,
          fresh ? sequence.arrival : sequence.admission};
}

}  // namespace sluice
