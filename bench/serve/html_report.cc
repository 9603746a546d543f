#include "bench/serve/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <iterator>
#include <string_view>

#include "bench/serve/summary.h"
#include "bench/serve/svg_plot.h"

namespace sluice::load {
namespace {

namespace json = boost::json;
using Results = std::vector<NamedResult>;

constexpr std::string_view kStyle = R"css(
:root{--bg:#fbfbfa;--card:#fff;--text:#1d2126;--soft:#626a73;--line:#e3e5e8;--bad:#b3261e;--warn:#8a5300;
--c0:#0b6bb3;--c1:#d2601a;--c2:#148a62;--c3:#a2508d;--c4:#7a6a00;--c5:#5b5fc7}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--text:#e6e8ea;--soft:#9aa3ac;--line:#30363c;
--bad:#ff8a80;--warn:#ffc46b;--c0:#63b3ed;--c1:#f6a15b;--c2:#5fd0a5;--c3:#e08fce;--c4:#d9c84a;--c5:#a5a8ff}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:1220px;margin:0 auto;padding:24px 20px 60px}h1{font-size:22px;margin:0 0 2px}h2{font-size:17px;margin:34px 0 10px}
.sub{color:var(--soft);margin:0 0 18px}.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(165px,1fr));gap:12px}
.tile,figure{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;margin:0}
.tile b{display:block;font-size:23px;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}.tile b small{font-size:13px;font-weight:400;color:var(--soft)}
.tile span{color:var(--soft);font-size:13px}.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:14px}
figcaption{font-weight:600;margin-bottom:2px}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .label{font-size:12px}svg .grid{stroke:var(--line)}svg .axis{stroke:var(--soft)}
svg .mark{stroke:var(--bad);stroke-dasharray:5 4}svg text.mark{stroke:none;fill:var(--bad)}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.area{opacity:.16}.dashed{stroke-dasharray:6 4}
.line.s0{stroke:var(--c0)}.line.s1{stroke:var(--c1)}.line.s2{stroke:var(--c2)}.line.s3{stroke:var(--c3)}.line.s4{stroke:var(--c4)}.line.s5{stroke:var(--c5)}
.area.s0,.dot.s0{fill:var(--c0)}.area.s1,.dot.s1{fill:var(--c1)}.area.s2,.dot.s2{fill:var(--c2)}.area.s3,.dot.s3{fill:var(--c3)}.area.s4,.dot.s4{fill:var(--c4)}.area.s5,.dot.s5{fill:var(--c5)}
.legend{font-size:12.5px;color:var(--soft)}.legend span{margin-right:14px;white-space:nowrap}.legend i{display:inline-block;width:18px;height:0;border-top:3px solid;vertical-align:middle;margin-right:5px}
.legend i.dashed{border-top-style:dashed}i.s0{border-color:var(--c0)}i.s1{border-color:var(--c1)}i.s2{border-color:var(--c2)}i.s3{border-color:var(--c3)}i.s4{border-color:var(--c4)}i.s5{border-color:var(--c5)}
.none{color:var(--soft);padding:40px;text-align:center;margin:0}.notes li{color:var(--warn)}.errors{color:var(--bad)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;background:var(--card)}
th,td{padding:5px 14px;border-bottom:1px solid var(--line);text-align:right}th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:500}
.better{color:var(--c2)}.worse{color:var(--bad)}pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;white-space:pre-wrap;overflow-wrap:anywhere}
)css";

// Three digits where they matter.
std::string Number(double value) {
  if (value == 0) return "0";
  if (value >= 1000) return fmt::format("{:.0f}", value);
  if (value >= 100) return fmt::format("{:.1f}", value);
  return fmt::format("{:.3g}", value);
}

const json::array* ArrayAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_array();
}

