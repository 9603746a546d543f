// The order in which waiting sequences are admitted: priority (lower first), preempted sequences
// (oldest first), then fairness among tenants: the one that was served the fewest tokens, then
// arrival. Engine thread only. Source: the virtual token counter of "Fairness in Serving Large
// Language Models", arXiv:2401.00588.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>

#include "scheduler/sequence.h"

namespace sluice {

struct Tenant {
  int32_t number = 0;         // unique; order of first appearance
  int32_t num_sequences = 0;  // waiting and running
  int64_t served_tokens =
      0;  // virtual: a tenant that was idle starts from the least served active one
};

class WaitingQueue {
 public:
  // Counts a new sequence of the tenant. A tenant that had none is lifted to the least served one
  // that has, so that idle time banks nothing.
  Tenant* AddToTenant(const std::string& name);
  void RemoveFromTenant(Tenant* tenant);

  // Sequences know by themselves where they belong; `admission` != 0 means preempted.
  void Push(Sequence* sequence);
  void Remove(const Sequence* sequence);

  // Whom to admit next; null: nobody waits.
  [[nodiscard]] Sequence* Front() const;
  [[nodiscard]] int32_t size() const { return static_cast<int32_t>(queue_.size()); }

 private:
  struct Place {
    int32_t priority = 0;
    int32_t tenant = 0;  // kPreempted: before every tenant
    uint64_t order = 0;  // admission of preempted sequences, else arrival
    friend auto operator<=>(const Place&, const Place&) = default;
  };
  static Place PlaceOf(const Sequence& sequence);
  [[nodiscard]] int64_t LeastServed()
      const;  // of tenants with sequences; without any: of the last that had one
  void ForgetIdleTenants();

  std::map<Place, Sequence*> queue_;
  std::map<std::string, Tenant> tenants_;
  int32_t last_tenant_number_ = 0;
  int64_t last_served_tokens_ = 0;
  size_t forget_at_size_ =
      64;  // of tenants_; doubles with what remains, so that forgetting costs O(1) a tenant
};

}  // namespace sluice
