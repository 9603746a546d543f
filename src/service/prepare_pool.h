// Threads for work proportional to a prompt: templates, tokenizing, large JSON. Thread-safe.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/stage_watch.h"

namespace sluice {

class PreparePool {
 public:
  // With a watch every thread is a stage of it: a task takes no longer than `patience`, and a
  // microsecond for each of its bytes.
  PreparePool(int num_threads, size_t max_queued, StageWatch* watch = nullptr,
              absl::Duration patience = absl::ZeroDuration());
  ~PreparePool();  // runs what is queued, then joins
  PreparePool(const PreparePool&) = delete;
  PreparePool& operator=(const PreparePool&) = delete;

  // Groups take turns, a task each: who queues up a thousand delays nobody else by more than one.
  // Errors: ResourceExhausted when max_queued tasks wait, or `share` of that of this group; `task`
  // is then not run. Never blocks. `num_bytes`: about what the task has to work through.
  absl::Status Submit(std::function<void()> task, size_t num_bytes, const std::string& group = "",
                      double share = 1);

 private:
  struct Task {
    std::function<void()> run;
    size_t num_bytes = 0;
  };
  void Run(Stage* stage);
  Task TakeTask() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_queued_;
  const absl::Duration patience_;
  Mutex mutex_;
  CondVar wake_;
  std::map<std::string, std::deque<Task>> tasks_
      ABSL_GUARDED_BY(mutex_);                      // by group; none is empty
  size_t num_tasks_ ABSL_GUARDED_BY(mutex_) = 0;    // in tasks_
  std::string last_group_ ABSL_GUARDED_BY(mutex_);  // whose turn it was
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice
