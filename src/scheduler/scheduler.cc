// The policy. Schedule() names its steps in order; everything below it is one of them or what they
// share.
//
// Why the oldest sequence of the best priority always advances: running sequences are visited by
// rank; one that lacks a block may preempt every sequence of lower rank, the lowest first; a
// sequence never needs more blocks than the pool has (Add sees to it); a victim still in flight
// gets no further rows until it can be preempted; and nobody is admitted while a running sequence
// lacks blocks. Since a preempted sequence keeps its age, it becomes the oldest one in time.
#include "scheduler/scheduler.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"

namespace sluice {

Scheduler::Scheduler(const SchedulerConfig& config)
    : config_(config),
      max_tokens_(config.keeps_kv ? static_cast<int32_t>(std::min<int64_t>(
                                        config.max_model_len,
                                        int64_t{config.num_kv_blocks} * config.kv_block_tokens))
                                  : config.max_model_len),
      pool_(config.num_kv_blocks, config.kv_block_tokens) {
  SLUICE_CHECK(config.max_rows > 0 && config.kv_block_tokens > 0 && config.num_kv_blocks > 0 &&
                   config.max_model_len > 0 && config.max_steps_in_flight > 0,
               "{} rows, {} blocks of {} tokens, {} tokens of context, {} steps in flight",
               config.max_rows, config.num_kv_blocks, config.kv_block_tokens, config.max_model_len,
               config.max_steps_in_flight);
  // With fewer, generating rows could leave nothing to an older prompt for ever.
  SLUICE_CHECK(config.max_step_tokens >= config.max_rows, "{} tokens a step, {} rows",
               config.max_step_tokens, config.max_rows);
  SLUICE_CHECK(
      !config.whole_prompts || (max_tokens_ <= config.max_step_tokens && !config.prefix_cache),
      "whole prompts of {} tokens, {} tokens a step", max_tokens_, config.max_step_tokens);
  SLUICE_CHECK(config.keeps_kv || config.whole_prompts, "a prompt in chunks needs its KV");
  for (int32_t slot = 0; slot < config.max_rows; ++slot) free_slots_.push_back(slot);
}

Scheduler::~Scheduler() = default;

ScheduleResult Scheduler::Schedule(absl::Time now) {
  ScheduleResult result;
  result.ended = ExpireDeadlines(now);
  if (in_flight_.size() >= static_cast<size_t>(config_.max_steps_in_flight)) return result;

  Draft draft = NewDraft();
  PlanGenerating(draft);
  ContinuePrefills(draft);
  AdmitWaiting(draft);
  result.plan = Commit(std::move(draft));
  return result;
}

Scheduler::Draft Scheduler::NewDraft() {
  Draft draft;
  draft.budget = config_.max_step_tokens;
  draft.yielding = std::exchange(yield_, {}).victim;
  const size_t num_rows = running_.size() + std::min(free_slots_.size(), size_t{16});
  draft.rows.reserve(num_rows);
  draft.plan.rows.reserve(num_rows);
  draft.plan.row_begin.reserve(num_rows + 1);
  draft.plan.block_begin.reserve(num_rows + 1);
  draft.plan.context_len.reserve(num_rows);
  draft.plan.tokens.reserve(num_rows);
  draft.plan.positions.reserve(num_rows);
  draft.plan.blocks.reserve(pool_.num_referenced());  // exact, but for sharing
  return draft;
}

std::vector<SequenceUpdate> Scheduler::ExpireDeadlines(absl::Time now) {
  std::vector<SequenceUpdate> ended;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    Sequence& sequence = *Find(deadlines_.begin()->second);
    ended.push_back({sequence.id, {}, FinishReason::kDeadline, sequence.num_cached_tokens, {}});
    End(sequence);
  }
  return ended;
}

// Rows with one token to compute cost one token of the budget and yield one: they never wait for a
// prompt. That token may be one that a step in flight will sample; the length limit is known ahead,
// a stop token is not.
void Scheduler::PlanGenerating(Draft& draft) {
  for (size_t i = 0; i < running_.size() && draft.budget > 0; ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.num_unplanned_tokens() != 1) continue;
    if (sequence.num_output_tokens() >= sequence.max_output_tokens)
      continue;  // ends when its last token is applied
    PlanRow(draft, sequence);
  }
}

