// A trace of requests without their contents: when they come, how long they are, what they share.
// docs/traces.md describes the format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/types.h"

namespace sluice {

struct TraceRequest {
  double at_s = 0;  // since the trace began
  int32_t prompt_tokens = 0, output_tokens = 0;
  // The prompt begins with these pieces of prefix_tokens each, the last cut where the prompt ends.
  // Equal hashes are equal tokens.
  std::vector<uint64_t> prefix;
  int32_t prefix_tokens = 16;
  std::string tenant;
  int32_t priority = 0;
};

struct TraceLimits {
  int64_t max_requests = 1'000'000;
  int64_t max_prefix_pieces = 16'000'000;   // of all requests
  int64_t max_output_tokens = 100'000'000;  // of all requests
};

// One JSON object a line, in order of time. Errors: InvalidArgument with `name`, the line, the
// field and what is allowed.
absl::StatusOr<std::vector<TraceRequest>> ParseTrace(std::string_view text, const std::string& name,
                                                     const TraceLimits& limits = {});
// Errors: also NotFound.
absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& file);

// Tokens in [0, 2^31) that are the same wherever the trace says so and nowhere else; `number`: of
// the request in the trace.
[[nodiscard]] std::vector<TokenId> PromptOf(const TraceRequest& request, uint64_t number);

}  // namespace sluice
