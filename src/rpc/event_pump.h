// The events of all of grpc++'s calls: one thread between the engines and the streams.
#pragma once

#include <thread>

#include "rpc/event_book.h"

namespace sluice::rpc {

// A StartWrite of grpc++ costs 10-14 us, so a write per event would fall behind at about 70,000
// events a second and never recover; rounds do.
class EventPump final : public EventBook {
 public:
  explicit EventPump(OrphanAudit* audit, std::shared_ptr<Stage> stage = nullptr,
                     absl::Duration patience = absl::InfiniteDuration(), int64_t stall_round = 0);
  ~EventPump() override;

  // Ends the thread; what is published from now on is dropped.
  void Stop();

 private:
  void Wake() override;
  void Run();

  Mutex wake_mutex_;
  CondVar wake_;
  bool woken_ ABSL_GUARDED_BY(wake_mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(wake_mutex_) = false;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace sluice::rpc
