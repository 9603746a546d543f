// Sleeping until a time, not for one.
#pragma once

#include "absl/time/time.h"

namespace sluice {

// Returns at `time` of the system's clock (absl::Now()) or some microseconds after it, at once if
// it has passed.
void SleepUntil(absl::Time time);

}  // namespace sluice
