#include "scheduler/waiting_queue.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace sluice {
namespace {

constexpr int32_t kPreempted = 0;  // tenants' numbers start at 1

}  // namespace

Tenant* WaitingQueue::AddToTenant(const std::string& name) {
  if (tenants_.size() >= forget_at_size_) ForgetIdleTenants();
  const auto [it, inserted] = tenants_.try_emplace(name);
  Tenant& tenant = it->second;
  if (inserted) tenant.number = ++last_tenant_number_;
  if (tenant.num_sequences == 0)
    tenant.served_tokens = std::max(tenant.served_tokens, LeastServed());
  ++tenant.num_sequences;
  return &tenant;
}

void WaitingQueue::RemoveFromTenant(Tenant* tenant) {
  SLUICE_CHECK(tenant->num_sequences > 0, "tenant {}", tenant->number);
  if (--tenant->num_sequences == 0) last_served_tokens_ = tenant->served_tokens;
}

void WaitingQueue::Push(Sequence* sequence) {
  const bool inserted = queue_.emplace(PlaceOf(*sequence), sequence).second;
  SLUICE_CHECK(inserted, "sequence {} waits already", sequence->id);
}

void WaitingQueue::Remove(const Sequence* sequence) {
  const size_t removed = queue_.erase(PlaceOf(*sequence));
  SLUICE_CHECK(removed == 1, "sequence {} does not wait", sequence->id);
}

Sequence* WaitingQueue::Front() const {
  if (queue_.empty()) return nullptr;
  auto best = queue_.begin();
  if (best->first.tenant == kPreempted) return best->second;
  const int32_t priority = best->first.priority;
  auto it = best;  // walks over each tenant's first sequence of this priority
  while (it != queue_.end() && it->first.priority == priority) {
    const int64_t served = it->second->tenant->served_tokens,
                  least = best->second->tenant->served_tokens;
    if (served < least || (served == least && it->first.order < best->first.order)) best = it;
    it = queue_.lower_bound({priority, it->first.tenant + 1, 0});
  }
  return best->second;
}

WaitingQueue::Place WaitingQueue::PlaceOf(const Sequence& sequence) {
  if (sequence.admission != 0) return {sequence.priority, kPreempted, sequence.admission};
  return {sequence.priority, sequence.tenant->number, sequence.arrival};
}

int64_t WaitingQueue::LeastServed() const {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& [name, tenant] : tenants_) {
    if (tenant.num_sequences > 0) least = std::min(least, tenant.served_tokens);
  }
  return least == std::numeric_limits<int64_t>::max() ? last_served_tokens_ : least;
}

// Drops idle tenants that owe nothing: coming back as new ones they would be lifted to the same
// count.
void WaitingQueue::ForgetIdleTenants() {
  const int64_t least = LeastServed();
  std::erase_if(tenants_, [least](const auto& named) {
    return named.second.num_sequences == 0 && named.second.served_tokens <= least;
  });
  forget_at_size_ = 2 * tenants_.size() + 64;
}

}  // namespace sluice
