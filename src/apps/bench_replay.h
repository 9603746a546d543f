// `sluice bench replay`: the capacity planner.
#pragma once

#include "apps/bench.h"

namespace sluice {

BenchCommand AddBenchReplay(CLI::App& bench);

}  // namespace sluice
