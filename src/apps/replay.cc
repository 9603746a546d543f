#include "apps/replay.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/virtual_clock.h"
#include "engine/admission.h"
#include "executor/simulated_executor.h"

namespace sluice {
namespace {

// One request on its way. Its sequence's id is its place in the trace, from 1.
struct Progress {
  absl::Time arrived, first, last;
  int32_t num_tokens = 0, num_late = 0;  // gaps longer than the limit
};

class Replayer {
 public:
  Replayer(const std::vector<TraceRequest>& trace, const ReplayOptions& options)
      : trace_(trace),
        options_(options),
        scheduler_(options.scheduler),
        admission_(AdmissionLimits::Of(options.scheduler, options.max_wait)),
        executor_({.max_rows = options.scheduler.max_rows,
                   .kv_block_tokens = options.scheduler.kv_block_tokens,
                   .num_kv_blocks = options.scheduler.num_kv_blocks,
                   .max_steps_in_flight = options.scheduler.max_steps_in_flight,
                   .time = options.time,
                   .clock = &clock_,
                   .wait_until = [this](absl::Time end) { clock_.AdvanceTo(end); },
                   .check_plans = false}),
        progress_(trace.size()) {}

  // The engine's loop, with an arrival in place of a wake-up.
  absl::StatusOr<ReplayResult> Run() {
    while (next_ < trace_.size() || scheduler_.HasSequences()) {
      TakeArrivals();
      RETURN_IF_ERROR(SubmitSteps());
      if (!in_flight_.empty()) {
        RETURN_IF_ERROR(FinishStep());
      } else if (next_ < trace_.size()) {
        AdvanceTo(ArrivalOf(trace_[next_]));
      } else if (scheduler_.HasSequences()) {
        return absl::InternalError("the scheduler has sequences and plans none");
      }
    }
    return Sum();
  }

 private:
  static absl::Time ArrivalOf(const TraceRequest& request) {
    return absl::UnixEpoch() + absl::Nanoseconds(std::llround(request.at_s * 1e9));
  }

  struct InFlight {
    StepId step = 0;
    int64_t num_tokens = 0;
    absl::Time began;
  };

  // What came while the last step ran is taken now, as the engine would.
  void TakeArrivals() {
    while (next_ < trace_.size() && ArrivalOf(trace_[next_]) <= clock_.Now()) Add(next_++);
  }

  void Add(size_t number) {
    const TraceRequest& request = trace_[number];
    ++result_.requests;
    const int64_t tokens = int64_t{request.prompt_tokens} + request.output_tokens;
    if (tokens > options_.scheduler.max_model_len) {
      ++result_.too_long;
      return;
    }
    const Demand demand{.tenant = request.tenant, .tokens = request.prompt_tokens};
    progress_[number].arrived = ArrivalOf(request);
    if (!admission_.Check(demand, clock_.Now()).ok() ||
        !scheduler_
             .Add({.id = number + 1,
                   .sampling = sampling_,
                   .prompt_tokens = PromptOf(request, number),
                   .max_output_tokens = request.output_tokens,
                   .priority = request.priority,
                   .tenant = request.tenant,
                   .arrival_time = progress_[number].arrived})
             .ok()) {
      ++result_.refused;
      return;
    }
    admission_.Add(demand);
    result_.prompt_tokens += request.prompt_tokens;
  }

  absl::Status SubmitSteps() {
    while (static_cast<int>(in_flight_.size()) < executor_.max_steps_in_flight()) {
      BatchPlan plan = scheduler_.Schedule(clock_.Now()).plan;
      if (plan.empty()) return absl::OkStatus();
      in_flight_.push_back(
          {.step = plan.step, .num_tokens = plan.num_tokens(), .began = clock_.Now()});
      ++result_.steps;
      num_rows_ += plan.num_rows();
      num_tokens_ += plan.num_tokens();
      RETURN_IF_ERROR(executor_.Submit(std::move(plan)));
    }
    return absl::OkStatus();
  }

  absl::Status FinishStep() {
    const double kv = KvUsage();
    const absl::Time before = clock_.Now();
    const InFlight step = in_flight_.front();
    ASSIGN_OR_RETURN(StepResult result, executor_.Wait(step.step));
    in_flight_.pop_front();
    kv_seconds_ += kv * absl::ToDoubleSeconds(clock_.Now() - before);
    result_.kv_peak = std::max(result_.kv_peak, kv);
    result_.busy_seconds += absl::ToDoubleSeconds(result.device_time);
    result_.idle_seconds +=
        absl::ToDoubleSeconds(result.idle_before.value_or(absl::ZeroDuration()));
    for (const SequenceUpdate& update : scheduler_.Apply(std::move(result))) Take(update);
    const SchedulerStats stats = scheduler_.stats();
    admission_.durations().Observe(
        step.num_tokens,
        clock_.Now() - std::max(step.began, std::exchange(last_end_, clock_.Now())));
    admission_.StepEnded(clock_.Now(), stats.num_admitted_tokens, stats.num_waiting > 0);
    admission_.SetQueue(Admission::QueueOf(scheduler_));
    return absl::OkStatus();
  }

