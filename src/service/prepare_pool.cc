#include "service/prepare_pool.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/thread_name.h"

namespace sluice {

PreparePool::PreparePool(int num_threads, size_t max_queued, StageWatch* watch,
                         absl::Duration patience)
    : max_queued_(max_queued), patience_(patience) {
  for (int i = 0; i < num_threads; i++) {
    auto stage = watch == nullptr ? std::make_shared<Stage>("") : watch->Add("prepare");
    threads_.emplace_back([this, stage] {
      NameThread("prepare");
      Run(stage.get());
    });
  }
}

PreparePool::~PreparePool() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status PreparePool::Submit(std::function<void()> task, size_t num_bytes,
                                 const std::string& group, double share) {
  {
    const MutexLock lock(mutex_);
    const auto found = tasks_.find(group);
    const size_t own = found == tasks_.end() ? 0 : found->second.size();
    if (num_tasks_ >= max_queued_ ||
        (own > 0 && static_cast<double>(own) >= share * static_cast<double>(max_queued_))) {
      return WithErrorCode(
          absl::ResourceExhaustedError(fmt::format(
              "{} requests wait to be prepared, {} of them the tenant's; the limit is {}",
              num_tasks_, own, max_queued_)),
          "queue_full");
    }
    tasks_[group].push_back({std::move(task), num_bytes});
    ++num_tasks_;
  }
  wake_.notify_one();
  return absl::OkStatus();
}

// Of the group after the one that had the last turn.
PreparePool::Task PreparePool::TakeTask() {
  auto group = tasks_.upper_bound(last_group_);
  if (group == tasks_.end()) group = tasks_.begin();
  last_group_ = group->first;
  Task task = std::move(group->second.front());
  group->second.pop_front();
  if (group->second.empty()) tasks_.erase(group);
  --num_tasks_;
  return task;
}

void PreparePool::Run(Stage* stage) {
  while (true) {
    Task task;
    {
      std::unique_lock<Mutex> lock(mutex_);
      wake_.wait(lock,
                 [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = TakeTask();
    }
    stage->Expect(absl::Now() + patience_ +
                  absl::Microseconds(static_cast<int64_t>(task.num_bytes)));
    task.run();
    stage->Rest();
  }
}

}  // namespace sluice
