// Threads for work proportional to a prompt: templates, tokenizing, large JSON. Thread-safe.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace sluice {

class PreparePool {
 public:
  PreparePool(int num_threads, size_t max_queued);
  ~PreparePool();  // runs what is queued, then joins
  PreparePool(const PreparePool&) = delete;
  PreparePool& operator=(const PreparePool&) = delete;

  // Errors: ResourceExhausted when max_queued tasks wait; `task` is then not run. Never blocks.
  absl::Status Submit(std::function<void()> task);

 private:
  void Run();

  const size_t max_queued_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice
