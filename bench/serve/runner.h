// One run: sends requests when they are due, and measures what comes back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "bench/serve/connection_load.h"
#include "bench/serve/measurement.h"
#include "bench/serve/options.h"
#include "bench/serve/script.h"

namespace sluice::load {

// CPU seconds of this thread and of the server, and the time they were read at.
struct CpuSample {
  int64_t time_ns = 0;
  double harness_s = 0;
  double server_s = -1;  // -1: not known
};

struct LoadResult {
  std::unique_ptr<Measurement> measured;
  std::string model;
  double wall_s = 0;
  CpuSample run_begin, run_end;        // of the whole run
  CpuSample window_begin, window_end;  // of the measured window
  int64_t connections = 0;             // opened
  int64_t max_waiting = 0;  // requests that were due while no connection was allowed any more
  int64_t idle_open = 0;    // idle connections still open at the end
  std::optional<ConnectionCounts> new_connections;  // with options.connection_rate
  bool interrupted = false;
};

// What a run looks like while it goes on.
struct Progress {
  double seconds = 0;
  int64_t in_flight = 0, waiting = 0;
  const Measurement* measured = nullptr;
};

struct RunHooks {
  std::function<void(const Progress&)> progress;  // about once a second; may be empty
  std::function<bool()> stopped;                  // asked often; may be empty
};

// Blocks until the run is over, on one thread. Errors: what resolving the URL, reading files or
// asking the server for its models and script gives; FailedPrecondition if the limit on open files
// is too low. What goes wrong with single requests is in the result.
absl::StatusOr<LoadResult> RunLoad(const LoadOptions& options, const RunHooks& hooks);

}  // namespace sluice::load
