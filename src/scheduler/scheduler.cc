// The policy. Schedule() names its steps in order; everything below it is one of them or what they
// share, but for who is preempted (preemption.cc).
//
// Why every sequence ends. Running sequences have a rank: priority, then age. The first in rank is
// never preempted and always advances: fairness takes the lowest in rank of a tenant that has
// several rows, and memory the lowest of all if nobody else; who lacks a block may so preempt
// everybody but the first in rank; a sequence never needs more blocks than the pool has (Add sees
// to it); and nobody is admitted while a running sequence lacks blocks. A half-done prompt and a
// waiting sequence come to their turn because the counter of a tenant that is not served stands
// still while those of the others rise, and newcomers enter at most one step's credit below it. A
// preempted sequence keeps its age, and taking a row or blocks for fairness leaves the one that
// gives with twice what the other then has, so that it cannot be undone by the same rule.
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
      tenants_(config.max_step_tokens * kPromptTokenCost),
      waiting_(config.priority_ageing),
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
  now_ = now;
  ScheduleResult result;
  result.ended = ExpireDeadlines(now);
  if (in_flight_.size() >= static_cast<size_t>(config_.max_steps_in_flight)) return result;

  Draft draft = NewDraft();
  MakeRoom();
  PlanGenerating(draft);
  PlanPrompts(draft);
  result.plan = Commit(std::move(draft));
  return result;
}

Scheduler::Draft Scheduler::NewDraft() {
  Draft draft;
  draft.budget = config_.max_step_tokens;
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

// Half-done prompts and waiting sequences by turn, so that the long prompt of one tenant yields its
// next chunk to the new request of another that has had less, and half of it to short prompts of
// its own tenant. Where the first that waits does not fit no other overtakes it, or a long prompt
// would starve. A step that answers a tenant which is
// half a step behind or more is not filled up with prompts of those ahead: it would get longer.
void Scheduler::PlanPrompts(Draft& draft) {
  std::vector<Sequence*> half_done;
  for (Sequence* sequence : running_) {
    if (sequence->num_unplanned_tokens() > 1) half_done.push_back(sequence);
  }
  bool admits = true;
  const int32_t kept = draft.budget / 2;  // for whom others overtake
  while (draft.budget > 0) {
    Sequence* const waiting = admits && !free_slots_.empty() ? waiting_.Front(now_) : nullptr;
    Sequence* const next = TakeNextPrompt(half_done, waiting, draft.budget - kept);
    if (next == nullptr) return;
    if (draft.answered != nullptr && draft.answered != next->tenant &&
        tenants_.Leads(*next->tenant, *draft.answered, draft.answered_served)) {
      return;
    }
    if (next == waiting) {
      admits = Admit(draft, *next);
    } else {
      PlanRow(draft, *next);
    }
  }
}

// The one of `half_done`, which it then leaves, or `waiting`; null: there is none. `short_tokens`:
// so long may a prompt be to overtake one of its tenant's that is longer.
Sequence* Scheduler::TakeNextPrompt(std::vector<Sequence*>& half_done, Sequence* waiting,
                                    int32_t short_tokens) const {
  std::erase_if(half_done, [](const Sequence* s) { return s->state != SequenceState::kRunning; });
  const auto turn = [](const Sequence* s) {
    return Turn{s->priority, s->tenant->served, false, s->admission};
  };
  const auto first = std::ranges::min_element(half_done, {}, turn);
  if (first == half_done.end()) return waiting;
  Sequence* const next = *first;
  if (waiting != nullptr) {
    const Turn waited = waiting_.TurnOf(*waiting, now_);
    if (waited < turn(next)) return waiting;
    // Blocks for all that the longer one has to compute stay: else the two would take them from
    // each other for ever.
    const int32_t wanted = NumBlocks(waiting->num_tokens()) + NumBlocks(next->num_tokens()) -
                           static_cast<int32_t>(next->blocks.size());
    const bool overtakes = waiting->tenant == next->tenant && waited.priority <= next->priority &&
                           waiting->num_tokens() <= short_tokens &&
                           next->num_unplanned_tokens() > short_tokens &&
                           wanted <= pool_.num_available();
    if (overtakes) return waiting;
  }
  half_done.erase(first);
  return next;
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
  if (NumBlocks(sequence.num_tokens()) - num_matched > pool_.num_available() - num_cached) {
    lacks_blocks_ = &sequence;
    return false;
  }

  for (const BlockId block : match.blocks) pool_.AddReference(block);
  sequence.blocks = std::move(match.blocks);
  sequence.prefix = match.node;
  sequence.num_published_blocks = num_matched;
  sequence.num_planned_tokens = sequence.num_computed_tokens =
      num_matched * config_.kv_block_tokens;
  const int64_t priority = waiting_.TurnOf(sequence, now_).priority;
  LeaveWaiting(sequence);
  num_admitted_tokens_ += sequence.num_tokens();
  sequence.priority = static_cast<int32_t>(priority);
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
      ++sequence.tenant->num_blocks;
    } else if (!PreemptFor(sequence)) {
      break;
    }
  }
  return config_.keeps_kv ? static_cast<int32_t>(sequence.blocks.size()) * config_.kv_block_tokens
                          : num_tokens;
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
  sequence.last_planned = last_step_ + 1;
  ChargeRow(draft, sequence, samples);
}

void Scheduler::ChargeRow(Draft& draft, Sequence& sequence, bool samples) {
  Tenant& tenant = *sequence.tenant;
  const int64_t served = tenant.served;
  const int32_t end = sequence.num_planned_tokens;
  const int32_t new_prompt_tokens =
      std::max(0, std::min(end, sequence.num_prompt_tokens) - sequence.num_charged_tokens);
  sequence.num_charged_tokens = std::max(end, sequence.num_charged_tokens);
  tenant.Charge(new_prompt_tokens * kPromptTokenCost + (samples ? kOutputTokenCost : 0) +
                NumBlocks(end) * kBlockStepCost);
  if (!samples || !sequence.prompt_is_open) return;
  ClosePrompt(sequence);
  if (draft.answered != nullptr && draft.answered_served <= served) return;
  draft.answered = &tenant;
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

}  // namespace sluice