void Scheduler::ContinuePrefills(Draft& draft) {
  for (size_t i = 0; i < running_.size() && draft.budget > 0; ++i) {
    if (running_[i]->num_unplanned_tokens() > 1) PlanRow(draft, *running_[i]);
  }
}

// Strictly in order: where the first does not fit nobody overtakes it, or a long prompt would
// starve.
void Scheduler::AdmitWaiting(Draft& draft) {
  while (draft.budget > 0 && !free_slots_.empty()) {
    Sequence* sequence = waiting_.Front();
    if (sequence == nullptr || !Admit(draft, *sequence)) return;
  }
}

// False: too few blocks for all it has to compute, or too little of the budget for a prompt that is
// never cut. Admission evicts, but preempts nobody.
bool Scheduler::Admit(Draft& draft, Sequence& sequence) {
  if (config_.whole_prompts && sequence.num_tokens() > draft.budget) return false;
  const bool looks_up = config_.prefix_cache && sequence.read_prefix_cache;
  PrefixMatch match{{}, PrefixIndex::Root(sequence.salt)};
  if (looks_up) {  // the last token is computed in any case: its logits give the next one
    match =
        pool_.Match(sequence.salt, std::span(sequence.tokens).first(sequence.tokens.size() - 1));
  }
  const auto num_cached = std::ranges::count_if(
      match.blocks, [this](BlockId block) { return pool_.num_references(block) == 0; });
  const int32_t num_matched = static_cast<int32_t>(match.blocks.size());
  if (NumBlocks(sequence.num_tokens()) - num_matched > pool_.num_available() - num_cached)
    return false;

  for (const BlockId block : match.blocks) pool_.AddReference(block);
  sequence.blocks = std::move(match.blocks);
  sequence.prefix = match.node;
  sequence.num_published_blocks = num_matched;
  sequence.num_planned_tokens = sequence.num_computed_tokens =
      num_matched * config_.kv_block_tokens;
  LeaveWaiting(sequence);
  if (sequence.admission == 0) {
    sequence.admission = ++last_admission_;
    sequence.num_cached_tokens = std::min(sequence.num_computed_tokens, sequence.num_prompt_tokens);
    sequence.num_charged_tokens = sequence.num_computed_tokens;
    if (looks_up) prefix_queries_ += sequence.num_prompt_tokens;
    prefix_hits_ += sequence.num_cached_tokens;
  }
  EnterRunning(sequence);
  PlanRow(draft, sequence);
  return true;
}

// Gives the sequence as many tokens as it has, the budget allows and blocks can be found for.
void Scheduler::PlanRow(Draft& draft, Sequence& sequence) {
  if (&sequence == draft.yielding || &sequence == yield_.victim) return;
  const int32_t wanted = std::min(sequence.num_unplanned_tokens(), draft.budget);
  const int32_t room = ReserveBlocks(sequence, sequence.num_planned_tokens + wanted);
  const int32_t num_tokens = std::min(wanted, room - sequence.num_planned_tokens);
  if (num_tokens > 0) AppendRow(draft, sequence, num_tokens);
}

// Grows the block table towards `num_tokens`; returns how many tokens it holds.
int32_t Scheduler::ReserveBlocks(Sequence& sequence, int32_t num_tokens) {
  const size_t wanted = NumBlocks(num_tokens);
  while (sequence.blocks.size() < wanted) {
    const BlockId block = pool_.Allocate();
    if (block != kNoBlock) {
      sequence.blocks.push_back(block);
    } else if (!PreemptFor(sequence)) {
      break;
    }
  }
  return config_.keeps_kv ? static_cast<int32_t>(sequence.blocks.size()) * config_.kv_block_tokens
                          : num_tokens;
}

// Preempts the running sequence of the lowest rank, if that is not `sequence` itself or in flight.
bool Scheduler::PreemptFor(Sequence& sequence) {
  Sequence& victim = *running_.back();
  if (&victim == &sequence) return false;
  if (victim.num_rows_in_flight > 0) {
    if (yield_.victim == nullptr) yield_ = {&sequence, &victim};
    return false;
  }
  Preempt(victim);
  return true;
}

