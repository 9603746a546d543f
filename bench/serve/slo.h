// Service level objectives as a flag gives them.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "bench/serve/measurement.h"

namespace sluice::load {

// "ttft=200ms,itl=50ms,tpot=40ms,e2e=3s": each at most once, each above 0. Empty: no limits.
// Errors: InvalidArgument with the part that is wrong.
absl::StatusOr<Slo> ParseSlo(const std::string& text);

}  // namespace sluice::load
