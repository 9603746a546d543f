#include "bench/serve/summary.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <iterator>
#include <vector>

#include "bench/serve/text.h"

namespace sluice::load {
namespace {

namespace json = boost::json;

constexpr ComparedValue kCompared[] = {
    {"output tokens", "rates.output_tokens_per_s", "/s", false},
    {"completed requests", "rates.completed_per_s", "/s", false},
    {"goodput", "rates.goodput_per_s", "/s", false},
    {"failed", "requests.failed", "", true},
    {"chunks per token", "tokens.chunks_per_token", "", true},
    {"TTFT p50", "latency_ms.ttft.p50", "ms", true},
    {"TTFT p99", "latency_ms.ttft.p99", "ms", true},
    {"ITL p50", "latency_ms.itl.p50", "ms", true},
    {"ITL p99", "latency_ms.itl.p99", "ms", true},
    {"TPOT p50", "latency_ms.tpot.p50", "ms", true},
    {"TPOT p99", "latency_ms.tpot.p99", "ms", true},
    {"e2e p50", "latency_ms.e2e.p50", "ms", true},
    {"e2e p99", "latency_ms.e2e.p99", "ms", true},
    {"server CPU per token", "cpu.server_us_per_token", "us", true},
    {"harness CPU per token", "cpu.harness_us_per_token", "us", true},
};

const json::value* At(const json::object& result, std::string_view path) {
  const json::object* object = &result;
  const json::value* value = nullptr;
  for (const std::string_view name : Split(path, '.')) {
    if (object == nullptr) return nullptr;
    value = object->if_contains(name);
    if (value == nullptr) return nullptr;
    object = value->if_object();
  }
  return value;
}

void AppendErrors(std::string& out, const json::value* errors) {
  if (errors != nullptr && errors->is_object()) {
    for (const auto& field : errors->get_object()) {
      if (!field.value().is_object()) continue;
      const json::object& error = field.value().get_object();
      fmt::format_to(std::back_inserter(out), "error    {} x {} after {:.2f} ms (p50): {}\n",
                     static_cast<int64_t>(NumberAt(error, "count")), std::string(field.key()),
                     NumberAt(error, "after_ms.p50"), TextAt(error, "example"));
    }
  }
}

constexpr TableName kRows[] = {
    {"TTFT", "ttft"}, {"ITL", "itl"}, {"TPOT", "tpot"}, {"e2e", "e2e"}, {"late", "late"}};
constexpr TableName kColumns[] = {{"mean", "mean"}, {"p50", "p50"}, {"p90", "p90"},
                                  {"p95", "p95"},   {"p99", "p99"}, {"p99.9", "p999"},
                                  {"max", "max"}};

}  // namespace

double NumberAt(const json::object& result, std::string_view path) {
  const json::value* value = At(result, path);
  return value != nullptr && value->is_number() ? value->to_number<double>() : 0;
}

std::string TextAt(const json::object& result, std::string_view path) {
  const json::value* value = At(result, path);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

std::string LatencyTable(const json::object& result, std::span<const TableName> rows,
                         std::span<const TableName> columns) {
  std::string out = fmt::format("{:<8}{:>9}", "ms", "count");
  for (const TableName& column : columns)
    fmt::format_to(std::back_inserter(out), "{:>9}", column.label);
  out += '\n';
  for (const TableName& row : rows) {
    const std::string base = fmt::format("latency_ms.{}.", row.name);
    fmt::format_to(std::back_inserter(out), "{:<8}{:>9.0f}", row.label,
                   NumberAt(result, base + "count"));
    for (const TableName& column : columns)
      fmt::format_to(std::back_inserter(out), "{:>9.2f}", NumberAt(result, base + column.name));
    out += '\n';
  }
  return out;
}

std::string ErrorLines(const json::object& result) {
  std::string out;
  AppendErrors(out, At(result, "errors"));
  AppendErrors(out, At(result, "new_connections.errors"));
  const json::value* doubts = At(result, "doubts");
  if (doubts == nullptr || !doubts->is_array()) return out;
  for (const json::value& doubt : doubts->get_array())
    if (doubt.is_string()) out += "note     " + std::string(doubt.get_string()) + "\n";
  return out;
}

std::string LoadText(const json::object& result) {
  if (TextAt(result, "options.loop") == "closed")
    return fmt::format("closed loop, {} users", NumberAt(result, "options.concurrency"));
  const std::string arrivals = TextAt(result, "options.arrivals");
  if (arrivals == "trace") return "open loop, a trace";
  if (arrivals == "ramp")
    return fmt::format("open loop, ramp from {} to {} requests/s", NumberAt(result, "options.rate"),
                       NumberAt(result, "options.ramp_to"));
  return fmt::format("open loop, {} at {} requests/s", arrivals, NumberAt(result, "options.rate"));
}

std::string Summary(const json::object& result) {
  const auto n = [&](std::string_view path) { return NumberAt(result, path); };
  std::string out;
  const auto add = [&](auto format, const auto&... values) {
    fmt::vformat_to(std::back_inserter(out), format, fmt::make_format_args(values...));
  };
  add("{} at {}, model {}: {:.1f} s measured\n", LoadText(result), TextAt(result, "options.url"),
      TextAt(result, "options.model"), n("window_s"));
  add("requests {:.0f} scheduled ({:.1f}/s), {:.0f} completed ({:.1f}/s), {:.0f} failed, {:.0f} in "
      "flight at most\n",
      n("requests.scheduled"), n("rates.scheduled_per_s"), n("requests.completed"),
      n("rates.completed_per_s"), n("requests.failed"), n("requests.max_in_flight"));
  if (At(result, "options.slo_ms") != nullptr) {
    out += "goodput  ";
    add("{:.0f} requests ({:.2f}/s) within", n("requests.good"), n("rates.goodput_per_s"));
    for (const char* name : {"ttft", "itl", "tpot", "e2e"}) {
      const double limit = n(fmt::format("options.slo_ms.{}", name));
      if (limit > 0) add(" {} <= {} ms", name, limit);
    }
    out += '\n';
  }
  add("tokens   {:.0f} out ({:.1f}/s), {:.0f} in ({:.1f}/s, {:.0f} cached), {:.3f} chunks per "
      "token\n",
      n("tokens.output"), n("rates.output_tokens_per_s"), n("tokens.prompt"),
      n("rates.prompt_tokens_per_s"), n("tokens.cached_prompt"), n("tokens.chunks_per_token"));
  if (At(result, "cpu.server_s") != nullptr)
    add("CPU      server {:.2f} us per token ({:.2f} cores), harness {:.2f} us per token ({:.2f} "
        "cores)\n",
        n("cpu.server_us_per_token"), n("cpu.server_cores"), n("cpu.harness_us_per_token"),
        n("cpu.harness_of_a_core"));
  if (At(result, "new_connections") != nullptr)
    add("opened   {:.0f} new connections answered ({:.1f}/s), {:.0f} failed, p50 {:.2f} ms, p99 "
        "{:.2f} ms\n",
        n("new_connections.answered"), n("new_connections.answered_per_s"),
        n("new_connections.failed"), n("new_connections.latency_ms.p50"),
        n("new_connections.latency_ms.p99"));
  return out + LatencyTable(result, kRows, kColumns) + ErrorLines(result);
}

std::span<const ComparedValue> ComparedValues() { return kCompared; }

std::string Comparison(const json::object& a, const json::object& b, std::string_view name_a,
                       std::string_view name_b) {
  std::string out = fmt::format("A: {} ({})\nB: {} ({})\n{:<24}{:>14}{:>14}{:>10}\n", name_a,
                                LoadText(a), name_b, LoadText(b), "", "A", "B", "B / A");
  for (const ComparedValue& value : kCompared) {
    const double in_a = NumberAt(a, value.path), in_b = NumberAt(b, value.path);
    if (in_a == 0 && in_b == 0) continue;
    const std::string ratio = in_a == 0 ? "-" : fmt::format("{:.3f}", in_b / in_a);
    fmt::format_to(std::back_inserter(out), "{:<24}{:>14.3f}{:>14.3f}{:>10}\n",
                   fmt::format("{} {}", value.label, value.unit), in_a, in_b, ratio);
  }
  return out;
}

}  // namespace sluice::load