// Its tokens so far, output included, are all to be computed again, as far as the prefix cache does
// not keep them.
void Scheduler::Preempt(Sequence& sequence) {
  ++num_preemptions_;
  LeaveRunning(sequence);
  ReleaseBlocks(sequence);
  sequence.num_planned_tokens = sequence.num_computed_tokens = 0;
  EnterWaiting(sequence);
}

void Scheduler::AppendRow(Draft& draft, Sequence& sequence, int32_t num_tokens) {
  BatchPlan& plan = draft.plan;
  if (std::exchange(sequence.slot_is_new, false)) {
    SlotInit init{sequence.slot, sequence.sampling, sequence.choice, {}, {}};
    if (sequence.sampling->UsesPenalties()) {
      const auto output = sequence.tokens.begin() + sequence.num_prompt_tokens;
      init.prompt_tokens.assign(sequence.tokens.begin(), output);
      init.output_tokens.assign(output, sequence.tokens.end());
    }
    plan.slot_inits.push_back(std::move(init));
  }
  const bool samples = num_tokens == sequence.num_unplanned_tokens();
  const int32_t begin = sequence.num_planned_tokens, end = begin + num_tokens;
  for (int32_t position = begin; position < end; ++position) {
    plan.tokens.push_back(position < sequence.num_tokens() ? sequence.tokens[position]
                                                           : kTokenFromSlot);
    plan.positions.push_back(position);
  }
  plan.row_begin.push_back(plan.num_tokens() - num_tokens);
  plan.context_len.push_back(end);
  plan.block_begin.push_back(static_cast<int32_t>(plan.blocks.size()));
  plan.blocks.insert(plan.blocks.end(), sequence.blocks.begin(),
                     sequence.blocks.begin() + NumBlocks(end));
  const RowOutput output = sequence.pooled ? RowOutput::kPooled : RowOutput::kSample;
  plan.rows.push_back({sequence.id, sequence.slot, samples ? output : RowOutput::kNone,
                       sequence.num_output_tokens(), sequence.second_begin});
  draft.rows.push_back({&sequence, end, samples});
  draft.budget -= num_tokens;

  sequence.num_planned_tokens = end;
  sequence.num_pending_samples += samples ? 1 : 0;
  ++sequence.num_rows_in_flight;
  sequence.tenant->served_tokens += std::max<int64_t>(0, end - sequence.num_charged_tokens);
  sequence.num_charged_tokens = std::max<int64_t>(end, sequence.num_charged_tokens);
}

BatchPlan Scheduler::Commit(Draft draft) {
  if (draft.rows.empty()) return {};
  BatchPlan& plan = draft.plan;
  plan.step = ++last_step_;
  plan.row_begin.push_back(plan.num_tokens());
  plan.block_begin.push_back(static_cast<int32_t>(plan.blocks.size()));
  in_flight_.push_back({plan.step, std::move(draft.rows)});
  return std::move(plan);
}

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
  if (!row.samples) return std::nullopt;
  if (sequence.pooled) {
    --sequence.num_pending_samples;
    SequenceUpdate update{
        sequence.id, {}, FinishReason::kStop, sequence.num_cached_tokens, std::move(result.pooled)};
    End(sequence);
    return update;
  }

  const TokenId token = result.tokens[0].token;
  const SamplingParams& sampling = *sequence.sampling;
  const bool may_stop = sequence.num_tokens() - sequence.num_prompt_tokens >= sampling.min_tokens;
  sequence.tokens.push_back(token);
  --sequence.num_pending_samples;
  SequenceUpdate update{
      sequence.id, std::move(result.tokens), std::nullopt, sequence.num_cached_tokens, {}};
  if (may_stop && std::ranges::binary_search(sampling.stop_token_ids, token)) {
    update.finished = FinishReason::kStop;
  } else if (sequence.num_tokens() - sequence.num_prompt_tokens >= sequence.max_output_tokens) {
    update.finished = FinishReason::kLength;
  }
  if (update.finished) End(sequence);
  return update;
}

}  // namespace sluice
