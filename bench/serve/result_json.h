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

// Reads such a file. Errors: NotFound; InvalidArgument for another schema.
absl::StatusOr<boost::json::object> ReadResultFile(const std::string& path);
absl::Status WriteFile(const std::string& path, std::string_view text);

// What a person should know before believing the numbers: each one sentence.
std::vector<std::string> Doubts(const LoadOptions& options, const LoadResult& result);

}  // namespace sluice::load
