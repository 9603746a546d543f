#include "executor/ranked_executor.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace sluice {

void RankedExecutor::Send(Rank& rank, Command command) {
  MutexLock lock(rank.mutex);
  rank.commands.push_back(std::move(command));
  rank.changed.notify_all();
}

// A rank's thread. What a Submit fails with is told by the Wait that follows.
void RankedExecutor::Serve(Rank& rank, int32_t index, const MakeRank& make) {
  absl::StatusOr<std::unique_ptr<Executor>> executor = make(index);
  {
    MutexLock lock(rank.mutex);
    rank.made = executor.ok() ? absl::StatusOr<int>((*executor)->max_steps_in_flight())
                              : absl::StatusOr<int>(executor.status());
    rank.changed.notify_all();
  }
  if (!executor.ok()) return;
  absl::Status failure;
  for (;;) {
    Command command;
    {
      MutexLock lock(rank.mutex);
      while (rank.commands.empty()) rank.changed.wait(rank.mutex);
      command = std::move(rank.commands.front());
      rank.commands.pop_front();
    }
    if (std::holds_alternative<Stop>(command)) return;
    if (auto* plan = std::get_if<BatchPlan>(&command)) {
      if (failure.ok()) failure = (*executor)->Submit(std::move(*plan));
      continue;
    }
    absl::StatusOr<StepResult> result = failure.ok() ? (*executor)->Wait(std::get<StepId>(command))
                                                     : absl::StatusOr<StepResult>(failure);
    MutexLock lock(rank.mutex);
    rank.results.push_back(std::move(result));
    rank.changed.notify_all();
  }
}

absl::StatusOr<std::unique_ptr<RankedExecutor>> RankedExecutor::Create(int32_t num_ranks,
                                                                       const MakeRank& make) {
  auto executor = std::unique_ptr<RankedExecutor>(new RankedExecutor);
  for (int32_t r = 0; r < num_ranks; ++r) {
    Rank& rank = *executor->ranks_.emplace_back(std::make_unique<Rank>());
    rank.thread = std::thread([&rank, r, make] { Serve(rank, r, make); });
  }
  absl::Status first;
  for (const auto& owner : executor->ranks_) {
    Rank& rank = *owner;
    MutexLock lock(rank.mutex);
    while (!rank.made.has_value()) rank.changed.wait(rank.mutex);
    if (first.ok()) first = rank.made->status();
    if (rank.made->ok()) executor->max_steps_in_flight_ = **rank.made;
  }
  RETURN_IF_ERROR(first);
  return executor;
}

RankedExecutor::~RankedExecutor() {
  for (const auto& rank : ranks_) Send(*rank, Stop{});
  for (const auto& rank : ranks_) rank->thread.join();
}

absl::Status RankedExecutor::Submit(BatchPlan plan) {
  RETURN_IF_ERROR(failure_);
  for (size_t r = 1; r < ranks_.size(); ++r) Send(*ranks_[r], plan);
  Send(*ranks_.front(), std::move(plan));
  return absl::OkStatus();
}

absl::StatusOr<StepResult> RankedExecutor::Wait(StepId step) {
  RETURN_IF_ERROR(failure_);
  for (const auto& rank : ranks_) Send(*rank, step);
  std::vector<absl::StatusOr<StepResult>> results;
  for (const auto& owner : ranks_) {
    Rank& rank = *owner;
    MutexLock lock(rank.mutex);
    while (rank.results.empty()) rank.changed.wait(rank.mutex);
    results.push_back(std::move(rank.results.front()));
    rank.results.pop_front();
  }
  for (const absl::StatusOr<StepResult>& result : results) {
    if (!result.ok()) return failure_ = result.status();
  }
  return std::move(results.front());
}

}  // namespace sluice
