#include "scheduler/tenants.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace sluice {

Tenant* Tenants::Enter(const std::string& name, int32_t weight) {
  SLUICE_CHECK(weight >= 1 && weight <= kMaxTenantWeight, "weight {}", weight);
  if (tenants_.size() >= forget_at_size_) ForgetIdle();
  const auto [it, inserted] = tenants_.try_emplace(name);
  Tenant& tenant = it->second;
  if (inserted) tenant.number = ++last_number_;
  tenant.weight = weight;
  ++tenant.num_sequences;
  return &tenant;
}

void Tenants::Open(Tenant* tenant) {
  if (tenant->num_open_prompts++ > 0) return;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& [name, other] : tenants_) {
    if (&other != tenant && other.num_open_prompts > 0) least = std::min(least, other.served);
  }
  if (least == std::numeric_limits<int64_t>::max()) least = last_served_;
  tenant->served = std::max(tenant->served, least - tenant->Virtual(credit_));
}

void Tenants::Close(Tenant* tenant) {
  SLUICE_CHECK(tenant->num_open_prompts > 0, "tenant {}", tenant->number);
  if (--tenant->num_open_prompts == 0) last_served_ = std::max(last_served_, tenant->served);
}

const Tenant* Tenants::Richest(int64_t Tenant::* holding) const {
  const Tenant* richest = nullptr;
  for (const auto& [name, tenant] : tenants_) {
    if (tenant.num_rows < 2) continue;
    if (richest == nullptr ||
        tenant.*holding * richest->weight > richest->*holding * tenant.weight) {
      richest = &tenant;
    }
  }
  return richest;
}

// Drops idle tenants that owe nothing: coming back as new ones they would be lifted to the same
// count.
void Tenants::ForgetIdle() {
  int64_t least = last_served_;
  for (const auto& [name, tenant] : tenants_) {
    if (tenant.num_open_prompts > 0) least = std::min(least, tenant.served);
  }
  std::erase_if(tenants_, [&](const auto& named) {
    const Tenant& tenant = named.second;
    return tenant.num_sequences == 0 && tenant.served <= least - tenant.Virtual(credit_);
  });
  forget_at_size_ = 2 * tenants_.size() + 64;
}

}  // namespace sluice