  void AdvanceTo(absl::Time time) {
    kv_seconds_ += KvUsage() * absl::ToDoubleSeconds(time - clock_.Now());
    clock_.AdvanceTo(time);
  }

  [[nodiscard]] double KvUsage() const {
    return static_cast<double>(scheduler_.stats().num_referenced_blocks) /
           options_.scheduler.num_kv_blocks;
  }

  void Take(const SequenceUpdate& update) {
    Progress& p = progress_[update.sequence - 1];
    const absl::Time now = clock_.Now();
    for (size_t i = 0; i < update.tokens.size(); ++i) {
      if (p.num_tokens++ == 0) {
        p.first = now;
        ttft_.push_back(Seconds(now - p.arrived));
      } else {
        const absl::Duration gap = i == 0 ? now - p.last : absl::ZeroDuration();
        itl_.push_back(Seconds(gap));
        p.num_late += absl::ToDoubleSeconds(gap) > options_.slo_itl_s ? 1 : 0;
      }
      p.last = now;
    }
    result_.output_tokens += static_cast<int64_t>(update.tokens.size());
    if (!update.finished) return;
    ++result_.completed;
    result_.cached_tokens += update.num_cached_tokens;
    e2e_.push_back(Seconds(now - p.arrived));
    const bool soon = absl::ToDoubleSeconds(p.first - p.arrived) <= options_.slo_ttft_s;
    const bool steady = int64_t{p.num_late} * 100 <= p.num_tokens - 1;
    result_.good += soon && steady ? 1 : 0;
    ended_ = now;
  }

  ReplayResult Sum() {
    const absl::Time began = ArrivalOf(trace_.front());
    const double steps = static_cast<double>(std::max<int64_t>(result_.steps, 1));
    result_.seconds = ended_ > began ? absl::ToDoubleSeconds(ended_ - began) : 0;
    result_.kv_mean = result_.seconds > 0 ? kv_seconds_ / result_.seconds : 0;
    result_.rows_a_step = static_cast<double>(num_rows_) / steps;
    result_.tokens_a_step = static_cast<double>(num_tokens_) / steps;
    result_.preemptions = scheduler_.stats().num_preemptions;
    result_.ttft = DistributionOf(std::move(ttft_));
    result_.itl = DistributionOf(std::move(itl_));
    result_.e2e = DistributionOf(std::move(e2e_));
    result_.cost = options_.cost_per_hour * result_.seconds / 3600;
    if (result_.output_tokens > 0) {
      result_.cost_per_million_output_tokens =
          result_.cost * 1e6 / static_cast<double>(result_.output_tokens);
    }
    return result_;
  }

  static float Seconds(absl::Duration time) {
    return static_cast<float>(absl::ToDoubleSeconds(time));
  }

  const std::vector<TraceRequest>& trace_;
  const ReplayOptions& options_;
  // Owners: this and the scheduler's sequences.
  const std::shared_ptr<const SamplingParams> sampling_ = std::make_shared<SamplingParams>();
  VirtualClock clock_;
  Scheduler scheduler_;
  Admission admission_;
  SimulatedExecutor executor_;
  std::deque<InFlight> in_flight_;
  absl::Time last_end_ = absl::InfinitePast();  // of a step
  size_t next_ = 0;                             // request of the trace
  std::vector<Progress> progress_;
  std::vector<float> ttft_, itl_, e2e_;
  absl::Time ended_ = absl::InfinitePast();
  double kv_seconds_ = 0;
  int64_t num_rows_ = 0, num_tokens_ = 0;
  ReplayResult result_;
};

}  // namespace

Distribution DistributionOf(std::vector<float> values) {
  Distribution d;
  if (values.empty()) return d;
  std::ranges::sort(values);
  d.count = static_cast<int64_t>(values.size());
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value);
  d.mean = sum / static_cast<double>(values.size());
  const auto rank = [&](size_t percent) {
    return static_cast<double>(values[(values.size() * percent + 99) / 100 - 1]);
  };
  d.p50 = rank(50);
  d.p90 = rank(90);
  d.p99 = rank(99);
  d.max = static_cast<double>(values.back());
  return d;
}

absl::StatusOr<ReplayResult> Replay(const std::vector<TraceRequest>& trace,
                                    const ReplayOptions& options) {
  return Replayer(trace, options).Run();
}

}  // namespace sluice
