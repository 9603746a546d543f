// Runs a trace through the real scheduler on a simulated device in virtual time: minutes of traffic
// in under a second, the same bytes every time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "apps/trace.h"
#include "executor/step_time.h"
#include "scheduler/scheduler.h"

namespace sluice {

struct ReplayOptions {
  SchedulerConfig scheduler;
  absl::Duration max_wait;  // as the engine's: what would wait longer is refused; zero: nothing
  StepTimeModel time;
  double slo_ttft_s = 1, slo_itl_s = 0.05;  // of goodput
  double cost_per_hour = 0;                 // of the device; 0: unknown
};

// Of many values, in seconds.
struct Distribution {
  int64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;  // percentiles by nearest rank
};
[[nodiscard]] Distribution DistributionOf(std::vector<float> values);

struct ReplayResult {
  int64_t requests = 0, completed = 0;
  int64_t refused = 0;   // with 429: too much waits, or the wait would be too long
  int64_t too_long = 0;  // with 400: more than the context
  double seconds = 0;    // from the first arrival to the last token
  int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;  // of what was admitted
  Distribution ttft, itl, e2e;
  // Completed requests whose first token came within slo_ttft_s and of whose gaps between tokens at
  // most one in a hundred was longer than slo_itl_s.
  int64_t good = 0;
  double kv_mean = 0, kv_peak = 0;  // part of the blocks that sequences held, by time and at most
  int64_t preemptions = 0, steps = 0;
  double rows_a_step = 0, tokens_a_step = 0;
  double busy_seconds = 0,
         idle_seconds = 0;  // the device: computing; waiting though there was work
  double cost = 0, cost_per_million_output_tokens = 0;
};

// Errors: Internal should the scheduler come to a stop.
absl::StatusOr<ReplayResult> Replay(const std::vector<TraceRequest>& trace,
                                    const ReplayOptions& options);

// A table for people; one JSON object for programs. `what`: the device and the model.
[[nodiscard]] std::string ReplayTable(const ReplayResult& result, const ReplayOptions& options,
                                      const std::string& what);
[[nodiscard]] std::string ReplayJson(const ReplayResult& result, const ReplayOptions& options,
                                     const std::string& what);

}  // namespace sluice
