// Time that stands still until it is moved.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace sluice {

// One thread only.
class VirtualClock final : public Clock {
 public:
  explicit VirtualClock(absl::Time start = absl::UnixEpoch()) : now_(start) {}
  [[nodiscard]] absl::Time Now() const override { return now_; }
  // Never back.
  void AdvanceTo(absl::Time time) { now_ = std::max(now_, time); }

 private:
  absl::Time now_;
};

}  // namespace sluice
