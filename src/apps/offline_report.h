// What `bench latency` and `bench throughput` say: JSON for programs, text for people.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bench/serve/measurement.h"
#include "sluice/service.h"

namespace sluice {

// What a page of metrics says of the engines of this process, all models together.
struct EngineFacts {
  double steps = 0, step_seconds = 0, preemptions = 0;    // ever
  double prefix_query_tokens = 0, prefix_hit_tokens = 0;  // ever
  double kv_blocks = 0, kv_referenced_blocks = 0;         // now

  static EngineFacts Of(std::string_view metrics_page);
};

// What was measured, and on what.
struct OfflineFacts {
  VersionInfo version;
  std::string model;
  EngineFacts before, after;
  double kv_peak_blocks = 0;  // referenced, by ten looks a second
  int64_t num_refusals = 0;   // handed over again
  std::vector<std::string> doubts;
};

// `options`: the command's own. `batch`: how long whole batches took. Schema
// sluice.bench.latency/1.
boost::json::object LatencyResult(const OfflineFacts& facts, boost::json::object options,
                                  const load::Measurement& measured, const load::Histogram& batch);
// Schema sluice.bench.throughput/1.
boost::json::object ThroughputResult(const OfflineFacts& facts, boost::json::object options,
                                     const load::Measurement& measured);

// For a terminal; of a simulated device, each line says so. The last line of a throughput has its
// figures alone.
std::string LatencyText(const boost::json::object& result);
std::string ThroughputText(const boost::json::object& result);

}  // namespace sluice
