#include "apps/bench.h"

#include "apps/bench_offline.h"
#include "apps/bench_replay.h"
#include "apps/bench_serve.h"

namespace sluice {

BenchCommands::BenchCommands(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measure a server, or plan one");
  bench->require_subcommand(1);
  commands_.push_back(AddBenchLatency(*bench));
  commands_.push_back(AddBenchReplay(*bench));
  commands_.push_back(AddBenchServe(*bench));
  commands_.push_back(AddBenchRawSend(*bench));
  commands_.push_back(AddBenchThroughput(*bench));
}

std::optional<int> BenchCommands::Run() const {
  for (const BenchCommand& command : commands_) {
    if (*command.app) return command.run();
  }
  return std::nullopt;
}

}  // namespace sluice
