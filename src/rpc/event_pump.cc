#include "rpc/event_pump.h"

#include <chrono>
#include <utility>

#include "base/thread_name.h"

namespace sluice::rpc {
namespace {

constexpr std::chrono::seconds kSweepInterval{1};

}  // namespace

EventPump::EventPump(OrphanAudit* audit, std::shared_ptr<Stage> stage, absl::Duration patience,
                     int64_t stall_round)
    : EventBook(audit, std::move(stage), patience, stall_round), thread_([this] { Run(); }) {}

EventPump::~EventPump() { Stop(); }

void EventPump::Stop() {
  Close();
  {
    const MutexLock lock(wake_mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void EventPump::Wake() {
  {
    const MutexLock lock(wake_mutex_);
    woken_ = true;
  }
  wake_.notify_one();
}

void EventPump::Run() {
  NameThread("grpc-events");
  auto next_sweep = std::chrono::steady_clock::now() + kSweepInterval;
  for (;;) {
    bool stop = false;
    {
      const MutexLock lock(wake_mutex_);
      while (!woken_ && !stop_) {
        if (wake_.wait_until(wake_mutex_, next_sweep) == std::cv_status::timeout) break;
      }
      woken_ = false;
      stop = stop_;
    }
    const bool any = Round();
    if (stop && !any) return;
    if (std::chrono::steady_clock::now() >= next_sweep) {
      SweepAll();
      next_sweep = std::chrono::steady_clock::now() + kSweepInterval;
    }
  }
}

}  // namespace sluice::rpc
