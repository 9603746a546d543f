// What a step produced. Logits never leave the executor.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "step/batch_plan.h"

namespace sluice {

struct SampledToken {
  TokenId token = 0;
  float logprob = 0;  // of the distribution before temperature and filters; if asked for
  std::vector<std::pair<TokenId, float>>
      top;  // the num_logprobs best, descending, ties by ascending id
};

// Of one row in one step: one, but for drafts.
using AcceptedTokens = absl::InlinedVector<SampledToken, 1>;

// Of a whole sequence: an embedding, or a head's scores. Only passed on until it leaves the engine.
using PooledVector = std::vector<float>;

struct RowResult {
  SequenceId sequence = 0;
  AcceptedTokens tokens;  // accepted tokens in order; empty unless RowOutput::kSample
  PooledVector pooled;    // of RowOutput::kPooled
};

struct StepResult {
  StepId step = 0;
  std::vector<RowResult> rows;  // [R], in the plan's order
  absl::Duration device_time;
  // Of a simulated device: how long it had nothing to do before this step, though a row of the step
  // was there.
  std::optional<absl::Duration> idle_before;
};

}  // namespace sluice
