// Events for one thread that waits for them.
#pragma once

#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "bench/serve/monotonic.h"
#include "sluice/service.h"

namespace sluice {

class BlockingQueue final : public EventQueue {
 public:
  // What was published at one time: the taker may come to it later.
  struct Batch {
    int64_t at_ns = 0;  // of load::NowNs
    std::vector<StreamEvent> events;
  };

  void Publish(std::vector<StreamEvent> events) override {
    const int64_t now_ns = load::NowNs();
    {
      const MutexLock lock(mutex_);
      batches_.push_back({now_ns, std::move(events)});
    }
    wake_.notify_one();
  }
  // Everything there is, or nothing after `wait`: the caller looks for Ctrl-C in between.
  std::vector<Batch> Take(std::chrono::milliseconds wait) {
    std::unique_lock<Mutex> lock(mutex_);
    wake_.wait_for(lock, wait,
                   [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !batches_.empty(); });
    return std::exchange(batches_, {});
  }

 private:
  Mutex mutex_;
  CondVar wake_;
  std::vector<Batch> batches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice
