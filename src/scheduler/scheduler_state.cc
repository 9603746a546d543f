// What moves a sequence from one state to the next. The policy is in scheduler.cc.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "base/status_macros.h"
#include "scheduler/scheduler.h"

namespace sluice {

absl::Status Scheduler::Add(SequenceSpec spec) {
  SLUICE_CHECK(spec.sampling != nullptr && !sequences_.contains(spec.id), "sequence {}", spec.id);
  SLUICE_CHECK(spec.pooled || !config_.whole_prompts, "sequence {} generates", spec.id);
  RETURN_IF_ERROR(CheckFits(spec));
  RETURN_IF_ERROR(CheckQueue(spec.prompt_tokens.size() + spec.resume_output_tokens.size()));

  Sequence& sequence = *(sequences_[spec.id] = std::make_unique<Sequence>());
  sequence.id = spec.id;
  sequence.num_prompt_tokens = static_cast<int32_t>(spec.prompt_tokens.size());
  sequence.max_output_tokens =
      spec.pooled ? 1 : std::min(spec.max_output_tokens, max_tokens_ - sequence.num_prompt_tokens);
  sequence.pooled = spec.pooled;
  sequence.second_begin = spec.second_begin;
  sequence.tokens = std::move(spec.prompt_tokens);
  sequence.tokens.insert(sequence.tokens.end(), spec.resume_output_tokens.begin(),
                         spec.resume_output_tokens.end());
  sequence.tenant = tenants_.Enter(spec.tenant, spec.weight);
  sequence.sampling = std::move(spec.sampling);
  sequence.choice = spec.choice;
  sequence.priority = spec.priority;
  sequence.arrival = ++last_arrival_;
  sequence.waiting_since = spec.arrival_time;
  sequence.salt = std::move(spec.tenant);
  sequence.deadline = spec.deadline;
  sequence.read_prefix_cache = spec.read_prefix_cache;
  if (spec.deadline != absl::InfiniteFuture()) deadlines_.emplace(spec.deadline, spec.id);

  Sequence* leader = config_.prefix_cache && spec.read_prefix_cache ? Find(spec.leader) : nullptr;
  if (leader != nullptr && leader->num_computed_tokens < leader->num_prompt_tokens) {
    leader->followers.push_back(&sequence);
    sequence.leader = leader;
  }
  OpenPrompt(sequence);
  EnterWaiting(sequence);
  return absl::OkStatus();
}

absl::Status Scheduler::CheckFits(const SequenceSpec& spec) const {
  const size_t num_prompt = spec.prompt_tokens.size(),
               num_resumed = spec.resume_output_tokens.size();
  if (num_prompt == 0) return FieldError("prompt", "prompt has 0 tokens; at least 1 is needed");
  RETURN_IF_ERROR(CheckOutput(spec));
  const size_t limit = max_tokens_, num_outputs = spec.pooled ? 0 : 1;
  if (num_prompt + num_resumed + num_outputs <= limit) return absl::OkStatus();
  const std::string subject =
      num_resumed == 0
          ? fmt::format("prompt has {} tokens", num_prompt)
          : fmt::format("prompt has {} tokens and {} of output to resume", num_prompt, num_resumed);
  const char* holder =
      max_tokens_ == config_.max_model_len ? "the model allows" : "the KV cache holds";
  const char* rest =
      num_prompt + num_resumed == limit ? ", at least one more of output included" : "";
  return FieldError("prompt", fmt::format("{}; {} {}{}", subject, holder, limit, rest),
                    "context_length_exceeded");
}

absl::Status Scheduler::CheckOutput(const SequenceSpec& spec) const {
  if (spec.pooled) return absl::OkStatus();
  const size_t num_resumed = spec.resume_output_tokens.size();
  if (spec.max_output_tokens < 1) {
    return FieldError("max_tokens", fmt::format("max_tokens is {}; at least 1 is needed",
                                                spec.max_output_tokens));
  }
  if (num_resumed >= static_cast<size_t>(spec.max_output_tokens)) {
    return FieldError("resume_output_tokens",
                      fmt::format("resume_output_tokens has {} tokens; max_tokens is {}",
                                  num_resumed, spec.max_output_tokens));
  }
  return absl::OkStatus();
}

// One sequence of any length may always wait, so that a limit below the context is not a refusal
// for ever.
absl::Status Scheduler::CheckQueue(size_t num_tokens) const {
  const int32_t num_waiting = waiting_.size() + num_held_;
  if (num_waiting >= config_.max_waiting_sequences) {
    return absl::ResourceExhaustedError(fmt::format("{} sequences are waiting; the limit is {}",
                                                    num_waiting, config_.max_waiting_sequences));
  }
  if (num_waiting > 0 &&
      num_waiting_tokens_ + static_cast<int64_t>(num_tokens) > config_.max_waiting_tokens) {
    return absl::ResourceExhaustedError(
        fmt::format("{} tokens are waiting and the prompt has {}; the limit is {}",
                    num_waiting_tokens_, num_tokens, config_.max_waiting_tokens));
  }
  return absl::OkStatus();
}

void Scheduler::Cancel(SequenceId id) {
  if (Sequence* sequence = Find(id)) End(*sequence);
}

void Scheduler::Finish(SequenceId id, int32_t num_kept_tokens) {
  Sequence* sequence = Find(id);
  if (sequence == nullptr) return;
  if (!sequence->blocks.empty()) {  // what waits may have been preempted and must keep its tokens
    const int32_t num_outputs = sequence->num_tokens() - sequence->num_prompt_tokens;
    sequence->tokens.resize(sequence->num_prompt_tokens +
                            std::clamp(num_kept_tokens, 0, num_outputs));
  }
  End(*sequence);
}

// Null: unknown, or ended.
Sequence* Scheduler::Find(SequenceId id) {
  const auto it = sequences_.find(id);
  return it == sequences_.end() || it->second->state == SequenceState::kEnded ? nullptr
                                                                              : it->second.get();
}

void Scheduler::End(Sequence& sequence) {
  if (sequence.state == SequenceState::kRunning) {
    LeaveRunning(sequence);
  } else if (sequence.state == SequenceState::kLeaving) {
    --num_leaving_;
  } else {
    LeaveWaiting(sequence);
  }
  ReleaseFollowers(sequence);
  if (sequence.prompt_is_open) ClosePrompt(sequence);
  if (sequence.deadline != absl::InfiniteFuture())
    deadlines_.erase({sequence.deadline, sequence.id});
  tenants_.Leave(sequence.tenant);
  sequence.tenant = nullptr;
  sequence.state = SequenceState::kEnded;
  Forget(sequence);
}

// An ended sequence goes, with its blocks, once no step in flight names it.
void Scheduler::Forget(Sequence& sequence) {
  if (sequence.num_rows_in_flight > 0) return;
  ReleaseBlocks(sequence);
  sequences_.erase(sequence.id);
}

// What was preempted waits again, for all of its tokens.
void Scheduler::Requeue(Sequence& sequence) {
  ReleaseBlocks(sequence);
  sequence.num_planned_tokens = sequence.num_computed_tokens = 0;
  sequence.waiting_since = now_;
  EnterWaiting(sequence);
}

void Scheduler::OpenPrompt(Sequence& sequence) {
  if (!std::exchange(sequence.prompt_is_open, true)) tenants_.Open(sequence.tenant);
}

void Scheduler::ClosePrompt(Sequence& sequence) {
  sequence.prompt_is_open = false;
  tenants_.Close(sequence.tenant);
}

void Scheduler::EnterWaiting(Sequence& sequence) {
  num_waiting_tokens_ += sequence.num_tokens();
  ++sequence.tenant->num_waiting;
  sequence.tenant->num_waiting_tokens += sequence.num_tokens();
  if (sequence.leader != nullptr) {
    sequence.state = SequenceState::kHeld;
    ++num_held_;
  } else {
    sequence.state = SequenceState::kWaiting;
    waiting_.Push(&sequence);
  }
}

void Scheduler::LeaveWaiting(Sequence& sequence) {
  num_waiting_tokens_ -= sequence.num_tokens();
  --sequence.tenant->num_waiting;
  sequence.tenant->num_waiting_tokens -= sequence.num_tokens();
  if (sequence.leader != nullptr) {
    std::erase(std::exchange(sequence.leader, nullptr)->followers, &sequence);
    --num_held_;
  } else {
    waiting_.Remove(&sequence);
  }
}

// The lowest slot is given first, so that slots stay dense. A step in flight may still name the
// slot for a sequence that has left: steps run in order, and the SlotInit of its next owner comes
// after that.
void Scheduler::EnterRunning(Sequence& sequence) {
  std::ranges::pop_heap(free_slots_, std::greater());
  sequence.slot = free_slots_.back();
  free_slots_.pop_back();
  sequence.slot_is_new = true;
  sequence.state = SequenceState::kRunning;
  ++sequence.tenant->num_rows;
  sequence.tenant->num_blocks += static_cast<int64_t>(sequence.blocks.size());
  const auto place = std::ranges::upper_bound(
      running_, &sequence, [](const Sequence* a, const Sequence* b) { return Outranks(*a, *b); });
  running_.insert(place, &sequence);
}

void Scheduler::LeaveRunning(Sequence& sequence) {
  running_.erase(std::ranges::lower_bound(
      running_, &sequence, [](const Sequence* a, const Sequence* b) { return Outranks(*a, *b); }));
  --sequence.tenant->num_rows;
  sequence.tenant->num_blocks -= static_cast<int64_t>(sequence.blocks.size());
  free_slots_.push_back(std::exchange(sequence.slot, -1));
  std::ranges::push_heap(free_slots_, std::greater());
  // Nobody waits for a victim on behalf of a sequence that is gone: the pool may have room enough
  // without.
  if (yield_.starved == &sequence || yield_.victim == &sequence) yield_ = {};
}

void Scheduler::ReleaseFollowers(Sequence& sequence) {
  for (Sequence* follower : std::exchange(sequence.followers, {})) {
    --num_held_;
    follower->leader = nullptr;
    follower->state = SequenceState::kWaiting;
    waiting_.Push(follower);
  }
}

// From the last block on, so that of two cached blocks of a prefix the longer one is evicted first.
void Scheduler::ReleaseBlocks(Sequence& sequence) {
  const size_t num_kept = sequence.num_tokens() / config_.kv_block_tokens;
  while (!sequence.blocks.empty()) {
    const BlockId block = sequence.blocks.back();
    const bool beyond_kept = sequence.blocks.size() > num_kept;  // Finish cut the output shorter
    if (beyond_kept && pool_.num_references(block) == 1) pool_.Unpublish(block);
    pool_.Release(block);
    sequence.blocks.pop_back();
  }
}

int32_t Scheduler::NumBlocks(int32_t num_tokens) const {
  if (!config_.keeps_kv) return 0;
  return (num_tokens + config_.kv_block_tokens - 1) / config_.kv_block_tokens;
}

bool Scheduler::HasSequences() const { return !sequences_.empty() || !in_flight_.empty(); }

SchedulerStats Scheduler::stats() const {
  return {.num_running = static_cast<int32_t>(running_.size()),
          .num_waiting = waiting_.size() + num_held_,
          .num_waiting_tokens = num_waiting_tokens_,
          .num_admitted_tokens = num_admitted_tokens_,
          .num_free_blocks = pool_.num_free(),
          .num_cached_blocks = pool_.num_cached(),
          .num_referenced_blocks = pool_.num_referenced(),
          .num_preemptions = num_preemptions_,
          .prefix_queries = prefix_queries_,
          .prefix_hits = prefix_hits_};
}

}  // namespace sluice
