#include "bench/serve/rate_search.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <map>
#include <utility>

#include "base/status_macros.h"
#include "bench/serve/summary.h"

namespace sluice::load {
namespace {

namespace json = boost::json;

struct Try {
  json::object result;
  double attainment = 0;
  bool kept = false;
};

// Runs at different rates, each at most once.
class Tries {
 public:
  Tries(double attainment, const RunAtRate& run, const TryReport& report)
      : wanted_(attainment), run_(run), report_(report) {}

  absl::StatusOr<bool> Run(double rate) {
    ASSIGN_OR_RETURN(json::object result, run_(rate));
    Try one{.result = std::move(result)};
    one.attainment = Attainment(one.result);
    one.kept = one.attainment >= wanted_;
    const json::object& r = one.result;
    report_(fmt::format(
        "{:>10.2f} requests/s: {} ({:.2f} % good), {:.0f} tokens/s, TTFT p99 {:.1f} ms, ITL p99 "
        "{:.1f} ms, {:.0f} failed",
        rate, one.kept ? "kept" : "not kept", one.attainment * 100,
        NumberAt(r, "rates.output_tokens_per_s"), NumberAt(r, "latency_ms.ttft.p99"),
        NumberAt(r, "latency_ms.itl.p99"), NumberAt(r, "requests.failed")));
    const bool kept = one.kept;
    tries_.insert_or_assign(rate, std::move(one));
    return kept;
  }
  [[nodiscard]] size_t count() const { return tries_.size(); }

  // The result of `rate`'s run, with all tries.
  [[nodiscard]] json::object Result(double rate) const {
    json::object result = tries_.at(rate).result;
    json::array list;
    for (const auto& [tried, one] : tries_) {
      json::object latency;
      for (const char* name : {"ttft", "itl", "tpot", "e2e"}) {
        json::object values;
        for (const char* quantile : {"p50", "p90", "p99"})
          values[quantile] = NumberAt(one.result, fmt::format("latency_ms.{}.{}", name, quantile));
        latency[name] = std::move(values);
      }
      list.push_back(json::object{{"rate", tried},
                                  {"kept", one.kept},
                                  {"attainment", one.attainment},
                                  {"failed", one.result.at("requests").at("failed")},
                                  {"rates", one.result.at("rates")},
                                  {"latency_ms", std::move(latency)}});
    }
    result["tries"] = std::move(list);
    return result;
  }

 private:
  const double wanted_;
  const RunAtRate& run_;
  const TryReport& report_;
  std::map<double, Try> tries_;
};

}  // namespace

double Attainment(const json::object& result) {
  const double scheduled = NumberAt(result, "requests.scheduled");
  return scheduled > 0 ? NumberAt(result, "requests.good") / scheduled : 0;
}

absl::StatusOr<json::object> FindMaxRate(const RateSearchOptions& options, const RunAtRate& run,
                                         const TryReport& report) {
  Tries tries(options.attainment, run, report);
  const auto more = [&] { return tries.count() < static_cast<size_t>(options.max_runs); };
  double kept = 0, not_kept = 0, rate = options.first_rate;  // 0: none yet
  while ((kept == 0 || not_kept == 0) && more()) {
    ASSIGN_OR_RETURN(const bool good, tries.Run(rate));
    (good ? kept : not_kept) = rate;
    rate = good ? rate * 2 : rate / 2;
  }
  while (kept > 0 && not_kept > kept * (1 + options.precision) && more()) {
    const double middle = (kept + not_kept) / 2;
    ASSIGN_OR_RETURN(const bool good, tries.Run(middle));
    (good ? kept : not_kept) = middle;
  }
  json::object result = tries.Result(kept > 0 ? kept : not_kept);
  result["max_rate"] = kept;
  return result;
}

absl::StatusOr<json::object> RunRates(const std::vector<double>& rates, double attainment,
                                      const RunAtRate& run, const TryReport& report) {
  Tries tries(attainment, run, report);
  for (const double rate : rates) {
    ASSIGN_OR_RETURN([[maybe_unused]] const bool kept, tries.Run(rate));
  }
  return tries.Result(rates.back());
}

}  // namespace sluice::load