void AppendTiles(std::string& page, const json::object& r) {
  const auto tile = [&](std::string_view label, double value, std::string_view unit) {
    fmt::format_to(std::back_inserter(page),
                   "<div class=tile><b>{} <small>{}</small></b><span>{}</span></div>",
                   Number(value), unit, label);
  };
  page += "<div class=tiles>";
  if (r.contains("max_rate"))
    tile("highest rate that keeps the limits", NumberAt(r, "max_rate"), "requests/s");
  tile("output tokens", NumberAt(r, "rates.output_tokens_per_s"), "/s");
  tile("requests completed", NumberAt(r, "rates.completed_per_s"), "/s");
  if (NumberAt(r, "options.slo_ms.ttft") + NumberAt(r, "options.slo_ms.itl") +
          NumberAt(r, "options.slo_ms.tpot") + NumberAt(r, "options.slo_ms.e2e") >
      0)
    tile("goodput", NumberAt(r, "rates.goodput_per_s"), "/s");
  tile("TTFT, median", NumberAt(r, "latency_ms.ttft.p50"), "ms");
  tile("TTFT, 99th percentile", NumberAt(r, "latency_ms.ttft.p99"), "ms");
  tile("ITL, median", NumberAt(r, "latency_ms.itl.p50"), "ms");
  tile("ITL, 99th percentile", NumberAt(r, "latency_ms.itl.p99"), "ms");
  tile("chunks per token", NumberAt(r, "tokens.chunks_per_token"), "");
  tile("failed requests", NumberAt(r, "requests.failed"),
       fmt::format("of {:.0f}", NumberAt(r, "requests.scheduled")));
  if (NumberAt(r, "cpu.server_us_per_token") > 0)
    tile("server CPU per token", NumberAt(r, "cpu.server_us_per_token"), "µs");
  page += "</div>";
}

// `whose`: before each note; empty if there is one result only.
void AppendErrors(std::string& page, const json::object& r, const std::string& whose) {
  const json::array* doubts = ArrayAt(r, "doubts");
  if (doubts != nullptr && !doubts->empty()) {
    page += "<ul class=notes>";
    for (const json::value& doubt : *doubts)
      if (doubt.is_string())
        page += "<li>" + EscapeHtml(whose + std::string(doubt.get_string())) + "</li>";
    page += "</ul>";
  }
  const json::value* errors = r.if_contains("errors");
  if (errors == nullptr || !errors->is_object() || errors->get_object().empty()) return;
  page +=
      "<div class=scroll><table class=errors><tr><th>error</th><th>requests</th><th>first "
      "message</th></tr>";
  for (const auto& field : errors->get_object()) {
    if (!field.value().is_object()) continue;
    const json::object& error = field.value().get_object();
    fmt::format_to(std::back_inserter(page), "<tr><td>{}</td><td>{:.0f}</td><td>{}</td></tr>",
                   EscapeHtml(std::string(field.key())), NumberAt(error, "count"),
                   EscapeHtml(TextAt(error, "example")));
  }
  page += "</table></div>";
}

// The buckets of a latency as a distribution function: at each bucket's end, the part below.
PlotSeries Distribution(const NamedResult& named, const char* name, int colour) {
  PlotSeries series{.name = named.name, .colour = colour};
  const json::value* latency = named.result.if_contains("latency_ms");
  if (latency == nullptr || !latency->is_object()) return series;
  const json::value* one = latency->get_object().if_contains(name);
  const json::array* buckets =
      one != nullptr && one->is_object() ? ArrayAt(one->get_object(), "buckets") : nullptr;
  if (buckets == nullptr) return series;
  const double count = NumberAt(one->get_object(), "count");
  double seen = 0, drawn = -1;
  for (const json::value& bucket : *buckets) {
    const json::array* parts = bucket.if_array();
    if (parts == nullptr || parts->size() != 3) return series;
    double values[3];
    for (size_t i = 0; i < 3; ++i) {
      if (!(*parts)[i].is_number()) return series;
      values[i] = (*parts)[i].to_number<double>();
    }
    const auto [begin, end, held] = values;
    seen += held;
    const double part = 100 * seen / count;
    // Gaps of 0, of two chunks in one read, would be far to the left.
    constexpr double kLeastMs = 0.01;
    if (series.points.empty()) series.points.emplace_back(std::max(begin, kLeastMs), 0);
    // Buckets that would not move the curve by a pixel are left out, but the last.
    if (part - drawn < 0.3 && seen < count) continue;
    series.points.emplace_back(std::max(end, kLeastMs), part);
    drawn = part;
  }
  return series;
}

