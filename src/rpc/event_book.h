// The EventQueue of gRPC calls: which stream each event belongs to, and rounds that deliver them.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/stage_watch.h"
#include "metrics/metrics.h"
#include "sluice/service.h"

namespace sluice::rpc {

// A call as the book sees it. Called by the book's thread only.
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
// once: tokens that queued up behind a slow write leave as one message. A thread of grpc++'s
// server, or an I/O thread, does the rounds when it is woken. Thread-safe, but for Round and
// SweepAll, which are its thread's.
class EventBook : public EventQueue {
 public:
  // With a stage, a round that takes longer than `patience` is late. `stall_round`: the round that
  // hangs, for tests; 0: none.
  EventBook(OrphanAudit* audit, std::shared_ptr<Stage> stage, absl::Duration patience,
            int64_t stall_round);
  EventBook(const EventBook&) = delete;
  EventBook& operator=(const EventBook&) = delete;

  // Enters a call: before Service::Generate, which must follow. Counts StreamOpened here and
  // StreamClosed with its End. Owners of the sink: the book until its End, the transport until
  // OnDone; either may be the last.
  StreamTag Open(std::shared_ptr<EventSink> sink);

  void Publish(std::vector<StreamEvent> events) override;

  // True once every stream has had its End; false if some have not after `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout);

 protected:
  // The queue is no longer empty. Called by whoever publishes, under the book's lock; never twice
  // without a Round between.
  virtual void Wake() = 0;
  // What is published from now on is dropped.
  void Close();
  // One round of what is queued now. False: there was nothing.
  bool Round();
  void SweepAll();

 private:
  void Deliver(std::vector<StreamEvent> events);

  OrphanAudit* const audit_;
  const std::shared_ptr<Stage> stage_;  // owners: this and the watch
  const absl::Duration patience_;
  const int64_t stall_round_;
  int64_t num_rounds_ = 0;  // the book's thread only
  Mutex mutex_;
  CondVar empty_;
  std::vector<StreamEvent> queue_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<StreamTag, std::shared_ptr<EventSink>> sinks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<EventSink>> swept_ ABSL_GUARDED_BY(mutex_);
  StreamTag next_tag_ ABSL_GUARDED_BY(mutex_) = 1;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool in_round_ ABSL_GUARDED_BY(mutex_) = false;  // the thread has taken events
};

}  // namespace sluice::rpc
