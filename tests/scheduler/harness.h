// A scheduler with a simulated executor behind it, one call a step: for tests of single behaviours.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "executor/simulated_executor.h"
#include "scheduler/scheduler.h"

namespace sluice {

// Blocks of 4 tokens, 4 rows, 16 tokens a step, 64 blocks.
inline SchedulerConfig SmallConfig() {
  SchedulerConfig config;
  config.max_rows = 4;
  config.max_step_tokens = 16;
  config.kv_block_tokens = 4;
  config.num_kv_blocks = 64;
  config.max_model_len = 128;
  return config;
}

// Tokens first, first + 1, ...
inline std::vector<TokenId> Tokens(int32_t count, TokenId first = 100) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = first++;
  return tokens;
}

inline SequenceSpec Spec(SequenceId id, std::vector<TokenId> prompt, int32_t max_output_tokens) {
  SequenceSpec spec;
  spec.id = id;
  spec.sampling = std::make_shared<SamplingParams>();
  spec.prompt_tokens = std::move(prompt);
  spec.max_output_tokens = max_output_tokens;
  return spec;
}

class Harness {
 public:
  explicit Harness(const SchedulerConfig& config) : config_(config), scheduler_(config) {
    SimulatedExecutorConfig simulated;
    simulated.max_rows = config.max_rows;
    simulated.kv_block_tokens = config.kv_block_tokens;
    simulated.num_kv_blocks = config.num_kv_blocks;
    simulated.max_steps_in_flight = config.max_steps_in_flight;
    simulated.whole_prompts = config.whole_prompts;
    simulated.keeps_kv = config.keeps_kv;
    simulated.expected_tokens = [this](SequenceId id) -> std::span<const TokenId> {
      return expected_[id];
    };
    simulated.output_token = [this](SequenceId id, int32_t index) {
      return OutputToken(id, index);
    };
    executor_ = std::make_unique<SimulatedExecutor>(std::move(simulated));
  }

  Scheduler& scheduler() { return scheduler_; }
  absl::Time now = absl::UnixEpoch();

  // Makes the sequence's output token with this index `token`. Before Add.
  void Script(SequenceId id, int32_t index, TokenId token) { script_[{id, index}] = token; }

  absl::Status Add(SequenceSpec spec) {
    std::vector<TokenId>& expected = expected_[spec.id];
    expected = spec.prompt_tokens;
    expected.insert(expected.end(), spec.resume_output_tokens.begin(),
                    spec.resume_output_tokens.end());
    for (int32_t i = static_cast<int32_t>(spec.resume_output_tokens.size());
         i < config_.max_model_len; ++i) {
      expected.push_back(OutputToken(spec.id, i));
    }
    return scheduler_.Add(std::move(spec));
  }

  // Plans and submits; returns a copy of the plan.
  BatchPlan Plan() {
    ScheduleResult result = scheduler_.Schedule(now);
    for (SequenceUpdate& update : result.ended)
      updates[update.sequence].push_back(std::move(update));
    scheduler_.CheckInvariants();
    if (!result.plan.empty()) {
      const absl::Status status = executor_->Submit(result.plan);
      EXPECT_TRUE(status.ok()) << status;
      in_flight_.push_back(result.plan.step);
    }
    return std::move(result.plan);
  }

  // Waits for the oldest step and applies it.
  void Apply() {
    ASSERT_FALSE(in_flight_.empty());
    auto result = executor_->Wait(in_flight_.front());
    in_flight_.pop_front();
    ASSERT_TRUE(result.ok()) << result.status();
    now += result->device_time;
    for (SequenceUpdate& update : scheduler_.Apply(*std::move(result))) {
      updates[update.sequence].push_back(std::move(update));
    }
    scheduler_.CheckInvariants();
  }

  BatchPlan Step() {
    BatchPlan plan = Plan();
    if (!plan.empty()) Apply();
    return plan;
  }

  void RunToEnd(int max_steps = 1000) {
    while (scheduler_.HasSequences()) {
      ASSERT_GT(max_steps--, 0) << "no end";
      Plan();
      if (!in_flight_.empty()) Apply();
    }
  }

  [[nodiscard]] std::vector<TokenId> Output(SequenceId id) {
    std::vector<TokenId> tokens;
    for (const SequenceUpdate& update : updates[id]) {
      for (const SampledToken& sampled : update.tokens) tokens.push_back(sampled.token);
    }
    return tokens;
  }
  [[nodiscard]] std::optional<FinishReason> Finished(SequenceId id) {
    return updates[id].empty() ? std::nullopt : updates[id].back().finished;
  }
  [[nodiscard]] TokenId OutputToken(SequenceId id, int32_t index) const {
    const auto it = script_.find({id, index});
    return it != script_.end() ? it->second : HashedToken(id, index, 1000);
  }

  std::map<SequenceId, std::vector<SequenceUpdate>> updates;

 private:
  const SchedulerConfig config_;
  Scheduler scheduler_;
  std::unique_ptr<SimulatedExecutor> executor_;
  std::map<SequenceId, std::vector<TokenId>> expected_;
  std::map<std::pair<SequenceId, int32_t>, TokenId> script_;
  std::deque<StepId> in_flight_;
};

// The sequences of a plan, in its order.
inline std::vector<SequenceId> Sequences(const BatchPlan& plan) {
  std::vector<SequenceId> ids;
  for (const Row& row : plan.rows) ids.push_back(row.sequence);
  return ids;
}
inline std::vector<int32_t> RowSizes(const BatchPlan& plan) {
  std::vector<int32_t> sizes;
  for (int32_t r = 0; r < plan.num_rows(); ++r)
    sizes.push_back(plan.row_begin[r + 1] - plan.row_begin[r]);
  return sizes;
}

}  // namespace sluice
