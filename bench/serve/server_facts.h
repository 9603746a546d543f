// What a run asks the server before it begins.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "bench/serve/options.h"
#include "bench/serve/script.h"
#include "bench/serve/socket.h"

namespace sluice::load {

// options.model, or the first of /v1/models if that is empty.
// Errors: Unavailable if nobody answers; FailedPrecondition if no model is served.
absl::StatusOr<std::string> FindModel(const LoadOptions& options, const Endpoint& endpoint);

// The script of a server with the simulated backend, by its own /tokenize.
// Errors: as FindModel's; FailedPrecondition for an answer that is none.
absl::StatusOr<Script> FetchScript(const LoadOptions& options, const Endpoint& endpoint,
                                   const std::string& model);

}  // namespace sluice::load
