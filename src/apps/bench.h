// `sluice bench …`: measures a server, or plans one. A subcommand is a file of its own beside this
// one and joins the list in bench.cc.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <vector>

namespace sluice {

// `app` knows after parsing whether it was called; `run` then does it and returns the process' exit
// status. `run` owns what the flags were parsed into.
struct BenchCommand {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

class BenchCommands {
 public:
  // Adds `bench` and its subcommands; `app` outlives this.
  explicit BenchCommands(CLI::App& app);

  // After parsing. Empty: none of them was called.
  [[nodiscard]] std::optional<int> Run() const;

 private:
  std::vector<BenchCommand> commands_;
};

}  // namespace sluice
