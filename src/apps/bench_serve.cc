#include "apps/bench_serve.h"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/load_flags.h"
#include "apps/pending_signals.h"
#include "base/status_macros.h"
#include "bench/serve/html_report.h"
#include "bench/serve/options.h"
#include "bench/serve/progress.h"
#include "bench/serve/rate_search.h"
#include "bench/serve/raw_send.h"
#include "bench/serve/result_json.h"
#include "bench/serve/runner.h"
#include "bench/serve/slo.h"
#include "bench/serve/summary.h"

namespace sluice {
namespace {

namespace json = boost::json;

int Fail(const absl::Status& status) {
  fmt::print(stderr, "sluice: {}\n", std::string(status.message()));
  return 1;
}

struct ServeFlags {
  load::LoadOptions load;
  std::string arrivals = "poisson", trace, slo, api_key_file;
  std::string json_file, html_file;
  std::vector<std::string> compare;
  std::vector<double> rates;
  bool find_max_rate = false, quiet = false;
  load::RateSearchOptions search;
};

void AddLoadFlags(CLI::App* app, ServeFlags& flags) {
  load::LoadOptions& o = flags.load;
  const auto positive = CLI::Range(1e-6, 1e7);
  const auto seconds = CLI::Range(0.0, 86400.0);
  app->add_option("--rate", o.arrivals.rate, "Open loop: requests/s (default 1)")->check(positive);
  app->add_option("--arrivals", flags.arrivals, "poisson, constant, gamma, ramp or trace")
      ->check(CLI::IsMember({"poisson", "constant", "gamma", "ramp", "trace"}));
  app->add_option("--cv", o.arrivals.cv, "gamma: standard deviation of the gaps over their mean")
      ->check(CLI::Range(0.01, 100.0));
  app->add_option("--ramp-to", o.arrivals.ramp_to, "ramp: requests/s at the end")->check(positive);
  app->add_option("--trace", flags.trace, "trace: JSON lines with at_s or timestamp (ms)");
  app->add_option("--time-scale", o.arrivals.time_scale, "trace: 2 plays it half as fast")
      ->check(positive);
  app->add_option("--concurrency", o.concurrency, "Closed loop of so many users, instead of a rate")
      ->check(CLI::Range(1, 1'000'000));
  app->add_option("--think-s", o.think_seconds, "Pause of a user or a conversation between turns")
      ->check(seconds);
  app->add_option("--warmup-s", o.warmup_seconds, "Sent, but not measured")->check(seconds);
  app->add_option("--duration-s", o.duration_seconds,
                  "Warm-up included (default 30); 0: until --requests have ended")
      ->check(seconds);
  app->add_option("--requests", o.requests, "At most so many")->check(CLI::Range(1, 1'000'000'000));
  app->add_option("--timeout-s", o.timeout_seconds, "Of a request (default 120)")->check(seconds);
  app->add_option("--drain-s", o.drain_seconds, "For requests that still run at the end (30)")
      ->check(seconds);
}

void AddRequestFlags(CLI::App* app, ServeFlags& flags) {
  load::LoadOptions& o = flags.load;
  app->add_option("--url", o.url, "http[s]://HOST[:PORT][/PATH] (default http://127.0.0.1:8000)");
  app->add_option("--protocol", o.protocol, "openai, grpc or kserve")
      ->check(CLI::IsMember({"openai", "grpc", "kserve"}));
  app->add_flag_callback(
      "--no-stream", [&o] { o.stream = false; }, "kserve: ModelInfer, the whole answer at once");
  app->add_option("--model", o.model, "Default: the first that the server lists");
  app->add_option("--api-key-file", flags.api_key_file, "A file that holds the key");
  app->add_option("--tls-ca", o.tls.ca_file, "PEM file of who may sign the server's certificate");
  app->add_flag("--tls-insecure", o.tls.insecure, "Take any certificate");
  app->add_option("--extra-body", o.extra_body,
                  "JSON object whose fields go into each request, or its sampling_parameters");
  AddAnswerFlags(app, o);
  AddPromptFlags(app, o);
  AddPrefixFlags(app, o.prompts);
  app->add_option("--turns", o.prompts.turns, "Turns of a conversation")
      ->check(CLI::Range(1, 1000));
  app->add_option("--max-connections", o.max_connections, "At most so many at once (4096)")
      ->check(CLI::Range(1, 1'000'000));
  app->add_option("--grpc-port", o.grpc_port, "grpc, kserve: of the same host (8001)")
      ->check(CLI::Range(1, 65535));
  app->add_option("--grpc-connections", o.grpc_connections,
                  "grpc, kserve: that share the calls (16)")
      ->check(CLI::Range(1, 10'000));
  app->add_flag("--new-connections", o.new_connections, "One for each request");
  app->add_option("--connection-rate", o.connection_rate,
                  "More connections/s that each ask GET /livez and are closed")
      ->check(CLI::Range(0.0, 1e6));
  app->add_option("--idle-connections", o.idle_connections, "More that send nothing")
      ->check(CLI::Range(0, 1'000'000));
  app->add_option("--slow-fraction", o.slow_fraction, "Of the requests: read slowly")
      ->check(CLI::Range(0.0, 1.0));
  app->add_option("--slow-pause-s", o.slow_pause_seconds, "Between 2 KiB that such a one reads (1)")
      ->check(CLI::Range(0.0, 3600.0));
  app->add_flag("--check-script", o.check_script, "Compare answers with the simulated backend's");
}

void AddResultFlags(CLI::App* app, ServeFlags& flags) {
  app->add_option("--slo", flags.slo, "Limits of a good request: ttft=200ms,itl=50ms,tpot=,e2e=");
  app->add_flag("--find-max-rate", flags.find_max_rate, "Search the highest rate that keeps --slo");
  app->add_option("--rates", flags.rates, "Several runs: 1,2,4")->delimiter(',');
  app->add_option("--slo-attainment", flags.search.attainment,
                  "Part of the requests that must be good (default 0.99)")
      ->check(CLI::Range(0.0, 1.0));
  app->add_option("--server-pid", flags.load.server_pid, "Whose CPU time to take");
  app->add_option("--json", flags.json_file, "Write the result; - for stdout");
  app->add_option("--html", flags.html_file, "Write a report for people");
  app->add_option("--compare", flags.compare, "Two results: A.json B.json. No load is made")
      ->expected(2);
  app->add_flag("--quiet", flags.quiet, "No progress");
}

absl::StatusOr<std::string> ReadKey(const std::string& path) {
  std::ifstream file(path);
  std::string key;
  if (!std::getline(file, key) || key.empty())
    return absl::NotFoundError(fmt::format("api-key-file {} has no key", path));
  return key;
}

// What the flags say together. Errors: InvalidArgument by the flag's name.
absl::Status Complete(const CLI::App& app, ServeFlags& flags) {
  load::LoadOptions& o = flags.load;
  ASSIGN_OR_RETURN(o.slo, load::ParseSlo(flags.slo));
  const std::pair<const char*, load::ArrivalKind> kinds[] = {
      {"poisson", load::ArrivalKind::kPoisson},
      {"constant", load::ArrivalKind::kConstant},
      {"gamma", load::ArrivalKind::kGamma},
      {"ramp", load::ArrivalKind::kRamp},
      {"trace", load::ArrivalKind::kTrace}};
  for (const auto& [name, kind] : kinds)
    if (flags.arrivals == name) o.arrivals.kind = kind;
  if (o.arrivals.kind == load::ArrivalKind::kTrace) {
    ASSIGN_OR_RETURN(o.arrivals.trace, load::ReadTrace(flags.trace));
  }
  const auto refuse = [&](std::initializer_list<const char*> flags_of, const char* protocols) {
    for (const char* name : flags_of) {
      if (app.count(name) > 0)
        return absl::InvalidArgumentError(fmt::format("{} is of protocol {}", name + 2, protocols));
    }
    return absl::OkStatus();
  };
  if (o.protocol != "openai") {
    RETURN_IF_ERROR(refuse({"--endpoint", "--new-connections", "--connection-rate",
                            "--idle-connections", "--slow-fraction"},
                           "openai"));
  }
  if (o.protocol == "grpc") RETURN_IF_ERROR(refuse({"--extra-body"}, "openai and kserve"));
  if (o.protocol != "kserve") RETURN_IF_ERROR(refuse({"--no-stream"}, "kserve"));
  if (o.concurrency > 0 && (app.count("--rate") > 0 || app.count("--arrivals") > 0))
    return absl::InvalidArgumentError(
        "concurrency is a closed loop, rate and arrivals an open one");
  if (o.arrivals.kind == load::ArrivalKind::kRamp && o.duration_seconds <= 0)
    return absl::InvalidArgumentError("a ramp needs duration-s: it takes as long");
  if (o.duration_seconds <= 0 && o.requests == 0)
    return absl::InvalidArgumentError("without duration-s, requests must say when to end");
  if (o.duration_seconds > 0 && o.warmup_seconds >= o.duration_seconds)
    return absl::InvalidArgumentError("warmup-s must be below duration-s");
  if ((flags.find_max_rate || !flags.rates.empty()) && o.concurrency > 0)
    return absl::InvalidArgumentError("find-max-rate and rates need an open loop");
  if (flags.find_max_rate && !o.slo.Any())
    return absl::InvalidArgumentError("find-max-rate needs slo");
  for (const double rate : flags.rates)
    if (!(rate > 0 && rate <= 1e7)) return absl::InvalidArgumentError("rates must be above 0");
  if (o.check_script && !o.seed_each)
    return absl::InvalidArgumentError("check-script needs the seed that no-seed leaves out");
  if (!flags.api_key_file.empty()) {
    ASSIGN_OR_RETURN(o.api_key, ReadKey(flags.api_key_file));
  }
  o.arrivals.ramp_seconds = o.duration_seconds;
  o.arrivals.seed = o.seed;
  o.prompts.seed = o.seed + 1;
  return absl::OkStatus();
}

absl::StatusOr<json::object> RunOnce(const load::LoadOptions& options, bool show,
                                     const PendingSignals& stop) {
  load::ProgressView view(stderr, options.duration_seconds);
  load::RunHooks hooks{.stopped = [&] { return stop.Any(); }};
  if (show) hooks.progress = [&](const load::Progress& progress) { view.Show(progress); };
  ASSIGN_OR_RETURN(const load::LoadResult result, load::RunLoad(options, hooks));
  view.Clear();
  return load::ResultJson(options, result);
}

absl::StatusOr<json::object> RunAll(const ServeFlags& flags) {
  const PendingSignals stop{SIGINT, SIGTERM};
  const bool show = !flags.quiet && isatty(STDERR_FILENO) != 0;
  if (!flags.find_max_rate && flags.rates.empty()) return RunOnce(flags.load, show, stop);
  load::RateSearchOptions search = flags.search;
  search.first_rate = flags.load.arrivals.rate;
  const load::RunAtRate run = [&](double rate) -> absl::StatusOr<json::object> {
    if (stop.Any()) return absl::CancelledError("interrupted");
    load::LoadOptions options = flags.load;
    options.arrivals.rate = rate;
    return RunOnce(options, show, stop);
  };
  const load::TryReport report = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  return flags.find_max_rate ? load::FindMaxRate(search, run, report)
                             : load::RunRates(flags.rates, search.attainment, run, report);
}

absl::Status WriteReports(const ServeFlags& flags, const std::vector<load::NamedResult>& results) {
  if (!flags.html_file.empty())
    RETURN_IF_ERROR(load::WriteFile(flags.html_file, load::HtmlReport(results)));
  if (flags.json_file.empty() || results.size() != 1) return absl::OkStatus();
  const std::string text = json::serialize(results[0].result) + "\n";
  if (flags.json_file != "-") return load::WriteFile(flags.json_file, text);
  fmt::print("{}", text);
  return absl::OkStatus();
}

int Compare(const ServeFlags& flags) {
  std::vector<load::NamedResult> results;
  for (const std::string& path : flags.compare) {
    auto result = load::ReadResultFile(path);
    if (!result.ok()) return Fail(result.status());
    results.push_back({path, *std::move(result)});
  }
  fmt::print("{}", load::Comparison(results[0].result, results[1].result, results[0].name,
                                    results[1].name));
  const absl::Status written = WriteReports(flags, results);
  return written.ok() ? 0 : Fail(written);
}

// 0: everything was answered; 2: some requests failed; 1: no run, or no rate kept the limits.
int RunServe(const CLI::App& app, ServeFlags& flags) {
  if (!flags.compare.empty()) return Compare(flags);
  if (const absl::Status complete = Complete(app, flags); !complete.ok()) return Fail(complete);
  auto result = RunAll(flags);
  if (!result.ok()) return Fail(result.status());
  if (flags.json_file != "-") fmt::print("{}", load::Summary(*result));
  const bool failed = load::NumberAt(*result, "requests.failed") > 0 ||
                      load::NumberAt(*result, "new_connections.failed") > 0;
  const double max_rate = load::NumberAt(*result, "max_rate");
  const absl::Status written = WriteReports(flags, {{flags.load.url, *std::move(result)}});
  if (!written.ok()) return Fail(written);
  if (!flags.find_max_rate) return failed ? 2 : 0;
  fmt::print("the limits are kept up to {:.2f} requests/s\n", max_rate);
  return max_rate > 0 ? 0 : 1;
}

}  // namespace

BenchCommand AddBenchServe(CLI::App& bench) {
  CLI::App* app = bench.add_subcommand(
      "serve", "Send load to an OpenAI-compatible server and measure what comes back");
  auto flags = std::make_shared<ServeFlags>();  // owners: CLI11's options and `run`
  AddRequestFlags(app, *flags);
  AddLoadFlags(app, *flags);
  AddResultFlags(app, *flags);
  return {app, [app, flags] { return RunServe(*app, *flags); }};
}

BenchCommand AddBenchRawSend(CLI::App& bench) {
  CLI::App* app = bench.add_subcommand(
      "raw-send", "Serve prepared chunks on loopback: the least that a server can cost");
  auto options = std::make_shared<load::RawSendOptions>();  // owners: CLI11's options and `run`
  app->add_option("--port", options->port, "Default: any that is free");
  app->add_option("--step-ms", options->step_ms, "Between the chunks of a stream (10)")
      ->check(CLI::Range(0.01, 60000.0));
  app->add_option("--first-ms", options->first_ms, "Before the first chunk")
      ->check(CLI::Range(0.0, 60000.0));
  app->add_option("--first-spread-ms", options->first_spread_ms,
                  "Request k waits (k mod 100) / 99 of this longer")
      ->check(CLI::Range(0.0, 60000.0));
  app->add_option("--chunk-bytes", options->chunk_bytes, "On the wire, framing included (282)")
      ->check(CLI::Range(1, 1 << 20));
  CLI::Option* cert = app->add_option("--tls-cert", options->tls_cert, "PEM file");
  CLI::Option* key = app->add_option("--tls-key", options->tls_key, "PEM file");
  cert->needs(key);
  key->needs(cert);
  return {app, [options] {
            const PendingSignals stop{SIGINT, SIGTERM};
            const std::string scheme = options->tls_cert.empty() ? "http" : "https";
            const auto ready = [&](uint16_t port) {
              fmt::print("raw-send is ready at {}://127.0.0.1:{}\n", scheme, port);
              std::fflush(stdout);
            };
            const absl::Status status =
                load::ServeRawSend(*options, ready, [&] { return stop.Any(); });
            return status.ok() ? 0 : Fail(status);
          }};
}

}  // namespace sluice
