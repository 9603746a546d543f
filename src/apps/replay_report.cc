#include <fmt/format.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <iterator>

#include "apps/replay.h"

namespace sluice {
namespace {

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

std::string Line(std::string_view name, const Distribution& d) {
  return fmt::format("{:<18}{:>10.4f} {:>10.4f} {:>10.4f} {:>10.4f} {:>10.4f}\n", name, d.mean,
                     d.p50, d.p90, d.p99, d.max);
}

std::string Json(const Distribution& d) {
  return fmt::format(
      R"({{"count":{},"mean":{:.6g},"p50":{:.6g},"p90":{:.6g},"p99":{:.6g},"max":{:.6g}}})",
      d.count, d.mean, d.p50, d.p90, d.p99, d.max);
}

}  // namespace

std::string ReplayTable(const ReplayResult& r, const ReplayOptions& options,
                        const std::string& what) {
  const auto rate = [&](int64_t count) { return Ratio(static_cast<double>(count), r.seconds); };
  std::string out = fmt::format("simulated: {}\n\n", what);
  const auto to = std::back_inserter(out);
  fmt::format_to(to, "requests          {} in {:.3f} s: {} completed, {} refused, {} too long\n",
                 r.requests, r.seconds, r.completed, r.refused, r.too_long);
  fmt::format_to(to,
                 "throughput        {:.2f} requests/s, {:.1f} output and {:.1f} prompt tokens/s\n",
                 rate(r.completed), rate(r.output_tokens), rate(r.prompt_tokens));
  fmt::format_to(
      to,
      "goodput           {:.2f} requests/s, {:.1f} % of all (TTFT <= {:g} s, 99 % of gaps "
      "<= {:g} s)\n",
      rate(r.good), 100 * Ratio(static_cast<double>(r.good), static_cast<double>(r.requests)),
      options.slo_ttft_s, options.slo_itl_s);
  fmt::format_to(to, "\n{:<18}{:>10} {:>10} {:>10} {:>10} {:>10}\n", "seconds", "mean", "p50",
                 "p90", "p99", "max");
  out += Line("TTFT", r.ttft) + Line("ITL", r.itl) + Line("end to end", r.e2e);
  fmt::format_to(
      to,
      "\nKV cache          {} blocks of {} tokens, {:.1f} % in use, at most {:.1f} %; {} "
      "preemptions\n",
      options.scheduler.num_kv_blocks, options.scheduler.kv_block_tokens, 100 * r.kv_mean,
      100 * r.kv_peak, r.preemptions);
  fmt::format_to(
      to, "prefix cache      {:.1f} % of prompt tokens found\n",
      100 * Ratio(static_cast<double>(r.cached_tokens), static_cast<double>(r.prompt_tokens)));
  fmt::format_to(to, "device            {:.1f} % busy, {:.3f} s idle with work at hand\n",
                 100 * Ratio(r.busy_seconds, r.seconds), r.idle_seconds);
  fmt::format_to(to, "steps             {}, {:.1f} rows and {:.1f} tokens each\n", r.steps,
                 r.rows_a_step, r.tokens_a_step);
  if (options.cost_per_hour > 0) {
    fmt::format_to(to, "cost              {:.4f} at {:g} an hour, {:.4f} a million output tokens\n",
                   r.cost, options.cost_per_hour, r.cost_per_million_output_tokens);
  }
  return out;
}

std::string ReplayJson(const ReplayResult& r, const ReplayOptions& options,
                       const std::string& what) {
  std::string out = fmt::format(R"({{"simulated":true,"what":{})",
                                boost::json::serialize(boost::json::string(what)));
  const auto whole = [&](std::string_view name, int64_t value) {
    fmt::format_to(std::back_inserter(out), R"(,"{}":{})", name, value);
  };
  const auto real = [&](std::string_view name, double value) {
    fmt::format_to(std::back_inserter(out), R"(,"{}":{:.6g})", name, value);
  };
  whole("requests", r.requests);
  whole("completed", r.completed);
  whole("refused", r.refused);
  whole("too_long", r.too_long);
  real("seconds", r.seconds);
  whole("prompt_tokens", r.prompt_tokens);
  whole("cached_tokens", r.cached_tokens);
  whole("output_tokens", r.output_tokens);
  real("requests_per_s", Ratio(static_cast<double>(r.completed), r.seconds));
  real("output_tokens_per_s", Ratio(static_cast<double>(r.output_tokens), r.seconds));
  real("slo_ttft_s", options.slo_ttft_s);
  real("slo_itl_s", options.slo_itl_s);
  whole("good", r.good);
  real("goodput_per_s", Ratio(static_cast<double>(r.good), r.seconds));
  for (const auto& [name, d] : {std::pair("ttft_s", &r.ttft), {"itl_s", &r.itl}, {"e2e_s", &r.e2e}})
    fmt::format_to(std::back_inserter(out), R"(,"{}":{})", name, Json(*d));
  whole("kv_blocks", options.scheduler.num_kv_blocks);
  real("kv_mean", r.kv_mean);
  real("kv_peak", r.kv_peak);
  whole("preemptions", r.preemptions);
  whole("steps", r.steps);
  real("rows_per_step", r.rows_a_step);
  real("tokens_per_step", r.tokens_a_step);
  real("device_busy_s", r.busy_seconds);
  real("device_idle_s", r.idle_seconds);
  real("cost", r.cost);
  real("cost_per_million_output_tokens", r.cost_per_million_output_tokens);
  return out + "}\n";
}

}  // namespace sluice
