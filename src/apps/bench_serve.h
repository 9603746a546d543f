// `sluice bench serve`: load for any OpenAI-compatible server. `sluice bench raw-send`: the floor
// to compare with. What they do is in bench/serve.
#pragma once

#include "apps/bench.h"

namespace sluice {

BenchCommand AddBenchServe(CLI::App& bench);
BenchCommand AddBenchRawSend(CLI::App& bench);

}  // namespace sluice
