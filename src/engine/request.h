// What the engine runs: a GenerateRequest after the service has checked, templated and tokenized
// it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/output.h"
#include "engine/pooled_call.h"
#include "sluice/service.h"
#include "sluice/types.h"

namespace sluice {

struct Request {
  CallId call = 0;
  EventQueue* queue = nullptr;  // lives until this request's End
  StreamTag tag = 0;
  std::string model;
  std::vector<TokenId> prompt_tokens;
  std::vector<TokenId> resume_output_tokens;
  std::shared_ptr<const SamplingParams>
      sampling;  // owners: this request, its sequences, plans in flight
  // Set: vectors are made of its inputs, and prompt, sampling, choices and output are not used.
  std::optional<PooledWork> pooled;
  int32_t num_choices = 1;
  int32_t max_output_tokens = 0;  // a choice, resumed ones included
  int32_t priority = 0;
  std::string tenant;
  int32_t weight = 1;          // of the tenant, as the scheduler's
  double max_queue_share = 1;  // of the tenant, as in Demand
  absl::Time deadline = absl::InfiniteFuture();
  absl::Time accepted_at;  // when the service took it
  OutputOptions output;
  // Called once, on the engine thread, before the End of an accepted request; may be empty.
  std::function<void(const Usage& usage)> ended;

  // What the request adds to the waiting queue at once. The inputs of a pooled one come into the
  // scheduler little by little, but all of their tokens count.
  [[nodiscard]] int32_t num_sequences() const { return pooled ? 1 : num_choices; }
  [[nodiscard]] int64_t num_waiting_tokens() const {
    return pooled ? pooled->num_tokens() : static_cast<int64_t>(prompt_tokens.size()) * num_choices;
  }
};

}  // namespace sluice
