#include "service/prepare_pool.h"

#include <fmt/format.h>

#include <utility>

namespace sluice {

PreparePool::PreparePool(int num_threads, size_t max_queued) : max_queued_(max_queued) {
  for (int i = 0; i < num_threads; i++) threads_.emplace_back([this] { Run(); });
}

PreparePool::~PreparePool() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status PreparePool::Submit(std::function<void()> task) {
  {
    const MutexLock lock(mutex_);
    if (tasks_.size() >= max_queued_) {
      return absl::ResourceExhaustedError(fmt::format(
          "{} requests wait to be prepared; the limit is {}", tasks_.size(), max_queued_));
    }
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
  return absl::OkStatus();
}

void PreparePool::Run() {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock<Mutex> lock(mutex_);
      wake_.wait(lock,
                 [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace sluice
