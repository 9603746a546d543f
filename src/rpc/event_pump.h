// The EventQueue of all gRPC calls: one thread between the engines and the streams.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/stage_watch.h"
#include "metrics/metrics.h"
#include "sluice/service.h"

namespace sluice::rpc {

// A call as the pump sees it. Called by the pump's thread only.
class EventSink {
 public:
  virtual ~EventSink() = default;
  // Takes one event into the call's state; writes nothing.
  virtual void Apply(decltype(StreamEvent::event) event) = 0;
  // Writes what is pending, if no write is in flight. Once after all Apply of a round.
  virtual void Flush() = 0;
  // About once a second for as long as the sink exists, after its End too: time limits.
  virtual void Sweep(absl::Time now) = 0;
};

// Each round takes everything that is queued, applies all of it, then flushes each touched stream
// once: tokens that queued up behind a slow write leave as one message. A StartWrite costs 10-14
// us, so a write per event would fall behind at about 70,000 events a second and never recover.
// Thread-safe.
class EventPump final : public EventQueue {
 public:
  // With a stage, a round that takes longer than `patience` is late. `stall_round`: the round that
  // hangs, for tests; 0: none.
  explicit EventPump(OrphanAudit* audit, std::shared_ptr<Stage> stage = nullptr,
                     absl::Duration patience = absl::InfiniteDuration(), int64_t stall_round = 0);
  ~EventPump() override;
  EventPump(const EventPump&) = delete;
  EventPump& operator=(const EventPump&) = delete;

  // Enters a call: before Service::Generate, which must follow. Counts StreamOpened here and
  // StreamClosed with its End. Owners of the sink: the pump until its End, gRPC until OnDone;
  // either may be the last.
  StreamTag Open(std::shared_ptr<EventSink> sink);

  void Publish(std::vector<StreamEvent> events) override;

  // True once every stream has had its End; false if some have not after `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout);

  // Ends the thread; what is published from now on is dropped.
  void Stop();

 private:
  void Run();
  void Round(std::vector<StreamEvent> events);
  void SweepAll();

  OrphanAudit* const audit_;
  const std::shared_ptr<Stage> stage_;  // owners: this and the watch
  const absl::Duration patience_;
  const int64_t stall_round_;
  int64_t num_rounds_ = 0;  // the pump's thread only
  Mutex mutex_;
  CondVar wake_, empty_;
  std::vector<StreamEvent> queue_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<StreamTag, std::shared_ptr<EventSink>> sinks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<EventSink>> swept_ ABSL_GUARDED_BY(mutex_);
  StreamTag next_tag_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool in_round_ ABSL_GUARDED_BY(mutex_) = false;  // the thread has taken events, or sweeps
  std::thread thread_;                             // last: it uses the rest
};

}  // namespace sluice::rpc
