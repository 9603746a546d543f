// Requests handed to a Service of this process, and the measuring of what comes back: the load of
// `bench latency` and `bench throughput`.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "apps/blocking_queue.h"
#include "bench/serve/exchange.h"
#include "bench/serve/measurement.h"
#include "bench/serve/runner.h"
#include "sluice/service.h"

namespace sluice {

// Functions are called on the run's thread.
struct OfflineHooks {
  std::function<void(const load::Progress&)> tick;  // ten times a second; may be empty
  std::function<bool()> stopped;                    // asked often; may be empty
  // How long an idle service may refuse everything before that counts as failure.
  absl::Duration patience = absl::Seconds(10);
};

class OfflineRun {
 public:
  // What is asked, one after the other; empty: no more. Its max_tokens is set.
  using Source = std::function<std::optional<GenerateRequest>()>;

  // `queue` outlives the service. The service has no other client.
  OfflineRun(Service& service, BlockingQueue& queue, OfflineHooks hooks)
      : service_(service), queue_(queue), hooks_(std::move(hooks)) {}

  // Hands over everything `next` gives as fast as the service takes it, and waits for the answers.
  // A refusal for a full queue is made again as soon as something has left it. All requests count
  // as due at once, when this is called.
  void Run(const Source& next, load::Measurement& measured);

  // When the last answer of the last Run was complete.
  [[nodiscard]] int64_t end_ns() const { return end_ns_; }
  // Refusals for a full queue that were made again.
  [[nodiscard]] int64_t num_refusals() const { return num_refusals_; }
  // Whether `stopped` ended a run.
  [[nodiscard]] bool interrupted() const { return interrupted_; }

  // The kind of an error, as reports count them: the service's code for it, or the status'.
  static std::string ErrorKindOf(const absl::Status& status);

 private:
  struct Flight {
    load::Exchange exchange;
    GenerateRequest request;  // until it is accepted: it may have to be handed over again
    CallId call = 0;
    bool accepted = false;
    bool exact = false;  // anything but max_tokens tokens is an error
  };

  void HandOver(StreamTag tag);
  void Take(load::Measurement& measured);
  [[nodiscard]] bool MayHealBy(int64_t now_ns, const absl::Status& status) const;
  void Apply(StreamEvent& event, int64_t at_ns, load::Measurement& measured);
  void Finish(StreamTag tag, const End& end, int64_t at_ns, load::Measurement& measured);
  void Stop(load::Measurement& measured);
  void Tick(const load::Measurement& measured);

  Service& service_;
  BlockingQueue& queue_;
  const OfflineHooks hooks_;
  std::unordered_map<StreamTag, Flight> flights_;  // handed over or refused for now
  std::deque<StreamTag> refused_;                  // to be handed over again, in order
  bool full_ = false;                              // nothing has left the queue since a refusal
  bool more_ = false;                              // `next` may give another
  bool interrupted_ = false;
  StreamTag next_tag_ = 0;
  int64_t num_accepted_ = 0;  // of the flights
  int64_t begin_ns_ = 0, end_ns_ = 0, next_tick_ns_ = 0;
  int64_t progress_ns_ = 0;  // when something was accepted or ended last
  int64_t num_refusals_ = 0;
};

}  // namespace sluice
