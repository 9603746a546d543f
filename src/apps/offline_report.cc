#include "apps/offline_report.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <iterator>
#include <utility>

#include "apps/kv_plan.h"
#include "bench/serve/result_json.h"
#include "bench/serve/summary.h"
#include "bench/serve/text.h"

namespace sluice {
namespace {

namespace json = boost::json;
using load::NumberAt;
using load::TableName;
using load::TextAt;

constexpr TableName kBatchRows[] = {
    {"TTFT", "ttft"}, {"TPOT", "tpot"}, {"e2e", "e2e"}, {"batch", "batch"}};
constexpr TableName kBatchColumns[] = {{"median", "p50"}, {"p10", "p10"}, {"p90", "p90"},
                                       {"min", "min"},    {"max", "max"}, {"spread%", "spread"}};
constexpr TableName kRows[] = {{"TTFT", "ttft"}, {"ITL", "itl"}, {"TPOT", "tpot"}, {"e2e", "e2e"}};
constexpr TableName kColumns[] = {{"mean", "mean"}, {"p50", "p50"}, {"p90", "p90"},
                                  {"p95", "p95"},   {"p99", "p99"}, {"max", "max"}};

// The sum of the samples of one metric that have `label` among their labels.
double SumOf(std::string_view page, std::string_view metric, std::string_view label = "") {
  double sum = 0;
  for (const std::string_view line : load::Split(page, '\n')) {
    if (!line.starts_with(metric)) continue;
    const std::string_view rest = line.substr(metric.size());
    if (rest.empty() || (rest[0] != '{' && rest[0] != ' ')) continue;
    const size_t space = rest.rfind(' ');
    if (rest.substr(0, space).find(label) == std::string_view::npos) continue;
    sum += load::ParseNumber<double>(rest.substr(space + 1)).value_or(0);
  }
  return sum;
}

double Percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

json::object BaseResult(const OfflineFacts& facts, json::object options,
                        const load::Measurement& measured) {
  json::object out = load::MeasuredJson(measured);
  json::array doubts;
  for (const std::string& doubt : facts.doubts) doubts.emplace_back(doubt);
  const EngineFacts &begin = facts.before, &end = facts.after;
  out["simulated"] = facts.version.backend == "sim";
  out["model"] = facts.model;
  out["backend"] = json::object{{"name", facts.version.backend},
                                {"isa", facts.version.isa},
                                {"version", facts.version.version},
                                {"system_fingerprint", facts.version.system_fingerprint}};
  out["options"] = std::move(options);
  out["engine"] = json::object{{"steps", end.steps - begin.steps},
                               {"step_s", end.step_seconds - begin.step_seconds},
                               {"preemptions", end.preemptions - begin.preemptions}};
  out["kv"] = json::object{{"block_tokens", kKvBlockTokens},
                           {"blocks", end.kv_blocks},
                           {"peak_referenced_blocks", facts.kv_peak_blocks}};
  out["prefix_cache"] =
      json::object{{"query_tokens", end.prefix_query_tokens - begin.prefix_query_tokens},
                   {"hit_tokens", end.prefix_hit_tokens - begin.prefix_hit_tokens}};
  out["doubts"] = std::move(doubts);
  return out;
}

std::string Where(const json::object& result) {
  return fmt::format("{}, {} ({})", TextAt(result, "model"), TextAt(result, "backend.name"),
                     TextAt(result, "backend.isa"));
}

std::string PrefixText(const json::object& result) {
  const double hit = NumberAt(result, "tokens.cached_prompt"),
               all = NumberAt(result, "tokens.prompt");
  return fmt::format("{:.0f} of {:.0f} prompt tokens ({:.1f} %)", hit, all, Percent(hit, all));
}

// Each line of a simulation says what it is.
std::string Marked(const json::object& result, const std::string& text) {
  if (!result.at("simulated").as_bool()) return text;
  std::string marked;
  for (const std::string_view line : load::Split(text, '\n')) {
    if (!line.empty()) marked.append("simulated  ").append(line).append("\n");
  }
  return marked;
}

}  // namespace

EngineFacts EngineFacts::Of(std::string_view page) {
  return {.steps = SumOf(page, "sluice_steps_total"),
          .step_seconds = SumOf(page, "sluice_step_duration_seconds_sum"),
          .preemptions = SumOf(page, "sluice_preemptions_total"),
          .prefix_query_tokens = SumOf(page, "sluice_prefix_cache_queries_tokens_total"),
          .prefix_hit_tokens = SumOf(page, "sluice_prefix_cache_hits_tokens_total"),
          .kv_blocks = SumOf(page, "sluice_kv_blocks"),
          .kv_referenced_blocks = SumOf(page, "sluice_kv_blocks", "state=\"referenced\"")};
}

json::object LatencyResult(const OfflineFacts& facts, json::object options,
                           const load::Measurement& measured, const load::Histogram& batch) {
  json::object out = BaseResult(facts, std::move(options), measured);
  out["schema"] = "sluice.bench.latency/1";
  out.erase("rates");  // the pauses between batches are no load
  out.erase("timeline");
  json::object& latencies = out["latency_ms"].as_object();
  latencies["batch"] = load::LatencyJson(batch);
  for (const TableName& row : kBatchRows) {
    json::object& latency = latencies[row.name].as_object();
    latency["spread"] =
        Percent(NumberAt(latency, "p90") - NumberAt(latency, "p10"), NumberAt(latency, "p50"));
  }
  return out;
}

json::object ThroughputResult(const OfflineFacts& facts, json::object options,
                              const load::Measurement& measured) {
  json::object out = BaseResult(facts, std::move(options), measured);
  out["schema"] = "sluice.bench.throughput/1";
  json::object& rates = out["rates"].as_object();
  for (const char* of_a_schedule : {"scheduled_per_s", "goodput_per_s"}) rates.erase(of_a_schedule);
  rates["total_tokens_per_s"] =
      NumberAt(rates, "prompt_tokens_per_s") + NumberAt(rates, "output_tokens_per_s");
  out["refusals"] = facts.num_refusals;
  return out;
}

std::string LatencyText(const json::object& result) {
  const auto n = [&](std::string_view path) { return NumberAt(result, path); };
  std::string out = fmt::format(
      "latency of {}: a batch of {:.0f}, {:.0f} prompt and {:.0f} output tokens each, {:.0f} "
      "iterations after {:.0f} of warm-up\n",
      Where(result), n("options.batch"), n("options.prompt_tokens"), n("options.output_tokens"),
      n("options.iterations"), n("options.warmup"));
  const bool cold = n("options.prefix_groups") == 0;
  fmt::format_to(std::back_inserter(out), "prefix cache {}: {} were in it\n",
                 cold ? "cold, fresh prompts" : "warm, shared beginnings", PrefixText(result));
  out += load::LatencyTable(result, kBatchRows, kBatchColumns);
  return Marked(result, out + load::ErrorLines(result));
}

std::string ThroughputText(const json::object& result) {
  const auto n = [&](std::string_view path) { return NumberAt(result, path); };
  std::string out = fmt::format("throughput of {}: {:.0f} requests at once\n", Where(result),
                                n("options.requests"));
  fmt::format_to(std::back_inserter(out),
                 "requests {:.0f} completed, {:.0f} failed, {:.0f} tokens in, {:.0f} out, {:.1f} "
                 "s\n",
                 n("requests.completed"), n("requests.failed"), n("tokens.prompt"),
                 n("tokens.output"), n("window_s"));
  fmt::format_to(std::back_inserter(out),
                 "engine   {:.0f} steps, {:.1f} s in them, {:.0f} preemptions\n", n("engine.steps"),
                 n("engine.step_s"), n("engine.preemptions"));
  out += load::LatencyTable(result, kRows, kColumns) + load::ErrorLines(result);
  fmt::format_to(std::back_inserter(out),
                 "throughput: {:.2f} requests/s, {:.1f} prompt tokens/s, {:.1f} output tokens/s, "
                 "{:.1f} total tokens/s; KV at most {:.0f} of {:.0f} blocks ({:.1f} %), prefix "
                 "cache {}\n",
                 n("rates.completed_per_s"), n("rates.prompt_tokens_per_s"),
                 n("rates.output_tokens_per_s"), n("rates.total_tokens_per_s"),
                 n("kv.peak_referenced_blocks"), n("kv.blocks"),
                 Percent(n("kv.peak_referenced_blocks"), n("kv.blocks")), PrefixText(result));
  return Marked(result, out);
}

}  // namespace sluice
