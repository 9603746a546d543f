#include "bench/serve/arrivals.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <cmath>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "base/status_macros.h"

namespace sluice::load {
namespace {

constexpr double kNanosecond = 1e9;
constexpr size_t kMaxTraceLines = 10'000'000;

absl::Status CheckPositive(double value, const char* name) {
  if (value > 0 && std::isfinite(value)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{} is {}; it must be above 0", name, value));
}

double NumberOr(const boost::json::object& object, const char* name, double otherwise) {
  const auto* value = object.if_contains(name);
  if (value == nullptr || !value->is_number()) return otherwise;
  return value->to_number<double>();
}

std::optional<TraceArrival> ParseTraceLine(const std::string& line) {
  boost::system::error_code error;
  const auto value = boost::json::parse(line, error);
  if (error || !value.is_object()) return std::nullopt;
  const auto& object = value.get_object();
  TraceArrival arrival;
  arrival.at_s = NumberOr(object, "at_s", NumberOr(object, "timestamp", -1000) / 1000);
  const auto tokens = [&](const char* ours, const char* theirs) {
    return static_cast<int64_t>(
        std::clamp(NumberOr(object, ours, NumberOr(object, theirs, 0)), -1.0, 1e9));
  };
  arrival.prompt_tokens = tokens("prompt_tokens", "input_length");
  arrival.output_tokens = tokens("output_tokens", "output_length");
  constexpr int64_t kMaxTokens = 10'000'000;
  const bool sane = arrival.at_s >= 0 && arrival.at_s < 1e7 && arrival.prompt_tokens >= 0 &&
                    arrival.output_tokens >= 0 && arrival.prompt_tokens < kMaxTokens &&
                    arrival.output_tokens < kMaxTokens;
  return sane ? std::optional(arrival) : std::nullopt;
}

}  // namespace

absl::StatusOr<Arrivals> Arrivals::Create(const ArrivalOptions& options) {
  if (options.kind == ArrivalKind::kTrace) {
    if (options.trace.empty()) return absl::InvalidArgumentError("the trace has no arrival");
    RETURN_IF_ERROR(CheckPositive(options.time_scale, "time-scale"));
  } else {
    RETURN_IF_ERROR(CheckPositive(options.rate, "rate"));
  }
  if (options.kind == ArrivalKind::kGamma) RETURN_IF_ERROR(CheckPositive(options.cv, "cv"));
  if (options.kind == ArrivalKind::kRamp) {
    RETURN_IF_ERROR(CheckPositive(options.ramp_to, "ramp-to"));
    RETURN_IF_ERROR(CheckPositive(options.ramp_seconds, "ramp-seconds"));
  }
  return Arrivals(options);
}

// The time by which a ramp expects `expected` arrivals: a Poisson process of changing rate is one
// of rate 1 whose time is stretched by the inverse of the integral of the rate.
double Arrivals::RampTime(double expected) const {
  const double slope = (options_.ramp_to - options_.rate) / options_.ramp_seconds;
  const double in_ramp = (options_.rate + options_.ramp_to) / 2 * options_.ramp_seconds;
  if (expected >= in_ramp) return options_.ramp_seconds + (expected - in_ramp) / options_.ramp_to;
  // rate * t + slope / 2 * t^2 = expected, in the form that is stable for small slopes.
  const double root = std::sqrt(options_.rate * options_.rate + 2 * slope * expected);
  return 2 * expected / (options_.rate + root);
}

std::optional<int64_t> Arrivals::Next() {
  switch (options_.kind) {
    case ArrivalKind::kConstant:
      now_s_ += 1 / options_.rate;
      break;
    case ArrivalKind::kPoisson:
      now_s_ += random_.Exponential() / options_.rate;
      break;
    case ArrivalKind::kGamma: {
      const double shape = 1 / (options_.cv * options_.cv);
      now_s_ += random_.Gamma(shape) / (shape * options_.rate);
      break;
    }
    case ArrivalKind::kRamp:
      expected_ += random_.Exponential();
      now_s_ = RampTime(expected_);
      break;
    case ArrivalKind::kTrace:
      if (next_ == options_.trace.size()) return std::nullopt;
      now_s_ = options_.trace[next_++].at_s * options_.time_scale;
      break;
  }
  return static_cast<int64_t>(now_s_ * kNanosecond);
}

const TraceArrival* Arrivals::Last() const {
  return next_ == 0 ? nullptr : &options_.trace[next_ - 1];
}

absl::StatusOr<std::vector<TraceArrival>> ReadTrace(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(fmt::format("trace {} cannot be read", path));
  std::vector<TraceArrival> trace;
  std::string line;
  for (size_t number = 1; std::getline(file, line); ++number) {
    if (line.empty()) continue;
    const auto arrival = ParseTraceLine(line);
    if (!arrival || (!trace.empty() && arrival->at_s < trace.back().at_s)) {
      return absl::InvalidArgumentError(
          fmt::format("{}:{}: not an object with at_s (s) or timestamp (ms) that does not go back",
                      path, number));
    }
    if (trace.size() == kMaxTraceLines)
      return absl::InvalidArgumentError(fmt::format("{} has over {} lines", path, kMaxTraceLines));
    trace.push_back(*arrival);
  }
  return trace;
}

}  // namespace sluice::load
