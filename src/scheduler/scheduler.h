// Which sequences run in the next step, and with how many tokens. A pure state machine: no thread,
// lock, clock, log, metric, device or floating point. The same calls give byte-identical plans.
// Engine thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/block_pool.h"
#include "scheduler/sequence.h"
#include "scheduler/tenants.h"
#include "scheduler/waiting_queue.h"
#include "sluice/types.h"
#include "step/batch_plan.h"
#include "step/step_result.h"

namespace sluice {

struct SchedulerConfig {
  int32_t max_rows = 32;          // sequences in a step; also the number of slots
  int32_t max_step_tokens = 512;  // the token budget of a step
  int32_t kv_block_tokens = 16;
  int32_t num_kv_blocks = 0;
  int32_t max_model_len = 0;  // prompt and output tokens of a sequence
  int32_t max_waiting_sequences = 256;
  int64_t max_waiting_tokens = 1 << 20;  // prompt tokens in waiting sequences
  int32_t max_steps_in_flight = 1;
  absl::Duration priority_ageing;  // of waiting that is worth one step of priority; zero: none is
  bool prefix_cache = true;
  // A prompt is one row, never cut: for models whose tokens look ahead, or whose vector is made of
  // all of them. The prefix cache is then off, and no prompt may be longer than max_step_tokens.
  bool whole_prompts = false;
  bool keeps_kv = true;  // false, with whole_prompts: sequences need no KV blocks
};

// One token stream to generate.
struct SequenceSpec {
  SequenceId id = 0;  // unique, chosen by the engine
  std::shared_ptr<const SamplingParams> sampling;
  uint32_t choice = 0;
  std::vector<TokenId> prompt_tokens;         // not empty
  std::vector<TokenId> resume_output_tokens;  // counted as output from the start
  int32_t max_output_tokens = 0;              // >= 1, resumed ones included
  int32_t priority = 0;                       // lower first
  std::string tenant;  // fairness among equal priorities; salts the prefix cache
  int32_t weight = 1;  // of the tenant
  absl::Time arrival_time = absl::InfiniteFuture();  // it ages from then on
  absl::Time deadline = absl::InfiniteFuture();
  bool read_prefix_cache = true;
  // A choice of the same prompt that was added before: this one waits until that one's prompt is
  // computed (or it ended), so that its blocks are found in the prefix cache. 0: none.
  SequenceId leader = 0;
  bool pooled = false;       // ends with a vector, not tokens; max_output_tokens is not used
  int32_t second_begin = 0;  // as in Row
};

// News of one sequence.
struct SequenceUpdate {
  SequenceId sequence = 0;
  AcceptedTokens tokens;  // newly accepted, in order
  std::optional<FinishReason>
      finished;  // kStop, kLength (Apply) or kDeadline (Schedule); it has left the scheduler
  int32_t num_cached_tokens = 0;  // prompt tokens found in the prefix cache at first admission
  PooledVector pooled;            // the vector of a pooled sequence, with finished = kStop
};

struct ScheduleResult {
  BatchPlan plan;                     // empty(): nothing can run now
  std::vector<SequenceUpdate> ended;  // deadlines that passed, waiting or running
};

struct SchedulerStats {
  int32_t num_running = 0, num_waiting = 0;
  int64_t num_waiting_tokens = 0;
  int64_t num_admitted_tokens = 0;  // that have left the waiting ones for a row, ever
  int32_t num_free_blocks = 0, num_cached_blocks = 0,
          num_referenced_blocks = 0;  // sum: num_kv_blocks
  int64_t num_preemptions = 0, prefix_queries = 0,
          prefix_hits = 0;  // ever; prefix counts are in tokens
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Errors: ResourceExhausted when the waiting queue is full in sequences or tokens;
  // InvalidArgument when the sequence could never fit (context, KV pool). The sequence is then not
  // taken.
  absl::Status Add(SequenceSpec spec);

  // Ends a sequence from outside (client gone, stop string, parser): it is in no later plan; no
  // update comes for it, and results of steps in flight for it are dropped. Its blocks are free
  // once the steps that name them are applied. Finish keeps the first num_kept_tokens of its output
  // as prefix-cache content. Unknown ids are ignored.
  void Cancel(SequenceId sequence);
  void Finish(SequenceId sequence, int32_t num_kept_tokens);

  // The next step. May run ahead of Apply by up to max_steps_in_flight steps.
  ScheduleResult Schedule(absl::Time now);

  // Takes a step's result, in step order. Detects stop tokens and length.
  std::vector<SequenceUpdate> Apply(StepResult result);

  [[nodiscard]] bool HasSequences() const;  // waiting or running, or steps not yet applied
  [[nodiscard]] SchedulerStats stats() const;
  // By name; idle ones too, for a while.
  [[nodiscard]] const std::map<std::string, Tenant>& tenants() const { return tenants_.all(); }

  // Checks every invariant of design §5 that a caller cannot see; aborts with the values on
  // failure. For tests.
  void CheckInvariants() const;

 private:
  struct PlannedRow {
    Sequence* sequence = nullptr;
    int32_t num_tokens_after = 0;  // the sequence's KV is valid so far once the step is applied
    bool samples = false;
  };
  struct Step {  // one in flight
    StepId id = 0;
    std::vector<PlannedRow> rows;
  };
  struct Draft {  // the plan that Schedule is making
    BatchPlan plan;
    std::vector<PlannedRow> rows;
    int32_t budget = 0;  // tokens left
    // A tenant whose prompt ends in this step, with its counter before: of these the least served.
    const Tenant* answered = nullptr;
    int64_t answered_served = 0;
  };

  // The policy, in order.
  std::vector<SequenceUpdate> ExpireDeadlines(absl::Time now);
  void MakeRoom();
  void PlanGenerating(Draft& draft);
  void PlanPrompts(Draft& draft);
  BatchPlan Commit(Draft draft);

  Draft NewDraft();
  absl::Status CheckFits(const SequenceSpec& spec) const;
  absl::Status CheckOutput(const SequenceSpec& spec) const;
  absl::Status CheckQueue(size_t num_tokens) const;
  bool Admit(Draft& draft, Sequence& sequence);
  void PlanRow(Draft& draft, Sequence& sequence);
  void AppendRow(Draft& draft, Sequence& sequence, int32_t num_tokens);
  int32_t ReserveBlocks(Sequence& sequence, int32_t num_tokens);
  Sequence* TakeNextPrompt(std::vector<Sequence*>& half_done, Sequence* waiting,
                           int32_t short_tokens) const;
  void ChargeRow(Draft& draft, Sequence& sequence, bool samples);
  bool PreemptFor(Sequence& sequence);
  Sequence* Youngest(const Tenant& tenant) const;
  Sequence* FairVictim(const Tenant& poor, int64_t priority, int64_t Tenant::* holding,
                       int64_t wanted) const;
  void Preempt(Sequence& sequence);

  std::optional<SequenceUpdate> ApplyRow(const PlannedRow& row, RowResult result);
  SequenceUpdate TakeSample(Sequence& sequence, RowResult result);
  void Requeue(Sequence& sequence);
  void PublishFullBlocks(Sequence& sequence);

  Sequence* Find(SequenceId id);
  void EnterWaiting(Sequence& sequence);
  void LeaveWaiting(Sequence& sequence);
  void EnterRunning(Sequence& sequence);
  void LeaveRunning(Sequence& sequence);
  void OpenPrompt(Sequence& sequence);
  void ClosePrompt(Sequence& sequence);
  void ReleaseFollowers(Sequence& sequence);
  void ReleaseBlocks(Sequence& sequence);
  void End(Sequence& sequence);
  void Forget(Sequence& sequence);
  [[nodiscard]] int32_t NumBlocks(int32_t num_tokens) const;
  void CheckRunning(const Sequence& sequence) const;
  void CheckTenants() const;

  const SchedulerConfig config_;
  const int32_t max_tokens_;  // of a sequence: the context, or what the pool holds
  std::map<SequenceId, std::unique_ptr<Sequence>>
      sequences_;  // ended ones too, until no step names them
  Tenants tenants_;
  WaitingQueue waiting_;
  std::vector<Sequence*> running_;   // by rank, best first
  std::vector<int32_t> free_slots_;  // a heap: the lowest is given first, so that slots stay dense
  std::set<std::pair<absl::Time, SequenceId>>
      deadlines_;  // of waiting and running sequences that have one
  BlockPool pool_;
  std::deque<Step> in_flight_;
  StepId last_step_ = 0;
  uint64_t last_arrival_ = 0, last_admission_ = 0;
  absl::Time now_ = absl::InfinitePast();  // of the last Schedule
  int32_t num_held_ = 0, num_leaving_ = 0;
  int64_t num_waiting_tokens_ = 0, num_admitted_tokens_ = 0;
  int64_t num_preemptions_ = 0, prefix_queries_ = 0, prefix_hits_ = 0;

  // `starved` needs blocks of `victim`, which has a row in the plan already: the next Schedule
  // preempts it.
  struct Yield {
    const Sequence* starved = nullptr;
    Sequence* victim = nullptr;
  };
  Yield yield_;
  const Sequence* lacks_blocks_ =
      nullptr;  // the waiting one that the last Schedule had no room for
};

}  // namespace sluice
