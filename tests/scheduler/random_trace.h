// A scheduler and a simulated executor under random load in virtual time, checked after every step.
// Everything follows from the options: two runs make the same calls.
#pragma once

#include <cstdint>
#include <string>

#include "scheduler/scheduler.h"

namespace sluice {

struct TraceOptions {
  uint64_t seed = 1;
  int64_t num_steps = 1000;  // steps to apply before new requests stop
  int steps_in_flight = 1;
  bool prefix_cache = true;
  int32_t num_kv_blocks = 40;
  int pooled_of_ten = 0;       // so many of ten sequences end with a vector
  bool whole_prompts = false;  // with pooled_of_ten = 10
  bool keeps_kv = true;
};

struct TraceSummary {
  uint64_t plan_hash = 0;  // XXH3-64 over every field of every plan
  int64_t num_steps = 0;   // until the last sequence had ended
  int64_t num_added = 0, num_full = 0, num_unfit = 0;
  int64_t num_stopped = 0, num_length = 0, num_deadline = 0, num_cancelled = 0, num_finished = 0,
          num_pooled = 0;
  int64_t num_rows_planned_ahead = 0, num_held = 0;
  int64_t longest_wait_of_oldest = 0;  // plans made without a row for the highest-ranked sequence
  SchedulerStats stats;
  std::string error;  // the first broken promise; empty: none
};

TraceSummary RunTrace(const TraceOptions& options);

}  // namespace sluice
