// `sluice bench latency` and `sluice bench throughput`: a model in this process, as `sluice serve`
// loads it, without a server or a socket.
#pragma once

#include "apps/bench.h"

namespace sluice {

// A fixed batch again and again: TTFT, TPOT and end to end.
BenchCommand AddBenchLatency(CLI::App& bench);
// Many requests at once: requests/s and tokens/s.
BenchCommand AddBenchThroughput(CLI::App& bench);

}  // namespace sluice
