// An executor without weights: scripted tokens, a step-time model, and a shadow of the KV memory in
// which it checks every plan, for tests of scheduler and engine. Without the checks and with a
// clock it is a device: steps follow each other on its time line, in real or in virtual time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "executor/step_time.h"
#include "step/executor.h"

namespace sluice {

struct SimulatedExecutorConfig {
  int32_t max_rows = 32;  // slots
  int32_t kv_block_tokens = 16;
  int32_t num_kv_blocks = 0;
  int max_steps_in_flight = 2;
  StepTimeModel time;

  // With a clock a step starts at Submit or when its predecessor ends, whichever is later, and Wait
  // calls wait_until with the time it ends. Without one nothing waits; time is only reported.
  const Clock* clock = nullptr;  // outlives the executor
  std::function<void(absl::Time)> wait_until;

  bool whole_prompts = false;  // rows must be whole prompts
  bool keeps_kv = true;
  int32_t vector_dim = 8;   // of what pooled rows give
  StepId fail_at_step = 0;  // Wait for it is an Internal error; 0: never

  // What every sequence says, in a circle: output token i of a choice is
  // script[(seed + choice + i) mod n].
  std::vector<TokenId> script;

  // Where there is no script, the token with the given index among a sequence's output. Default:
  // HashedToken below, ids in [0, 1000).
  std::function<TokenId(SequenceId sequence, int32_t output_index)> output_token;

  // Plans are held against the shadow of the KV memory. Without, a plan is believed.
  bool check_plans = true;

  // All tokens of a sequence, at least up to the ones it has computed. With it every row's tokens
  // and the whole content of its blocks are compared to the sequence's own, which finds wrong
  // prefix hits and lost or overwritten KV blocks.
  std::function<std::span<const TokenId>(SequenceId sequence)> expected_tokens;
};

// A well-mixed function of both, in [0, vocab_size).
[[nodiscard]] TokenId HashedToken(SequenceId sequence, int32_t output_index, int32_t vocab_size);

// The vector of a pooled sequence: numbers in [-1, 1].
[[nodiscard]] std::vector<float> HashedVector(SequenceId sequence, int32_t dim);

class SimulatedExecutor final : public Executor {
 public:
  explicit SimulatedExecutor(SimulatedExecutorConfig config);

  [[nodiscard]] int max_steps_in_flight() const override { return config_.max_steps_in_flight; }

  // Errors: InvalidArgument with the first thing wrong in the plan (shapes, slots, positions,
  // blocks, tokens); FailedPrecondition when too many steps are in flight or the executor has
  // failed.
  absl::Status Submit(BatchPlan plan) override;

  // Errors: Internal at fail_at_step; FailedPrecondition out of order. The executor is then
  // unusable.
  absl::StatusOr<StepResult> Wait(StepId step) override;

 private:
  struct Slot {
    SequenceId sequence = 0;     // 0: not known before its first row
    bool used = false;           // has had a SlotInit
    int32_t next_position = -1;  // -1: any block boundary
    TokenId last_token = kTokenFromSlot;
    size_t script_begin = 0;                         // in the script: the choice's output token 0
    std::shared_ptr<const SamplingParams> sampling;  // owners: SlotInit says
  };
  struct Block {  // of the shadow
    SequenceId writer = 0;
    int32_t num_tokens = 0;  // written, from the first
    StepId last_step = 0;    // the last step that names the block
    SequenceId last_sequence = 0;
  };

  struct Step {
    StepResult result;
    absl::Time end;
  };

  absl::Status SetUpSlots(const BatchPlan& plan);
  absl::Status CheckShapes(const BatchPlan& plan) const;
  absl::Status CheckRow(const BatchPlan& plan, int32_t r);
  void AnswerRow(const Row& row, StepResult& result);
  void Time(const BatchPlan& plan, Step& step);
  absl::Status WriteToken(const BatchPlan& plan, int32_t r, int32_t position, TokenId token);
  absl::Status CheckContext(const BatchPlan& plan, int32_t r) const;
  [[nodiscard]] SampledToken Sample(const Slot& slot, const Row& row) const;

  const SimulatedExecutorConfig config_;
  std::vector<Slot> slots_;
  std::vector<Block> blocks_;
  std::vector<TokenId> shadow_;  // [num_kv_blocks, kv_block_tokens]: whose KV stands there
  std::deque<Step> in_flight_;
  absl::Time free_at_ = absl::InfinitePast();  // when the last step submitted ends
  StepId last_submitted_ = 0, last_waited_ = 0;
  bool failed_ = false;
};

}  // namespace sluice
