// What a step's result does to the sequences it names.
#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"
#include "scheduler/scheduler.h"

namespace sluice {

std::vector<SequenceUpdate> Scheduler::Apply(StepResult result) {
  SLUICE_CHECK(!in_flight_.empty() && in_flight_.front().id == result.step, "step {}", result.step);
  const Step step = std::move(in_flight_.front());
  in_flight_.pop_front();
  SLUICE_CHECK(result.rows.size() == step.rows.size(), "{} != {}", result.rows.size(),
               step.rows.size());
  std::vector<SequenceUpdate> updates;
  updates.reserve(step.rows.size());
  for (size_t r = 0; r < step.rows.size(); ++r) {
    auto update = ApplyRow(step.rows[r], std::move(result.rows[r]));
    if (update) updates.push_back(*std::move(update));
  }
  return updates;
}

std::optional<SequenceUpdate> Scheduler::ApplyRow(const PlannedRow& row, RowResult result) {
  Sequence& sequence = *row.sequence;
  SLUICE_CHECK(result.sequence == sequence.id, "sequence {}, not {}", result.sequence, sequence.id);
  SLUICE_CHECK(result.tokens.size() == (row.samples && !sequence.pooled ? 1 : 0) &&
                   result.pooled.empty() != (row.samples && sequence.pooled),
               "{} tokens, {} elements", result.tokens.size(), result.pooled.size());
  --sequence.num_rows_in_flight;
  sequence.num_computed_tokens = row.num_tokens_after;
  // Not when it was planned: what a failing step leaves in its blocks must not be found by others.
  PublishFullBlocks(sequence);
  if (sequence.state == SequenceState::kEnded) {
    Forget(sequence);
    return std::nullopt;
  }
  if (sequence.num_computed_tokens >= sequence.num_prompt_tokens) ReleaseFollowers(sequence);
  std::optional<SequenceUpdate> update;
  if (row.samples) {
    update = TakeSample(sequence, std::move(result));
    if (update->finished) {
      End(sequence);
      return update;
    }
  }
  if (sequence.state == SequenceState::kLeaving && sequence.num_rows_in_flight == 0) {
    --num_leaving_;
    Requeue(sequence);
  }
  return update;
}

SequenceUpdate Scheduler::TakeSample(Sequence& sequence, RowResult result) {
  --sequence.num_pending_samples;
  SequenceUpdate update;
  update.sequence = sequence.id;
  update.num_cached_tokens = sequence.num_cached_tokens;
  if (sequence.pooled) {
    update.finished = FinishReason::kStop;
    update.pooled = std::move(result.pooled);
    return update;
  }
  const TokenId token = result.tokens[0].token;
  const SamplingParams& sampling = *sequence.sampling;
  const bool may_stop = sequence.num_tokens() - sequence.num_prompt_tokens >= sampling.min_tokens;
  sequence.tokens.push_back(token);
  update.tokens = std::move(result.tokens);
  if (may_stop && std::ranges::binary_search(sampling.stop_token_ids, token)) {
    update.finished = FinishReason::kStop;
  } else if (sequence.num_tokens() - sequence.num_prompt_tokens >= sequence.max_output_tokens) {
    update.finished = FinishReason::kLength;
  }
  return update;
}

// The prefix index learns of the blocks that are full of computed tokens. Blocks of tokens computed
// but never accepted (planned ahead of a stop token) are beyond `tokens`.
void Scheduler::PublishFullBlocks(Sequence& sequence) {
  if (!config_.prefix_cache) return;
  const int32_t num_full =
      std::min(sequence.num_computed_tokens, sequence.num_tokens()) / config_.kv_block_tokens;
  for (int32_t& i = sequence.num_published_blocks; i < num_full; ++i) {
    const auto content =
        std::span(sequence.tokens).subspan(i * config_.kv_block_tokens, config_.kv_block_tokens);
    sequence.prefix = pool_.Publish(sequence.blocks[i], sequence.prefix, sequence.salt, content);
  }
}

}  // namespace sluice
