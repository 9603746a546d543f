// The highest rate at which a server keeps its limits, and runs at several given rates.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice::load {

// One run at a rate (requests/s). Its result as ResultJson gives it.
using RunAtRate = std::function<absl::StatusOr<boost::json::object>(double rate)>;
// Told after each run, with a line that says how it went.
using TryReport = std::function<void(const std::string& line)>;

struct RateSearchOptions {
  double first_rate = 1;
  double attainment = 0.99;  // of the requests scheduled must be good
  double precision = 0.05;   // the answer is within this part of the true one
  int max_runs = 24;
};

// The part of the scheduled requests that kept all limits; failed ones did not.
double Attainment(const boost::json::object& result);

// A result with "tries": [{"rate", "kept", "attainment", and the run's own rates and latencies}],
// ascending by rate, and "max_rate". It is the best run's; the slowest's if none kept the limits,
// and max_rate is 0 then. Doubles the rate (or halves it) until one is kept and one is not, then
// halves the interval. Errors: those of `run`.
absl::StatusOr<boost::json::object> FindMaxRate(const RateSearchOptions& options,
                                                const RunAtRate& run, const TryReport& report);

// The same for given rates, without a search. The result is the last rate's.
absl::StatusOr<boost::json::object> RunRates(const std::vector<double>& rates, double attainment,
                                             const RunAtRate& run, const TryReport& report);

}  // namespace sluice::load
