// Whether an engine takes one more request: bounds of the waiting queue, in sequences, tokens and
// estimated seconds, for all and for each tenant, and deadlines that cannot be met. Decides on what
// it is told; its owner guards it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/step_durations.h"
#include "scheduler/scheduler.h"

namespace sluice {

struct AdmissionLimits {
  int64_t max_waiting_sequences = 256;
  int64_t max_waiting_tokens = 1 << 20;
  absl::Duration max_wait;  // zero: no limit
  int64_t max_step_tokens = 512;

  static AdmissionLimits Of(const SchedulerConfig& config, absl::Duration max_wait);
};

// What a request would add to the queue.
struct Demand {
  std::string_view tenant;
  int32_t weight = 1;          // as the scheduler's
  double max_queue_share = 1;  // of each bound, for all of the tenant's waiting requests
  int64_t sequences = 1;
  int64_t tokens = 1;  // of its prompts; a lower bound will do for a first answer
  absl::Time deadline = absl::InfiniteFuture();
};

class Admission {
 public:
  struct Queued {
    int64_t sequences = 0, tokens = 0;
    int32_t weight = 1;
  };
  using Queue = std::map<std::string, Queued, std::less<>>;  // by tenant
  [[nodiscard]] static Queue QueueOf(const Scheduler& scheduler);

  explicit Admission(const AdmissionLimits& limits) : limits_(limits) {}

  // Errors: ResourceExhausted with code "queue_full", "queue_share" or "wait_too_long";
  // DeadlineExceeded with "deadline_unreachable". All say when to try again. A request that finds
  // no other waiting is never too large for the queue.
  [[nodiscard]] absl::Status Check(const Demand& demand, absl::Time now) const;

  // How long such a request would wait for its first row: the work that goes before it, over the
  // rate at which waiting work leaves the queue while there is a backlog, whatever bounds that rate
  // (rows, tokens or KV blocks). Of each other tenant no more goes before it than the tenant's own
  // backlog, by weight: so the scheduler shares.
  [[nodiscard]] absl::Duration EstimatedWait(const Demand& demand) const;
  // And then for its first token, as far as steps of that size were measured.
  [[nodiscard]] absl::Duration EstimatedPrefill(int64_t tokens) const;

  void Add(const Demand& demand);
  void SetQueue(Queue queue);  // the whole one anew

  // A step has ended. `admitted_tokens`: have left the queue for a row, ever; `backlog`: others
  // still wait.
  void StepEnded(absl::Time now, int64_t admitted_tokens, bool backlog);
  StepDurations& durations() { return durations_; }
  [[nodiscard]] const StepDurations& durations() const { return durations_; }

  [[nodiscard]] double tokens_per_second() const { return rate_; }  // 0: no backlog was seen yet

 private:
  [[nodiscard]] absl::Status Refuse(const std::string& message, std::string_view code,
                                    double excess_tokens) const;
  [[nodiscard]] absl::Status CheckBounds(const Demand& demand) const;
  [[nodiscard]] Queued QueuedOf(std::string_view tenant) const;

  const AdmissionLimits limits_;
  Queue queue_;
  int64_t sequences_ = 0, tokens_ = 0;  // of queue_
  StepDurations durations_;
  double rate_ = 0;     // tokens/s that leave a backlog, smoothed over kMemory
  double seconds_ = 0;  // of backlog that rate_ has seen, up to kMemory
  absl::Time last_end_ = absl::InfinitePast();
  int64_t last_admitted_ = 0;
  bool last_backlog_ = false;
};

}  // namespace sluice
