#include "executor/simulated_executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace sluice {
namespace {

template <typename... Args>
absl::Status Wrong(const BatchPlan& plan, fmt::format_string<Args...> format, Args&&... args) {
  return absl::InvalidArgumentError(
      fmt::format("step {}: {}", plan.step, fmt::format(format, std::forward<Args>(args)...)));
}

// The finaliser of SplitMix64.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

TokenId HashedToken(SequenceId sequence, int32_t output_index, int32_t vocab_size) {
  const uint64_t mixed =
      Mix(Mix(sequence + 0x9e3779b97f4a7c15ULL) + static_cast<uint64_t>(output_index));
  return static_cast<TokenId>(mixed % static_cast<uint64_t>(vocab_size));
}

std::vector<float> HashedVector(SequenceId sequence, int32_t dim) {
  std::vector<float> vector;
  vector.reserve(static_cast<size_t>(dim));
  for (int32_t i = 0; i < dim; ++i) {
    vector.push_back(static_cast<float>(HashedToken(sequence, i, 2001)) / 1000 - 1);
  }
  return vector;
}

SimulatedExecutor::SimulatedExecutor(SimulatedExecutorConfig config)
    : config_(std::move(config)), slots_(config_.max_rows) {
  if (!config_.check_plans) return;
  blocks_.resize(config_.num_kv_blocks);
  shadow_.resize(static_cast<size_t>(config_.num_kv_blocks) * config_.kv_block_tokens);
}

// Computes at once: steps run in order, and what they read was written by steps before.
absl::Status SimulatedExecutor::Submit(BatchPlan plan) {
  if (failed_ || in_flight_.size() >= static_cast<size_t>(config_.max_steps_in_flight)) {
    return absl::FailedPreconditionError(
        fmt::format("step {}: {}", plan.step,
                    failed_ ? "the executor has failed" : "too many steps in flight"));
  }
  failed_ = true;  // unless the plan turns out right
  if (config_.check_plans) RETURN_IF_ERROR(CheckShapes(plan));
  RETURN_IF_ERROR(SetUpSlots(plan));
  Step step;
  step.result.step = plan.step;
  step.result.rows.reserve(plan.rows.size());
  for (int32_t r = 0; r < plan.num_rows(); ++r) {
    if (config_.check_plans) RETURN_IF_ERROR(CheckRow(plan, r));
    AnswerRow(plan.rows[r], step.result);
  }
  Time(plan, step);
  last_submitted_ = plan.step;
  in_flight_.push_back(std::move(step));
  failed_ = false;
  return absl::OkStatus();
}

absl::StatusOr<StepResult> SimulatedExecutor::Wait(StepId step) {
  if (failed_ || in_flight_.empty() || in_flight_.front().result.step != step) {
    failed_ = true;
    return absl::FailedPreconditionError(fmt::format("step {} is not the oldest in flight", step));
  }
  if (step == config_.fail_at_step) {
    failed_ = true;
    return absl::InternalError(fmt::format("step {} failed as configured", step));
  }
  if (config_.wait_until) config_.wait_until(in_flight_.front().end);
  StepResult result = std::move(in_flight_.front().result);
  in_flight_.pop_front();
  last_waited_ = step;
  return result;
}

absl::Status SimulatedExecutor::SetUpSlots(const BatchPlan& plan) {
  const size_t n = config_.script.size();
  for (const SlotInit& init : plan.slot_inits) {
    if (init.slot < 0 || init.slot >= config_.max_rows || init.sampling == nullptr) {
      return Wrong(plan, "SlotInit of slot {} of {}", init.slot, config_.max_rows);
    }
    Slot& slot = slots_[init.slot] = Slot{.used = true, .sampling = init.sampling};
    if (n > 0) slot.script_begin = (init.sampling->seed % n + init.choice % n) % n;
  }
  return absl::OkStatus();
}

void SimulatedExecutor::Time(const BatchPlan& plan, Step& step) {
  step.result.device_time = config_.time.TimeOf(StepWork::Of(plan));
  if (config_.clock == nullptr) return;
  const absl::Time start = std::max(config_.clock->Now(), free_at_);
  // A row that goes on from an earlier step was there while the device had nothing to do. Where all
  // are new, they may have come just now.
  const bool had_work = plan.rows.size() > plan.slot_inits.size();
  step.result.idle_before = had_work ? start - free_at_ : absl::ZeroDuration();
  step.end = free_at_ = start + step.result.device_time;
}

absl::Status SimulatedExecutor::CheckShapes(const BatchPlan& plan) const {
  const size_t num_rows = plan.rows.size();
  if (plan.step != last_submitted_ + 1) return Wrong(plan, "follows step {}", last_submitted_);
  if (num_rows == 0 || plan.positions.size() != plan.tokens.size() ||
      plan.row_begin.size() != num_rows + 1 || plan.block_begin.size() != num_rows + 1 ||
      plan.context_len.size() != num_rows || plan.row_begin[0] != 0 || plan.block_begin[0] != 0 ||
      plan.row_begin[num_rows] != plan.num_tokens() ||
      plan.block_begin[num_rows] != static_cast<int32_t>(plan.blocks.size())) {
    return Wrong(plan, "array lengths of {} rows, {} tokens, {} blocks", num_rows,
                 plan.num_tokens(), plan.blocks.size());
  }
  std::vector<bool> slot_is_used(config_.max_rows);
  for (size_t r = 0; r < num_rows; ++r) {
    const int32_t slot = plan.rows[r].slot;
    const int32_t num_blocks =
        config_.keeps_kv
            ? (plan.context_len[r] + config_.kv_block_tokens - 1) / config_.kv_block_tokens
            : 0;
    if (config_.whole_prompts && plan.context_len[r] != plan.row_begin[r + 1] - plan.row_begin[r])
      return Wrong(plan, "row {} is a piece of a prompt", r);
    if (plan.row_begin[r + 1] <= plan.row_begin[r]) return Wrong(plan, "row {} has no tokens", r);
    if (plan.block_begin[r + 1] - plan.block_begin[r] != num_blocks) {
      return Wrong(plan, "row {} has {} blocks for {} tokens", r,
                   plan.block_begin[r + 1] - plan.block_begin[r], plan.context_len[r]);
    }
    if (slot < 0 || slot >= config_.max_rows || slot_is_used[slot])
      return Wrong(plan, "row {} has slot {}", r, slot);
    slot_is_used[slot] = true;
  }
  for (const BlockId block : plan.blocks) {
    if (block < 0 || block >= config_.num_kv_blocks) return Wrong(plan, "block {}", block);
  }
  return absl::OkStatus();
}

absl::Status SimulatedExecutor::CheckRow(const BatchPlan& plan, int32_t r) {
  const Row& row = plan.rows[r];
  Slot& slot = slots_[row.slot];
  if (!slot.used)
    return Wrong(plan, "slot {} of sequence {} was never set up", row.slot, row.sequence);
  if (slot.next_position < 0) slot.sequence = row.sequence;
  if (slot.sequence != row.sequence) {
    return Wrong(plan, "slot {} belongs to sequence {}, not {}", row.slot, slot.sequence,
                 row.sequence);
  }
  const int32_t begin = plan.row_begin[r], end = plan.row_begin[r + 1];
  const int32_t first = plan.context_len[r] - (end - begin);
  if (slot.next_position < 0 ? first % config_.kv_block_tokens != 0 : first != slot.next_position) {
    return Wrong(plan, "sequence {} goes on at {} instead of {}", row.sequence, first,
                 slot.next_position);
  }
  for (int32_t i = begin; i < end; ++i) {
    const TokenId token = plan.tokens[i] == kTokenFromSlot ? slot.last_token : plan.tokens[i];
    if (token < 0) return Wrong(plan, "sequence {} has sampled no token yet", row.sequence);
    if (plan.positions[i] != first + i - begin)
      return Wrong(plan, "position {} in row {}", plan.positions[i], r);
    if (config_.keeps_kv) RETURN_IF_ERROR(WriteToken(plan, r, plan.positions[i], token));
  }
  for (int32_t b = plan.block_begin[r]; b < plan.block_begin[r + 1]; ++b) {
    blocks_[plan.blocks[b]].last_step = plan.step;
    blocks_[plan.blocks[b]].last_sequence = row.sequence;
  }
  RETURN_IF_ERROR(CheckContext(plan, r));
  slot.next_position = plan.context_len[r];
  return absl::OkStatus();
}

void SimulatedExecutor::AnswerRow(const Row& row, StepResult& result) {
  Slot& slot = slots_[row.slot];
  slot.last_token = kTokenFromSlot;
  RowResult& row_result = result.rows.emplace_back();
  row_result.sequence = row.sequence;
  if (row.output == RowOutput::kSample) {
    row_result.tokens.push_back(Sample(slot, row));
    slot.last_token = row_result.tokens.back().token;
  } else if (row.output == RowOutput::kPooled) {
    row_result.pooled = HashedVector(row.sequence, config_.vector_dim);
  }
}

absl::Status SimulatedExecutor::WriteToken(const BatchPlan& plan, int32_t r, int32_t position,
                                           TokenId token) {
  const SequenceId sequence = plan.rows[r].sequence;
  const BlockId id = plan.blocks[plan.block_begin[r] + position / config_.kv_block_tokens];
  const int32_t offset = position % config_.kv_block_tokens;
  Block& block = blocks_[id];
  if (block.last_step > last_waited_ && block.last_sequence != sequence) {
    return Wrong(plan, "sequence {} writes block {} that step {} in flight names for sequence {}",
                 sequence, id, block.last_step, block.last_sequence);
  }
  if (offset == 0) {
    block.writer = sequence;
    block.num_tokens = 0;
  }
  if (block.writer != sequence || block.num_tokens != offset) {
    return Wrong(plan, "sequence {} writes block {} at {}; sequence {} wrote {} tokens", sequence,
                 id, offset, block.writer, block.num_tokens);
  }
  ++block.num_tokens;
  shadow_[static_cast<size_t>(id) * config_.kv_block_tokens + offset] = token;
  return absl::OkStatus();
}

// What the row attends over, block by block.
absl::Status SimulatedExecutor::CheckContext(const BatchPlan& plan, int32_t r) const {
  const SequenceId sequence = plan.rows[r].sequence;
  std::span<const TokenId> expected;
  if (config_.expected_tokens) expected = config_.expected_tokens(sequence);
  for (int32_t begin = 0, b = plan.block_begin[r]; b < plan.block_begin[r + 1]; ++b) {
    const BlockId block = plan.blocks[b];
    const int32_t num_tokens = std::min(config_.kv_block_tokens, plan.context_len[r] - begin);
    if (blocks_[block].num_tokens < num_tokens) {
      return Wrong(plan, "sequence {} reads {} tokens of block {} with {}", sequence, num_tokens,
                   block, blocks_[block].num_tokens);
    }
    if (config_.expected_tokens) {
      const auto content =
          shadow_.begin() + static_cast<ptrdiff_t>(block) * config_.kv_block_tokens;
      if (expected.size() < static_cast<size_t>(begin) + num_tokens ||
          !std::equal(content, content + num_tokens, expected.begin() + begin)) {
        return Wrong(plan, "block {} does not hold tokens [{}, {}) of sequence {}", block, begin,
                     begin + num_tokens, sequence);
      }
    }
    begin += num_tokens;
  }
  return absl::OkStatus();
}

SampledToken SimulatedExecutor::Sample(const Slot& slot, const Row& row) const {
  SampledToken sampled;
  if (!config_.script.empty()) {
    sampled.token =
        config_.script[(slot.script_begin + row.num_output_tokens) % config_.script.size()];
  } else if (config_.output_token) {
    sampled.token = config_.output_token(row.sequence, row.num_output_tokens);
  } else {
    sampled.token = HashedToken(row.sequence, row.num_output_tokens, 1000);
  }
  if (slot.sampling->num_logprobs < 0) return sampled;
  sampled.logprob = -1;
  for (int32_t k = 0; k < slot.sampling->num_logprobs; ++k) {
    sampled.top.emplace_back(sampled.token + k, static_cast<float>(-1 - k));
  }
  return sampled;
}

}  // namespace sluice
