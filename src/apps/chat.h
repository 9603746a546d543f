// `sluice chat`: a conversation in the terminal with a model in this process.
#pragma once

#include "sluice/config.h"

namespace sluice {

// Reads lines until end of input or /exit. Ctrl-C cancels the answer, not the program. Returns the
// exit status.
int Chat(const Config& config);

}  // namespace sluice
