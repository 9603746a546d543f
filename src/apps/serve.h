// `sluice serve`: front ends around one Service, until a signal or a device error ends them.
#pragma once

#include "sluice/config.h"

namespace sluice {

// Blocks. Returns the process' exit status: 0 after a drain that finished (SIGTERM or SIGINT), 1 if
// it could not start or the drain ran out of time, 70 after a device error. A second signal ends
// the process at once.
int Serve(const Config& config);

// Opens everything a start would open except model and ports. Returns 0 or 1 with one line on
// stderr.
int CheckConfig(const Config& config);

}  // namespace sluice
