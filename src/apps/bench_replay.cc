#include "apps/bench_replay.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "apps/config_flags.h"
#include "apps/kv_plan.h"
#include "apps/replay.h"
#include "apps/simulation.h"
#include "apps/trace.h"
#include "base/status_macros.h"
#include "model/model_file.h"

namespace sluice {
namespace {

// The settings of a server that decide how a trace runs.
constexpr std::array<std::string_view, 13> kSettings = {
    "model",           "quantize",     "max-model-len",        "sim-device",
    "model-shape",     "kv-cache-mib", "gpu-memory-fraction",  "max-rows",
    "max-step-tokens", "prefix-cache", "max-waiting-requests", "max-waiting-tokens",
    "max-wait-s"};

struct Arguments {
  ConfigFlags settings;
  std::string trace, json;
  double cost_per_hour = 0, slo_ttft = 1, slo_itl = 0.05;
};

// The environment is not asked: the same command gives the same bytes.
absl::StatusOr<Config> ConfigOf(const Arguments& arguments, const CLI::App& app) {
  RawSettings raw = arguments.settings.Given(app);
  raw["backend"] = "sim";
  if (!raw.contains("sim-device")) raw["sim-device"] = "h100";
  if (!raw.contains("model") && !raw.contains("model-shape")) raw["model-shape"] = "llama-3.1-8b";
  return LoadConfig(raw, [](const char*) -> const char* { return nullptr; }, "");
}

absl::StatusOr<ModelShape> SimulatedShape(const Config& config) {
  if (!config.model_shape.empty()) return LoadShape(config.model_shape);
  ASSIGN_OR_RETURN(const ModelFile file, ModelFile::Open(config.model));
  if (file.encoder.has_value())
    return absl::UnimplementedError(fmt::format("{}: an encoder", config.model));
  return ShapeOf(config, file);
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  return out ? absl::OkStatus()
             : absl::UnavailableError(fmt::format("{}: cannot be written", path));
}

absl::Status Run(const Arguments& arguments, const CLI::App& app) {
  ASSIGN_OR_RETURN(const Config config, ConfigOf(arguments, app));
  ASSIGN_OR_RETURN(const DeviceSpec device, LoadDevice(config.sim_device));
  ASSIGN_OR_RETURN(const ModelShape shape, SimulatedShape(config));
  ASSIGN_OR_RETURN(const std::vector<TraceRequest> trace, ReadTrace(arguments.trace));
  ASSIGN_OR_RETURN(const KvPlan kv, PlanKv(config, shape.config,
                                           shape.KvTokenBytes() * kKvBlockTokens, [&](int64_t len) {
                                             return PlanSimulatedMemory(config, device, shape, len);
                                           }));
  const ReplayOptions options{.scheduler = {.max_rows = config.max_rows,
                                            .max_step_tokens = config.max_step_tokens,
                                            .kv_block_tokens = kKvBlockTokens,
                                            .num_kv_blocks = kv.num_blocks,
                                            .max_model_len = kv.max_model_len,
                                            .max_waiting_sequences = config.max_waiting_requests,
                                            .max_waiting_tokens = config.max_waiting_tokens,
                                            .max_steps_in_flight = device.max_steps_in_flight,
                                            .prefix_cache = config.prefix_cache},
                              .max_wait = absl::Seconds(config.max_wait_s),
                              .time = StepTimeModel::Of(device, shape),
                              .slo_ttft_s = arguments.slo_ttft,
                              .slo_itl_s = arguments.slo_itl,
                              .cost_per_hour = arguments.cost_per_hour};
  ASSIGN_OR_RETURN(const ReplayResult result, Replay(trace, options));
  const std::string what = fmt::format("{}, {}, max-rows {}, max-step-tokens {}", device.name,
                                       shape.name, config.max_rows, config.max_step_tokens);
  fmt::print("{}", ReplayTable(result, options, what));
  if (arguments.json.empty()) return absl::OkStatus();
  return WriteFile(arguments.json, ReplayJson(result, options, what));
}

}  // namespace

BenchCommand AddBenchReplay(CLI::App& bench) {
  CLI::App* app = bench.add_subcommand(
      "replay", "Run a trace on a simulated device in virtual time: what would it give?");
  // Owners: this lambda below, and so the command.
  const auto arguments = std::make_shared<Arguments>();
  app->add_option("--trace", arguments->trace, "The trace: docs/traces.md describes the format")
      ->required();
  app->add_option("--json", arguments->json, "Also write the results to this file, as JSON");
  app->add_option("--slo-ttft", arguments->slo_ttft, "Goodput: seconds to the first token")
      ->check(CLI::Range(0.0, 1e6));
  app->add_option("--slo-itl", arguments->slo_itl, "Goodput: seconds between tokens")
      ->check(CLI::Range(0.0, 1e6));
  app->add_option("--cost-per-hour", arguments->cost_per_hour, "Cost of the device")
      ->check(CLI::Range(0.0, 1e6));
  arguments->settings.AddTo(app, kSettings);
  return {app, [app, arguments] {
            const absl::Status status = Run(*arguments, *app);
            if (status.ok()) return 0;
            fmt::print(stderr, "sluice: {}\n", std::string(status.message()));
            return 1;
          }};
}

}  // namespace sluice
