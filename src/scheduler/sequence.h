// One token stream as the scheduler sees it. Plain data: scheduler.cc keeps it true.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/prefix_index.h"
#include "sluice/types.h"
#include "step/batch_plan.h"

namespace sluice {

struct Tenant;

// kHeld: waiting, and not to be admitted before its leader's prompt is computed.
// kLeaving: preempted while steps in flight name it: it has no slot, keeps its blocks, takes its
// last tokens, and waits once those steps are applied.
// kEnded: gone for the caller; it stays until the last step that names it is applied.
enum class SequenceState : uint8_t { kHeld, kWaiting, kRunning, kLeaving, kEnded };

struct Sequence {
  // What a step reads first, so that a thousand rows cost few cache lines each.
  SequenceId id = 0;
  SequenceState state = SequenceState::kWaiting;
  bool slot_is_new = false;  // the next row must bring a SlotInit
  // Its one output is a vector, which counts as an output token that is never known: it is pending
  // from the row with the last prompt token until that row is applied, and then the sequence ends.
  bool pooled = false;
  bool prompt_is_open = false;  // as counted in its tenant
  int32_t slot = -1;            // -1: none; only running sequences have one
  int32_t num_prompt_tokens = 0;
  int32_t max_output_tokens = 0;  // no more than fits the context and the KV pool
  int32_t num_planned_tokens =
      0;  // KV computed or in a step in flight: positions [0, num_planned_tokens)
  int32_t num_computed_tokens = 0;  // KV valid: positions [0, num_computed_tokens)
  int32_t num_pending_samples = 0;  // tokens that steps in flight will sample
  int32_t num_rows_in_flight = 0;
  int32_t num_published_blocks = 0;  // of `blocks`, from the front: seen by the prefix index
  std::vector<TokenId> tokens;       // prompt, then the known output
  std::vector<BlockId> blocks;       // the block table
  Tenant* tenant = nullptr;          // owned by Tenants
  int32_t num_charged_tokens = 0;  // positions its tenant was charged for; recomputing them is free
  StepId last_planned = 0;         // the last step with a row of it
  PrefixNode prefix;               // of the last published block, or the root

  std::shared_ptr<const SamplingParams> sampling;  // owners: SequenceSpec and SlotInit say
  uint32_t choice = 0;
  int32_t priority = 0;  // from its admission on with what it had gained by ageing
  absl::Time waiting_since = absl::InfiniteFuture();
  uint64_t arrival = 0;  // order of Add
  uint64_t admission =
      0;  // order of first admission, its age; 0: never admitted. Kept over preemption
  int32_t second_begin = 0;  // as in Row
  std::string salt;
  absl::Time deadline;
  bool read_prefix_cache = true;
  int32_t num_cached_tokens = 0;     // prompt tokens found in the prefix cache at first admission
  Sequence* leader = nullptr;        // while kHeld
  std::vector<Sequence*> followers;  // sequences held for this one, in order of arrival

  [[nodiscard]] int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  // Output tokens, those in flight included.
  [[nodiscard]] int32_t num_output_tokens() const {
    return num_tokens() + num_pending_samples - num_prompt_tokens;
  }
  // Tokens to compute before the next one can be sampled: 1 while generating, more while a prompt
  // is unfinished.
  [[nodiscard]] int32_t num_unplanned_tokens() const {
    return num_tokens() + num_pending_samples - num_planned_tokens;
  }
};

// Who advances first and is preempted last among running sequences.
[[nodiscard]] inline bool Outranks(const Sequence& a, const Sequence& b) {
  return a.priority != b.priority ? a.priority < b.priority : a.admission < b.admission;
}

}  // namespace sluice
