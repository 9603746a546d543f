// When requests are sent in an open loop: a schedule that no answer can slow down.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/serve/random.h"

namespace sluice::load {

enum class ArrivalKind { kConstant, kPoisson, kGamma, kRamp, kTrace };

// One arrival of a trace file; lengths where the file has them, else 0.
struct TraceArrival {
  double at_s = 0;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
};

struct ArrivalOptions {
  ArrivalKind kind = ArrivalKind::kPoisson;
  double rate = 1;           // requests/s; of a ramp, at its beginning
  double ramp_to = 1;        // kRamp: requests/s at the end
  double ramp_seconds = 60;  // kRamp: how long it takes; afterwards ramp_to stays
  double cv = 2;             // kGamma: standard deviation of the gaps over their mean; 1 is Poisson
  std::vector<TraceArrival> trace;  // kTrace
  double time_scale = 1;            // kTrace: 2 plays it half as fast
  uint64_t seed = 0;
};

// The times of arrivals, ascending.
class Arrivals {
 public:
  // Errors: InvalidArgument for a rate, cv or scale that is not positive, or an empty trace.
  static absl::StatusOr<Arrivals> Create(const ArrivalOptions& options);

  // Nanoseconds from the start; nothing once a trace has ended.
  std::optional<int64_t> Next();
  // What the trace says about the arrival that Next gave last; nullptr without a trace.
  [[nodiscard]] const TraceArrival* Last() const;

 private:
  explicit Arrivals(ArrivalOptions options)
      : options_(std::move(options)), random_(options_.seed) {}
  double RampTime(double expected) const;

  ArrivalOptions options_;
  Random random_;
  double now_s_ = 0;
  double expected_ = 0;  // kRamp: arrivals expected until now_s_
  size_t next_ = 0;      // kTrace
};

// Reads a trace of one JSON object a line: {"at_s": 1.5} or Mooncake's {"timestamp": 1500} in ms,
// with "prompt_tokens"/"input_length" and "output_tokens"/"output_length" if known.
// Errors: NotFound; InvalidArgument with the line for anything else, times that go back included.
absl::StatusOr<std::vector<TraceArrival>> ReadTrace(const std::string& path);

}  // namespace sluice::load
