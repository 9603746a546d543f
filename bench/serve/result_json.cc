#include "bench/serve/result_json.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sluice::load {
namespace {

namespace json = boost::json;

double Ms(int64_t ns) { return static_cast<double>(ns) / 1e6; }
// JSON has neither infinities nor NaN.
double Ratio(double a, double b) { return b > 0 ? a / b : 0; }

const char* ArrivalName(ArrivalKind kind) {
  switch (kind) {
    case ArrivalKind::kConstant:
      return "constant";
    case ArrivalKind::kPoisson:
      return "poisson";
    case ArrivalKind::kGamma:
      return "gamma";
    case ArrivalKind::kRamp:
      return "ramp";
    case ArrivalKind::kTrace:
      return "trace";
  }
  return "";
}

json::object OptionsJson(const LoadOptions& o, const std::string& model) {
  json::object out{{"url", o.url}, {"protocol", o.protocol}, {"model", model}, {"seed", o.seed}};
  if (o.protocol == "openai") out["endpoint"] = o.endpoint;
  if (o.protocol == "kserve") out["stream"] = o.stream;
  if (o.concurrency > 0) {
    out["loop"] = "closed";
    out["concurrency"] = o.concurrency;
    out["think_s"] = o.think_seconds;
  } else {
    out["loop"] = "open";
    out["arrivals"] = ArrivalName(o.arrivals.kind);
    if (o.arrivals.kind != ArrivalKind::kTrace) out["rate"] = o.arrivals.rate;
    if (o.arrivals.kind == ArrivalKind::kGamma) out["cv"] = o.arrivals.cv;
    if (o.arrivals.kind == ArrivalKind::kRamp) out["ramp_to"] = o.arrivals.ramp_to;
  }
  out["prompts"] = PromptsJson(o.prompts);
  out["warmup_s"] = o.warmup_seconds;
  out["duration_s"] = o.duration_seconds;
  out["requests"] = o.requests;
  out["timeout_s"] = o.timeout_seconds;
  out["max_connections"] = o.max_connections;
  out["new_connections"] = o.new_connections;
  out["connection_rate"] = o.connection_rate;
  out["idle_connections"] = o.idle_connections;
  out["slow_fraction"] = o.slow_fraction;
  out["check_script"] = o.check_script;
  if (o.slo.Any())
    out["slo_ms"] = json::object{{"ttft", Ms(o.slo.ttft_ns)},
                                 {"itl", Ms(o.slo.itl_ns)},
                                 {"tpot", Ms(o.slo.tpot_ns)},
                                 {"e2e", Ms(o.slo.e2e_ns)}};
  return out;
}

// Per second: counts, and the median and 99th percentile of the TTFT and TPOT of the requests that
// were scheduled in it.
json::array TimelineJson(const Measurement& m) {
  struct Second {
    std::vector<int64_t> ttft, tpot;
    int64_t good = 0;
  };
  std::vector<Second> seconds(m.timeline.size());
  for (const RequestRecord& record : m.records) {
    const auto at = static_cast<size_t>(std::max<int64_t>(record.scheduled_ns, 0) / 1'000'000'000);
    if (!record.ok || record.slow || at >= seconds.size()) continue;
    if (record.ttft_ns > 0) seconds[at].ttft.push_back(record.ttft_ns);
    if (record.tpot_ns > 0) seconds[at].tpot.push_back(record.tpot_ns);
    seconds[at].good += record.good ? 1 : 0;
  }
  const auto quantile = [](std::vector<int64_t>& values, double q) -> json::value {
    if (values.empty()) return nullptr;
    std::sort(values.begin(), values.end());
    const double rank = std::ceil(q * static_cast<double>(values.size()));
    return Ms(values[static_cast<size_t>(std::max(rank, 1.0)) - 1]);
  };
  json::array out;
  for (size_t i = 0; i < m.timeline.size(); ++i) {
    const TimelineBin& bin = m.timeline[i];
    out.push_back(json::object{{"started", bin.started},
                               {"finished", bin.finished},
                               {"failed", bin.failed},
                               {"good", seconds[i].good},
                               {"chunks", bin.chunks},
                               {"in_flight", bin.in_flight},
                               {"ttft_p50", quantile(seconds[i].ttft, 0.5)},
                               {"ttft_p99", quantile(seconds[i].ttft, 0.99)},
                               {"tpot_p50", quantile(seconds[i].tpot, 0.5)},
                               {"tpot_p99", quantile(seconds[i].tpot, 0.99)}});
  }
  return out;
}

json::object CpuJson(const LoadResult& result, double tokens, double run_tokens) {
  const CpuSample &begin = result.window_begin, &end = result.window_end;
  const double harness = end.harness_s - begin.harness_s;
  const double wall = static_cast<double>(end.time_ns - begin.time_ns) / 1e9;
  json::object out{{"harness_s", harness},
                   {"harness_of_a_core", Ratio(harness, wall)},
                   {"harness_us_per_token", Ratio(harness * 1e6, tokens)}};
  if (begin.server_s < 0 || end.server_s < 0) return out;
  const double server = end.server_s - begin.server_s;
  const double whole = result.run_end.server_s - result.run_begin.server_s;
  out["server_s"] = server;
  out["server_cores"] = Ratio(server, wall);
  out["server_us_per_token"] = Ratio(server * 1e6, tokens);
  out["server_whole_run_s"] = whole;
  out["server_whole_run_us_per_token"] = Ratio(whole * 1e6, run_tokens);
  return out;
}

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

json::object MachineJson() {
  utsname name{};
  uname(&name);
  return {{"cpu", CpuModel()},
          {"cpus", std::thread::hardware_concurrency()},
          {"system", fmt::format("{} {} {}", name.sysname, name.release, name.machine)}};
}

}  // namespace

std::vector<std::string> Doubts(const LoadOptions& options, const LoadResult& result) {
  const Measurement& m = *result.measured;
  std::vector<std::string> doubts;
  const double wall =
      static_cast<double>(result.window_end.time_ns - result.window_begin.time_ns) / 1e9;
  const double busy = Ratio(result.window_end.harness_s - result.window_begin.harness_s, wall);
  if (busy > 0.9)
    doubts.push_back(fmt::format(
        "the harness used {:.0f} % of its core: latencies and rates may be its own limit",
        busy * 100));
  const double late = Ms(m.late.Quantile(0.99));
  if (options.concurrency == 0 && result.max_waiting == 0 &&
      late > std::max(1.0, Ms(m.ttft.Quantile(0.5)) / 20))
    doubts.push_back(fmt::format(
        "the harness itself sent late (99th percentile {:.1f} ms); latencies include that", late));
  const auto& opened = result.new_connections;
  const double opened_late = opened.has_value() ? Ms(opened->late.Quantile(0.99)) : 0;
  if (opened_late > 1)
    doubts.push_back(
        fmt::format("the harness itself opened connections late (99th percentile {:.1f} ms); their "
                    "latencies include that",
                    opened_late));
  if (result.max_waiting > 0)
    doubts.push_back(fmt::format(
        "up to {} requests waited for one of {} connections; their wait counts as latency",
        result.max_waiting, options.max_connections));
  if (m.untold_usage > 0)
    doubts.push_back(fmt::format(
        "{} answers had no usage; each of their chunks counts as one token", m.untold_usage));
  if (options.concurrency > 0)
    doubts.emplace_back(
        "closed loop: a slow server is asked less often, so its latencies look better than in an "
        "open loop");
  if (std::abs(static_cast<double>(m.wire_data_lines - m.all_chunks)) >
          0.02 * static_cast<double>(m.all_chunks) + 4 * static_cast<double>(m.all_ended) &&
      options.protocol == "openai")
    doubts.push_back(fmt::format("{} data lines were on the wire, but {} chunks were read",
                                 m.wire_data_lines, m.all_chunks));
  if (result.interrupted) doubts.emplace_back("the run was interrupted");
  if (m.records.size() == Measurement::kMaxRecords)
    doubts.emplace_back("the timeline has the first million requests only");
  return doubts;
}

json::object LatencyJson(const Histogram& histogram) {
  json::object out{{"count", histogram.Count()},
                   {"mean", histogram.Mean() / 1e6},
                   {"min", Ms(histogram.Min())},
                   {"max", Ms(histogram.Max())}};
  for (const auto& [name, q] : {std::pair{"p10", 0.1},
                                {"p50", 0.5},
                                {"p90", 0.9},
                                {"p95", 0.95},
                                {"p99", 0.99},
                                {"p999", 0.999}})
    out[name] = Ms(histogram.Quantile(q));
  json::array buckets;
  for (const Histogram::Bucket& bucket : histogram.Buckets())
    buckets.push_back(json::array{Ms(bucket.begin), Ms(bucket.end), bucket.count});
  out["buckets"] = std::move(buckets);
  return out;
}

json::object ErrorsJson(const std::map<std::string, ErrorCount>& errors) {
  json::object out;
  for (const auto& [kind, error] : errors)
    out[kind] = json::object{
        {"count", error.count}, {"example", error.example}, {"after_ms", LatencyJson(error.after)}};
  return out;
}

json::object PromptsJson(const PromptOptions& prompts) {
  return {{"source", prompts.source},
          {"file", prompts.file},
          {"prompt_tokens", prompts.prompt_tokens},
          {"output_tokens", prompts.output_tokens},
          {"turns", prompts.turns},
          {"prefix_groups", prompts.prefix_groups},
          {"prefix_tokens", prompts.prefix_tokens}};
}

json::object MeasuredJson(const Measurement& m) {
  const double seconds = m.WindowSeconds();
  const auto per_second = [&](int64_t n) { return static_cast<double>(n) / seconds; };
  return {
      {"finished_at", absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone())},
      {"machine", MachineJson()},
      {"window_s", seconds},
      {"requests", json::object{{"scheduled", m.scheduled},
                                {"completed", m.completed},
                                {"failed", m.failed},
                                {"good", m.good},
                                {"slow_on_purpose", m.slow},
                                {"max_in_flight", m.max_in_flight},
                                {"whole_run", m.all_ended}}},
      {"finish_reasons", json::object(m.finish_reasons.begin(), m.finish_reasons.end())},
      {"rates", json::object{{"scheduled_per_s", per_second(m.scheduled)},
                             {"completed_per_s", per_second(m.completed)},
                             {"goodput_per_s", per_second(m.good)},
                             {"output_tokens_per_s", m.WindowTokens() / seconds},
                             {"prompt_tokens_per_s", per_second(m.prompt_tokens)}}},
      {"tokens", json::object{{"prompt", m.prompt_tokens},
                              {"cached_prompt", m.cached_tokens},
                              {"output", m.output_tokens},
                              {"chunks", m.chunks},
                              {"chunks_per_token", m.ChunksPerToken()},
                              {"whole_run", m.all_tokens},
                              {"in_window", m.WindowTokens()}}},
      {"latency_ms", json::object{{"ttft", LatencyJson(m.ttft)},
                                  {"itl", LatencyJson(m.itl)},
                                  {"tpot", LatencyJson(m.tpot)},
                                  {"e2e", LatencyJson(m.e2e)},
                                  {"late", LatencyJson(m.late)}}},
      {"errors", ErrorsJson(m.errors)},
      {"timeline", TimelineJson(m)},
  };
}

