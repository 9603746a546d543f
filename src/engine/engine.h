// The loop of one loaded model: inbox → scheduler → executor → output → event queues. One thread
// owns the scheduler, the sequences and their text; others meet it at the bounded inbox and at the
// event queues.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "engine/admission.h"
#include "engine/fairness_index.h"
#include "engine/output.h"
#include "engine/pooled_call.h"
#include "engine/request.h"
#include "metrics/metrics.h"
#include "scheduler/scheduler.h"
#include "step/executor.h"
#include "tokenizer/tokenizer.h"

namespace sluice {

struct EngineOptions {
  SchedulerConfig scheduler;
  absl::Duration max_wait;  // estimated in the queue, beyond which a request is refused; zero: none
  absl::Duration stall_timeout = absl::Seconds(2);
  std::string system_fingerprint;  // for Accepted
  bool plant_leak =
      false;  // the first cancelled call keeps its row: proves that the orphan audit sees a leak
};

class Engine {
 public:
  // The tokenizer, metrics and clock must outlive the engine.
  Engine(EngineOptions options, std::unique_ptr<Executor> executor, const Tokenizer& tokenizer,
         Metrics& metrics, const Clock& clock);
  ~Engine();  // ends what still runs with Cancelled
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Hands a request over: Accepted (or at once End) will come to its queue. Thread-safe, never
  // blocks. Errors: those of Admission::Check, Unavailable after a device error; no event comes
  // then.
  absl::Status Submit(Request request);

  // Whether Submit would take such a request now: spares the work of preparing one that it would
  // not. Thread-safe, never blocks. Errors: Submit's.
  [[nodiscard]] absl::Status Check(const Demand& demand) const;

  // The client has gone. Thread-safe, never blocks; unknown ids are ignored.
  void Cancel(CallId call);

  struct Health {
    bool live = true;       // false: the device failed
    bool advancing = true;  // false: there is work, and for stall_timeout, or four times what such
                            // a step took at worst, nothing of it has been done
  };
  [[nodiscard]] Health health() const;  // thread-safe, waits for nobody
  [[nodiscard]] bool idle() const;      // thread-safe: nothing submitted that has not ended

 private:
  struct Choice {
    SequenceId sequence = 0;
    ChoiceOutput output;
    absl::Time last_token_at = absl::InfinitePast();
    absl::Time first_token_at = absl::InfinitePast();
    bool live = true;
  };
  struct Call {
    Request request;
    std::vector<Choice> choices;
    std::optional<PooledCall> pooled;  // in place of choices
    int32_t num_live = 0;
    bool planned = false;
    FinishReason reason = FinishReason::kStop;
    Usage usage;
  };
  struct Inbox {
    std::vector<Request> requests;
    std::vector<CallId> cancels;
  };

  // This step's events for one front-end thread.
  struct Outbox {
    EventQueue* queue = nullptr;  // not touched once its last call has had its End
    std::vector<StreamEvent> events;
    size_t last_size = 0;  // of the step before: about what this one will hold
  };

  struct InFlight {
    StepId step = 0;
    std::vector<SequenceId> sequences;
    int64_t num_tokens = 0;
    absl::Time began;
  };

  void Run();
  bool DrainInbox();  // false: stop
  void Add(Request request);
  void CancelCall(CallId call);
  // engine_pooled.cc
  void AddPooled(Call& call);
  void FeedPooledCalls();
  absl::Status FeedPooled(Call& call);
  void TakePooled(Call& call, SequenceUpdate update);
  void SubmitSteps();
  void FinishStep();
  void Take(SequenceUpdate update, absl::Time now);
  void CountTokens(Call& call, Choice& choice, size_t num_tokens, absl::Time now);
  void EmitPiece(const Call& call, int32_t choice, ChoiceOutput::Piece piece,
                 std::optional<FinishReason> finish);
  void EndChoice(Call& call, Choice& choice, FinishReason reason);
  void EndCall(Call& call, absl::Status status, FinishReason reason);
  void Fail(const absl::Status& error);
  void Emit(const Request& request, std::variant<Accepted, TokenEvent, VectorEvent, End> event);
  void PublishMetrics();
  void PublishEvents();
  void PublishState();
  void ExpectProgress(int64_t step_tokens);

  const EngineOptions options_;
  const std::unique_ptr<Executor> executor_;
  const Tokenizer& tokenizer_;
  Metrics& metrics_;
  const Clock& clock_;

  mutable Mutex mutex_;
  CondVar wake_;
  Inbox inbox_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  Admission admission_ ABSL_GUARDED_BY(mutex_);  // inbox and waiting queue, as of the last step
  absl::Time must_advance_by_ ABSL_GUARDED_BY(mutex_);  // while busy
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;

  // Engine thread only.
  Scheduler scheduler_;
  std::deque<InFlight> in_flight_;
  absl::flat_hash_map<CallId, std::unique_ptr<Call>> calls_;
  absl::flat_hash_map<SequenceId, std::pair<Call*, int32_t>>
      sequences_;  // live ones: call and choice
  std::vector<Outbox> outbox_;
  std::set<CallId> backlog_;  // pooled calls with inputs that are not yet in the scheduler
  CallId last_fed_ = 0;       // of them: the next one goes on
  SequenceId next_sequence_ = 1;
  absl::Time last_step_end_ = absl::InfinitePast();
  FairnessIndex fairness_;
  bool device_failed_ = false;
  bool leaked_ = false;
  std::thread thread_;
};

}  // namespace sluice
