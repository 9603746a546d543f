// One HTTP request, waited for: what a run asks before it begins.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/serve/socket.h"

namespace sluice::load {

struct HttpAnswer {
  int status = 0;
  std::string body;
};
// `body` empty: GET, else POST of JSON. `path` stands below the endpoint's host, not its path.
// Errors: Unavailable if nobody answers; DeadlineExceeded; Internal for what is no HTTP;
// ResourceExhausted for a body beyond 16 MiB.
absl::StatusOr<HttpAnswer> HttpOnce(const Endpoint& endpoint, std::string_view path,
                                    std::string_view body, const std::string& api_key,
                                    absl::Duration timeout);

}  // namespace sluice::load
