// A run's result as JSON: what reports, comparisons and other programs read.
#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "bench/serve/options.h"
#include "bench/serve/runner.h"

namespace sluice::load {

inline constexpr std::string_view kSchema = "sluice.bench.serve/1";

// The result of one run; docs/bench.md explains every field. Times in ms unless the name says else.
boost::json::object ResultJson(const LoadOptions& options, const LoadResult& result);

// The parts that every measurement has, whoever made it: finished_at, machine, window_s, requests,
// rates, tokens, latency_ms, errors, timeline.
boost::json::object MeasuredJson(const Measurement& measured);
boost::json::object LatencyJson(const Histogram& histogram);
boost::json::object PromptsJson(const PromptOptions& prompts);

// Reads such a file. Errors: NotFound; InvalidArgument for another schema.
absl::StatusOr<boost::json::object> ReadResultFile(const std::string& path);
absl::Status WriteFile(const std::string& path, std::string_view text);

// What a person should know before believing the numbers: each one sentence.
std::vector<std::string> Doubts(const LoadOptions& options, const LoadResult& result);

}  // namespace sluice::load