void AppendDistributions(std::string& page, const Results& results) {
  page +=
      "<h2>Latencies: how many requests or tokens were at least that fast</h2><div class=grid2>";
  const std::pair<const char*, const char*> kinds[] = {
      {"ttft", "Time to the first token (TTFT)"},
      {"itl", "Gaps between chunks (ITL)"},
      {"tpot", "Time per output token of a request (TPOT)"},
      {"e2e", "Whole requests"}};
  for (const auto& [name, title] : kinds) {
    Plot plot{.title = title, .x_label = "ms", .y_label = "%", .log_x = true, .max_y = 100};
    int colour = 0;
    for (const NamedResult& named : results)
      plot.series.push_back(Distribution(named, name, colour++));
    const json::object& first = results.front().result;
    const double limit = NumberAt(first, fmt::format("options.slo_ms.{}", name));
    if (limit > 0) plot.marks.push_back({.at = limit, .label = "limit"});
    if (results.size() == 1)
      plot.marks.push_back(
          {.at = NumberAt(first, fmt::format("latency_ms.{}.p99", name)), .label = "p99"});
    page += SvgFigure(plot);
  }
  page += "</div>";
}

// One field of every second; seconds without it are left out.
PlotSeries BySecond(const json::object& result, const char* field, std::string name, int colour) {
  PlotSeries series{.name = std::move(name), .colour = colour};
  const json::array* timeline = ArrayAt(result, "timeline");
  if (timeline == nullptr) return series;
  double second = 0.5;
  for (const json::value& bin : *timeline) {
    const json::value* value = bin.is_object() ? bin.get_object().if_contains(field) : nullptr;
    if (value != nullptr && value->is_number())
      series.points.emplace_back(second, value->to_number<double>());
    ++second;
  }
  return series;
}

void AppendTimeline(std::string& page, const Results& results) {
  page += "<h2>Over time</h2><div class=grid2>";
  const bool one = results.size() == 1;
  Plot chunks{.title = "Chunks received", .x_label = "s", .y_label = "chunks/s"};
  Plot flight{.title = "Requests in flight", .x_label = "s", .y_label = "requests"};
  Plot requests{.title = "Requests", .x_label = "s", .y_label = "requests/s"};
  Plot ttft{.title = "TTFT by the second of the schedule",
            .x_label = "s",
            .y_label = "ms",
            .log_y = true};
  int colour = 0;
  for (const auto& [name, result] : results) {
    const std::string of = one ? "" : name + ", ";
    chunks.series.push_back(BySecond(result, "chunks", name, colour));
    chunks.series.back().area = true;
    flight.series.push_back(BySecond(result, "in_flight", name, colour));
    ttft.series.push_back(BySecond(result, "ttft_p50", of + "median", colour));
    ttft.series.push_back(BySecond(result, "ttft_p99", of + "99th percentile", one ? 1 : colour));
    ttft.series.back().dashed = true;
    requests.series.push_back(BySecond(result, "started", of + "sent", colour));
    requests.series.push_back(BySecond(result, "finished", of + "completed", one ? 2 : colour));
    requests.series.back().dashed = !one;
    if (one) requests.series.push_back(BySecond(result, "failed", "failed", 1));
    ++colour;
  }
  for (const Plot* plot : {&chunks, &ttft, &requests, &flight}) page += SvgFigure(*plot);
  page += "</div>";
}

