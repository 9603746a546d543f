#include "engine/fairness_index.h"

#include <cstdint>

namespace sluice {

bool FairnessIndex::Observe(absl::Time now, const std::map<std::string, Tenant>& tenants) {
  std::erase_if(cost_at_begin_, [&](const auto& begun) {
    const auto tenant = tenants.find(begun.first);
    return tenant == tenants.end() || tenant->second.num_open_prompts == 0;
  });
  if (now - begin_ < kWindow) return false;
  double sum = 0, squares = 0;
  for (const auto& [name, cost] : cost_at_begin_) {
    const Tenant& tenant = tenants.at(name);
    const double served = static_cast<double>(tenant.cost - cost) / tenant.weight;
    sum += served;
    squares += served * served;
  }
  value_ = squares > 0 ? sum * sum / (static_cast<double>(cost_at_begin_.size()) * squares) : 1;
  begin_ = now;
  cost_at_begin_.clear();
  for (const auto& [name, tenant] : tenants) {
    if (tenant.num_open_prompts > 0) cost_at_begin_.emplace(name, tenant.cost);
  }
  return true;
}

}  // namespace sluice
