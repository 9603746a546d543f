#include "rpc/event_book.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "absl/time/clock.h"
#include "base/logging.h"

namespace sluice::rpc {

EventBook::EventBook(OrphanAudit* audit, std::shared_ptr<Stage> stage, absl::Duration patience,
                     int64_t stall_round)
    : audit_(audit),
      stage_(stage == nullptr ? std::make_shared<Stage>("") : std::move(stage)),
      patience_(patience),
      stall_round_(stall_round) {}

void EventBook::Close() {
  const MutexLock lock(mutex_);
  closed_ = true;
}

StreamTag EventBook::Open(std::shared_ptr<EventSink> sink) {
  audit_->StreamOpened();
  const MutexLock lock(mutex_);
  const StreamTag tag = next_tag_++;
  swept_.push_back(sink);
  sinks_.emplace(tag, std::move(sink));
  return tag;
}

void EventBook::Publish(std::vector<StreamEvent> events) {
  if (events.empty()) return;
  const MutexLock lock(mutex_);
  if (closed_) return;
  if (!queue_.empty()) {
    std::move(events.begin(), events.end(), std::back_inserter(queue_));
    return;
  }
  // A round that hangs must not have its time put off.
  if (!in_round_) stage_->Expect(absl::Now() + patience_);
  queue_ = std::move(events);
  // Still under the lock: with the last End delivered, the owner may let go of the book.
  Wake();
}

bool EventBook::WaitUntilEmpty(absl::Duration timeout) {
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  const MutexLock lock(mutex_);
  while (!sinks_.empty()) {
    if (empty_.wait_until(mutex_, until) == std::cv_status::timeout) return sinks_.empty();
  }
  return true;
}

bool EventBook::Round() {
  std::vector<StreamEvent> events;
  {
    const MutexLock lock(mutex_);
    if (queue_.empty()) return false;
    events.swap(queue_);
    in_round_ = true;
    stage_->Expect(absl::Now() + patience_);
  }
  if (++num_rounds_ == stall_round_) {
    Log(LogLevel::kWarn, "planted_stall");
    absl::SleepFor(kPlantedStall);
  }
  Deliver(std::move(events));
  const MutexLock lock(mutex_);
  in_round_ = false;
  if (queue_.empty()) {
    stage_->Rest();
  } else {
    stage_->Expect(absl::Now() + patience_);
  }
  return true;
}

void EventBook::Deliver(std::vector<StreamEvent> events) {
  // The sinks of the round in one look-up each, in order of first touch; a sink that had its End
  // leaves the table.
  std::vector<std::shared_ptr<EventSink>> touched;
  std::vector<EventSink*> sink_of(events.size(), nullptr);
  std::unordered_map<StreamTag, EventSink*> seen;
  std::vector<StreamTag> ended;
  {
    const MutexLock lock(mutex_);
    for (size_t i = 0; i < events.size(); ++i) {
      const auto [entry, is_new] = seen.emplace(events[i].tag, nullptr);
      if (is_new) {
        const auto found = sinks_.find(events[i].tag);
        if (found == sinks_.end()) continue;  // a tag we never gave, or an event after its End
        entry->second = found->second.get();
        touched.push_back(found->second);
      }
      sink_of[i] = entry->second;
    }
  }
  for (size_t i = 0; i < events.size(); ++i) {
    if (sink_of[i] == nullptr) continue;
    if (std::holds_alternative<End>(events[i].event)) ended.push_back(events[i].tag);
    sink_of[i]->Apply(std::move(events[i].event));
  }
  for (const auto& sink : touched) sink->Flush();
  if (ended.empty()) return;
  const MutexLock lock(mutex_);
  for (const StreamTag tag : ended) {
    if (sinks_.erase(tag) != 0) audit_->StreamClosed();
  }
  if (sinks_.empty()) empty_.notify_all();
}

void EventBook::SweepAll() {
  std::vector<std::shared_ptr<EventSink>> sinks;
  {
    const MutexLock lock(mutex_);
    std::erase_if(swept_, [](const std::weak_ptr<EventSink>& sink) { return sink.expired(); });
    sinks.reserve(swept_.size());
    for (const auto& weak : swept_) {
      if (auto sink = weak.lock()) sinks.push_back(std::move(sink));
    }
  }
  const absl::Time now = absl::Now();
  for (const auto& sink : sinks) sink->Sweep(now);
}

}  // namespace sluice::rpc