PlotSeries Curve(const json::array& tries, const char* path, std::string name, int colour) {
  PlotSeries series{.name = std::move(name), .colour = colour};
  for (const json::value& value : tries) {
    if (!value.is_object()) continue;
    const json::object& one = value.get_object();
    series.points.emplace_back(NumberAt(one, "rates.output_tokens_per_s"), NumberAt(one, path));
    const json::value* kept = one.if_contains("kept");
    series.dots.push_back(fmt::format(
        "{} requests/s: {} ms at {} tokens/s, {:.1f} % good{}", Number(NumberAt(one, "rate")),
        Number(NumberAt(one, path)), Number(NumberAt(one, "rates.output_tokens_per_s")),
        NumberAt(one, "attainment") * 100,
        kept != nullptr && kept->is_bool() && kept->get_bool() ? "" : ", limits not kept"));
  }
  return series;
}

void AppendCurves(std::string& page, const Results& results) {
  const bool any = std::any_of(results.begin(), results.end(), [](const NamedResult& named) {
    return named.result.contains("tries");
  });
  if (!any) return;
  page += "<h2>Throughput and latency: one dot a rate</h2><div class=grid2>";
  const std::pair<const char*, const char*> kinds[] = {{"ttft", "TTFT"}, {"itl", "ITL"}};
  for (const auto& [name, title] : kinds) {
    Plot plot{.title = fmt::format("{} against throughput", title),
              .x_label = "output tokens/s",
              .y_label = "ms",
              .log_y = true};
    int colour = 0;
    for (const auto& [run, result] : results) {
      const json::array* tries = ArrayAt(result, "tries");
      if (tries == nullptr) continue;
      const std::string of = results.size() == 1 ? "" : run + ", ";
      const std::string base = fmt::format("latency_ms.{}.", name);
      plot.series.push_back(Curve(*tries, (base + "p50").c_str(), of + "median", colour));
      plot.series.push_back(Curve(*tries, (base + "p99").c_str(), of + "99th percentile",
                                  results.size() == 1 ? 1 : colour));
      plot.series.back().dashed = true;
      ++colour;
    }
    const double limit = NumberAt(results.front().result, fmt::format("options.slo_ms.{}", name));
    if (limit > 0) plot.marks.push_back({.at = limit, .vertical = false, .label = "limit"});
    page += SvgFigure(plot);
  }
  page += "</div>";
}

void AppendTriesTable(std::string& page, const json::object& r) {
  const json::array* tries = ArrayAt(r, "tries");
  if (tries == nullptr) return;
  page +=
      "<h2>Rates that were tried</h2><div class=scroll><table><tr><th>requests/s</th><th>good "
      "%</th><th>tokens/s</th><th>TTFT p50</th><th>TTFT p99</th><th>ITL p50</th><th>ITL p99</th>"
      "<th>failed</th></tr>";
  for (const json::value& value : *tries) {
    if (!value.is_object()) continue;
    const json::object& one = value.get_object();
    fmt::format_to(std::back_inserter(page), "<tr><td>{}</td><td>{:.1f}</td>",
                   Number(NumberAt(one, "rate")), NumberAt(one, "attainment") * 100);
    for (const char* path :
         {"rates.output_tokens_per_s", "latency_ms.ttft.p50", "latency_ms.ttft.p99",
          "latency_ms.itl.p50", "latency_ms.itl.p99", "failed"})
      fmt::format_to(std::back_inserter(page), "<td>{}</td>", Number(NumberAt(one, path)));
    page += "</tr>";
  }
  page += "</table></div>";
}

