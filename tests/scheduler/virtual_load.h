// Requests of several tenants against a scheduler in virtual time: the device is a step-time model,
// and arrivals come between steps as they would live.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/scheduler.h"

namespace sluice {

struct TenantLoad {
  std::string tenant;
  double requests_per_s = 1;  // Poisson
  int32_t prompt_tokens = 64;
  int32_t output_tokens = 32;
  int32_t weight = 1;
  int32_t priority = 0;
  int32_t max_waiting = 100;  // more are refused, as the door does
  absl::Duration begins, ends = absl::InfiniteDuration();
};

struct VirtualDevice {
  absl::Duration step_time = absl::Milliseconds(5);
  absl::Duration token_time = absl::Microseconds(20);
  [[nodiscard]] absl::Duration StepTime(int32_t tokens) const {
    return step_time + tokens * token_time;
  }
};

struct TenantOutcome {
  std::vector<absl::Duration> ttft;  // in order of arrival to the first token
  int64_t num_tokens = 0;            // computed for it, prompt and output
  int64_t num_finished = 0, num_refused = 0;

  [[nodiscard]] absl::Duration Percentile(double p) const;
};

struct LoadOutcome {
  std::map<std::string, TenantOutcome> tenants;
  SchedulerStats stats;
};

// Runs for so long in virtual time. Checks every invariant now and then.
LoadOutcome RunLoad(const SchedulerConfig& config, const VirtualDevice& device,
                    const std::vector<TenantLoad>& loads, absl::Duration time, uint64_t seed);

}  // namespace sluice