json::object ResultJson(const LoadOptions& options, const LoadResult& result) {
  const Measurement& m = *result.measured;
  json::array doubts;
  for (const std::string& doubt : Doubts(options, result)) doubts.emplace_back(doubt);
  json::object out = MeasuredJson(m);
  out["schema"] = kSchema;
  out["options"] = OptionsJson(options, result.model);
  out["wall_s"] = result.wall_s;
  out["cpu"] = CpuJson(result, m.WindowTokens(), static_cast<double>(m.all_tokens));
  out["wire"] = json::object{
      {"bytes", m.wire_bytes}, {"data_lines", m.wire_data_lines}, {"chunks", m.all_chunks}};
  out["connections"] = json::object{{"opened", result.connections},
                                    {"max_waiting", result.max_waiting},
                                    {"idle_open", result.idle_open}};
  if (const auto& more = result.new_connections; more.has_value())
    out["new_connections"] = json::object{
        {"answered", more->answered},
        {"failed", more->failed},
        {"answered_per_s", Ratio(static_cast<double>(more->answered_inside), m.WindowSeconds())},
        {"latency_ms", LatencyJson(more->latency)},
        {"late_ms", LatencyJson(more->late)},
        {"errors", ErrorsJson(more->errors)}};
  out["doubts"] = std::move(doubts);
  return out;
}

absl::StatusOr<json::object> ReadResultFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(fmt::format("{} cannot be read", path));
  std::stringstream text;
  text << file.rdbuf();
  json::error_code error;
  const json::value value = json::parse(text.str(), error);
  if (!error && value.is_object()) {
    const json::value* schema = value.get_object().if_contains("schema");
    if (schema != nullptr && schema->is_string() && schema->get_string() == kSchema)
      return value.get_object();
  }
  return absl::InvalidArgumentError(fmt::format("{} is no result of schema {}", path, kSchema));
}

absl::Status WriteFile(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (file) return absl::OkStatus();
  return absl::NotFoundError(fmt::format("{} cannot be written", path));
}

}  // namespace sluice::load