void AppendLatencyTable(std::string& page, const json::object& r) {
  page += "<h2>All percentiles (ms)</h2><div class=scroll><table><tr><th></th>";
  constexpr const char* kColumns[] = {"count", "mean", "p50", "p90", "p95", "p99", "p999", "max"};
  for (const char* column : kColumns)
    fmt::format_to(std::back_inserter(page), "<th>{}</th>", column);
  page += "</tr>";
  for (const auto& [name, label] : {std::pair{"ttft", "TTFT"},
                                    {"itl", "ITL"},
                                    {"tpot", "TPOT"},
                                    {"e2e", "whole request"},
                                    {"late", "sent late by"}}) {
    fmt::format_to(std::back_inserter(page), "<tr><td>{}</td>", label);
    for (const char* column : kColumns)
      fmt::format_to(std::back_inserter(page), "<td>{}</td>",
                     Number(NumberAt(r, fmt::format("latency_ms.{}.{}", name, column))));
    page += "</tr>";
  }
  page += "</table></div>";
}

void AppendComparison(std::string& page, const Results& results) {
  page += "<h2>Side by side</h2><div class=scroll><table><tr><th></th>";
  for (const NamedResult& named : results) page += "<th>" + EscapeHtml(named.name) + "</th>";
  page += "<th>change</th></tr>";
  const json::object &a = results.front().result, &b = results.back().result;
  for (const ComparedValue& value : ComparedValues()) {
    const double in_a = NumberAt(a, value.path), in_b = NumberAt(b, value.path);
    if (in_a == 0 && in_b == 0) continue;
    fmt::format_to(std::back_inserter(page), "<tr><td>{} {}</td>", value.label, value.unit);
    for (const NamedResult& named : results)
      fmt::format_to(std::back_inserter(page), "<td>{}</td>",
                     Number(NumberAt(named.result, value.path)));
    const double change = in_a == 0 ? 0 : (in_b / in_a - 1) * 100;
    const bool better = (change < 0) == value.less_is_better;
    const char* mood = std::abs(change) < 2 ? "" : (better ? "better" : "worse");
    fmt::format_to(std::back_inserter(page), "<td class=\"{}\">{}</td></tr>", mood,
                   in_a == 0 ? "" : fmt::format("{:+.1f} %", change));
  }
  page += "</table></div>";
}

}  // namespace

std::string HtmlReport(const Results& results) {
  const json::object& first = results.front().result;
  const bool one = results.size() == 1;
  std::string page = fmt::format(
      "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
      "content=\"width=device-width,initial-scale=1\"><title>Load "
      "test{}</title><style>{}</style><main>",
      one ? "" : ": comparison", kStyle);
  page += one ? "<h1>" + EscapeHtml(TextAt(first, "options.model")) + " at " +
                    EscapeHtml(TextAt(first, "options.url")) + "</h1>"
              : std::string("<h1>Comparison of load tests</h1>");
  for (const NamedResult& named : results)
    page += fmt::format("<p class=sub>{}{}; {:.1f} s measured; {}; {}</p>",
                        one ? "" : EscapeHtml(named.name) + ": ",
                        EscapeHtml(LoadText(named.result)), NumberAt(named.result, "window_s"),
                        EscapeHtml(TextAt(named.result, "machine.cpu")),
                        EscapeHtml(TextAt(named.result, "finished_at")));
  if (one) {
    AppendTiles(page, first);
  } else {
    AppendComparison(page, results);
  }
  for (const NamedResult& named : results)
    AppendErrors(page, named.result, one ? "" : named.name + ": ");
  AppendCurves(page, results);
  AppendDistributions(page, results);
  AppendTimeline(page, results);
  if (one) {
    AppendTriesTable(page, first);
    AppendLatencyTable(page, first);
  }
  for (const auto& [name, result] : results) {
    const json::value* options = result.if_contains("options");
    if (options != nullptr)
      page += "<details><summary>Options of " + EscapeHtml(name) + "</summary><pre>" +
              EscapeHtml(json::serialize(*options)) + "</pre></details>";
  }
  return page + "</main></html>\n";
}

}  // namespace sluice::load
