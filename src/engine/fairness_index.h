// Jain's index of what tenants were served over a window, each by its weight: 1 when all were
// served alike, 1/n when one of n had everything. Only tenants that wanted service all the time
// count. Source: "A Quantitative Measure of Fairness and Discrimination", DEC-TR-301.
#pragma once

#include <map>
#include <string>

#include "absl/time/time.h"
#include "scheduler/tenants.h"

namespace sluice {

class FairnessIndex {
 public:
  // Once a step. True: a window has ended, and value() is new.
  bool Observe(absl::Time now, const std::map<std::string, Tenant>& tenants);
  [[nodiscard]] double value() const { return value_; }

 private:
  static constexpr absl::Duration kWindow = absl::Seconds(10);

  absl::Time begin_ = absl::InfinitePast();
  std::map<std::string, int64_t> cost_at_begin_;  // of those that wanted service ever since
  double value_ = 1;
};

}  // namespace sluice
