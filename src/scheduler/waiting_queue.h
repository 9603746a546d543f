// Waiting sequences, and whose turn it is: effective priority, then the tenant that has had the
// least, then arrival. A sequence that was preempted goes before its tenant's others. Engine thread
// only.
#pragma once

#include <compare>
#include <cstdint>
#include <map>

#include "absl/time/time.h"
#include "scheduler/sequence.h"

namespace sluice {

// The order in which prompts are computed, half-done and waiting ones alike; less is sooner.
struct Turn {
  int64_t priority = 0;
  int64_t served = 0;    // its tenant's counter
  bool waiting = false;  // what is begun goes before what is not
  uint64_t order = 0;    // of admission, or of arrival
  friend auto operator<=>(const Turn&, const Turn&) = default;
};

class WaitingQueue {
 public:
  // `ageing`: time of waiting that is worth one step of priority; zero: none is.
  explicit WaitingQueue(absl::Duration ageing) : ageing_(ageing) {}

  // Sequences know by themselves where they belong; `admission` != 0 means preempted.
  void Push(Sequence* sequence);
  void Remove(const Sequence* sequence);

  // Whom to admit next; null: nobody waits.
  [[nodiscard]] Sequence* Front(absl::Time now) const;
  [[nodiscard]] Turn TurnOf(const Sequence& waiting, absl::Time now) const;
  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(queue_.size()); }

 private:
  struct Place {
    int32_t priority = 0;
    int32_t tenant = 0;
    bool fresh = false;  // never admitted
    uint64_t order = 0;  // admission of preempted sequences, else arrival
    friend auto operator<=>(const Place&, const Place&) = default;
  };
  static Place PlaceOf(const Sequence& sequence);

  const absl::Duration ageing_;
  std::map<Place, Sequence*> queue_;
};

}  // namespace sluice
