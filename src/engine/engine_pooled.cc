// How calls for vectors run: a call has at most two steps' worth of its inputs in the scheduler, so
// that a call of thousands of inputs neither overflows the waiting queue nor hides others from the
// scheduler's fairness.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/errors.h"
#include "engine/engine.h"

namespace sluice {

void Engine::AddPooled(Call& call) {
  call.pooled.emplace(*std::move(call.request.pooled));
  call.usage.prompt_tokens = call.pooled->num_backlog_tokens();
  if (!call.request.sampling) {
    static const auto kNone = std::make_shared<const SamplingParams>();
    call.request.sampling = kNone;  // owners: every sequence that only gives a vector
  }
  const int64_t num_tokens = call.usage.prompt_tokens;
  // The first input stands for the call: no room for it is no room for the call.
  if (const absl::Status first = FeedPooled(call); !first.ok()) {
    return EndCall(call, first, FinishReason::kError);
  }
  if (call.pooled->next() != nullptr) backlog_.insert(call.request.call);
  metrics_.CountPromptTokens(num_tokens);
  Emit(call.request, Accepted{.model = call.request.model,
                              .prompt_tokens = num_tokens,
                              .system_fingerprint = options_.system_fingerprint});
}

// Adds the call's next input.
absl::Status Engine::FeedPooled(Call& call) {
  const Request& r = call.request;
  const PooledInput& input = *call.pooled->next();
  const SequenceId sequence = next_sequence_++;
  SequenceSpec spec;
  spec.id = sequence;
  spec.sampling = r.sampling;
  spec.prompt_tokens = input.tokens;
  spec.priority = r.priority;
  spec.tenant = r.tenant;
  spec.weight = r.weight;
  spec.arrival_time = r.accepted_at;
  spec.deadline = r.deadline;
  spec.pooled = true;
  spec.second_begin = input.second_begin;
  absl::Status added = scheduler_.Add(std::move(spec));
  if (!added.ok()) return added;
  call.pooled->Started(sequence);
  sequences_[sequence] = {&call, 0};
  return absl::OkStatus();
}

// One input a call in turn, until all calls have theirs or the waiting queue is full.
void Engine::FeedPooledCalls() {
  const auto max_live = 2 * static_cast<size_t>(options_.scheduler.max_rows);
  const absl::Time now = clock_.Now();
  size_t num_sated = 0;  // calls in a row that wanted nothing
  while (num_sated < backlog_.size()) {
    auto it = backlog_.upper_bound(last_fed_);
    if (it == backlog_.end()) it = backlog_.begin();
    last_fed_ = *it;
    Call& call = *calls_.at(*it);
    if (call.request.deadline <= now) {
      EndCall(
          call,
          WithErrorCode(absl::DeadlineExceededError("the request's deadline passed while it ran"),
                        "deadline_while_running"),
          FinishReason::kDeadline);
      continue;
    }
    if (call.pooled->num_live() >= max_live) {
      ++num_sated;
      continue;
    }
    num_sated = 0;
    const absl::Status fed = FeedPooled(call);
    if (absl::IsResourceExhausted(fed)) return;  // the queue is full: steps will make room
    if (!fed.ok()) {
      EndCall(call, fed, FinishReason::kError);
    } else if (call.pooled->next() == nullptr) {
      backlog_.erase(last_fed_);
    }
  }
}

void Engine::TakePooled(Call& call, SequenceUpdate update) {
  call.usage.cached_tokens += update.num_cached_tokens;
  metrics_.CountEmbeddedInput();
  sequences_.erase(update.sequence);
  for (VectorEvent& event : call.pooled->Take(update.sequence, std::move(update.pooled)))
    Emit(call.request, std::move(event));
  if (call.pooled->done()) EndCall(call, absl::OkStatus(), FinishReason::kStop);
}

}  // namespace sluice
