#include "tests/scheduler/virtual_load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <random>
#include <utility>

#include "executor/simulated_executor.h"

namespace sluice {
namespace {

struct Arrival {
  absl::Time at;
  const TenantLoad* load;
};

std::vector<Arrival> Draw(const std::vector<TenantLoad>& loads, absl::Duration time,
                          uint64_t seed) {
  std::vector<Arrival> arrivals;
  for (const TenantLoad& load : loads) {
    // A tenant's arrivals do not depend on who else is there.
    std::seed_seq seeds{seed, std::hash<std::string>()(load.tenant)};
    std::mt19937_64 random(seeds);
    std::exponential_distribution<double> gap(load.requests_per_s);
    const absl::Duration end = std::min(time, load.ends);
    for (absl::Duration at = load.begins + absl::Seconds(gap(random)); at < end;
         at += absl::Seconds(gap(random))) {
      arrivals.push_back({absl::UnixEpoch() + at, &load});
    }
  }
  std::ranges::stable_sort(arrivals, {}, &Arrival::at);
  return arrivals;
}

class Run {
 public:
  Run(const SchedulerConfig& config, const VirtualDevice& device)
      : config_(config), device_(device), scheduler_(config) {
    SimulatedExecutorConfig simulated;
    simulated.max_rows = config.max_rows;
    simulated.kv_block_tokens = config.kv_block_tokens;
    simulated.num_kv_blocks = config.num_kv_blocks;
    simulated.max_steps_in_flight = config.max_steps_in_flight;
    executor_ = std::make_unique<SimulatedExecutor>(std::move(simulated));
  }

  LoadOutcome Play(const std::vector<Arrival>& arrivals, absl::Time end) {
    auto next = arrivals.begin();
    while (now_ < end) {
      for (; next != arrivals.end() && next->at <= now_; ++next) Add(*next);
      Submit();
      if (in_flight_.empty()) {
        if (next == arrivals.end()) break;
        now_ = next->at;
        continue;
      }
      Finish();
    }
    outcome_.stats = scheduler_.stats();
    return std::move(outcome_);
  }

 private:
  struct InFlight {
    StepId step;
    absl::Time ends;
  };
  struct Live {
    absl::Time arrived;
    TenantOutcome* outcome;
    bool answered = false;
  };

  void Add(const Arrival& arrival) {
    const TenantLoad& load = *arrival.load;
    TenantOutcome& outcome = outcome_.tenants[load.tenant];
    const auto tenant = scheduler_.tenants().find(load.tenant);
    if (tenant != scheduler_.tenants().end() && tenant->second.num_waiting >= load.max_waiting) {
      ++outcome.num_refused;
      return;
    }
    SequenceSpec spec;
    spec.id = ++last_id_;
    spec.sampling = sampling_;
    for (int32_t i = 0; i < load.prompt_tokens; ++i)
      spec.prompt_tokens.push_back(HashedToken(spec.id, -1 - i, 1000));
    spec.max_output_tokens = load.output_tokens;
    spec.tenant = load.tenant;
    spec.weight = load.weight;
    spec.priority = load.priority;
    spec.arrival_time = arrival.at;
    const absl::Status added = scheduler_.Add(std::move(spec));
    ASSERT_TRUE(added.ok()) << added;
    live_[last_id_] = {arrival.at, &outcome};
  }

  void Submit() {
    while (in_flight_.size() < static_cast<size_t>(config_.max_steps_in_flight)) {
      ScheduleResult scheduled = scheduler_.Schedule(now_);
      if (scheduled.plan.empty()) return;
      if (scheduled.plan.step % 64 == 0) scheduler_.CheckInvariants();
      for (int32_t r = 0; r < scheduled.plan.num_rows(); ++r) {
        const auto live = live_.find(scheduled.plan.rows[r].sequence);
        live->second.outcome->num_tokens +=
            scheduled.plan.row_begin[r + 1] - scheduled.plan.row_begin[r];
      }
      const absl::Time begins = std::max(now_, device_free_);
      device_free_ = begins + device_.StepTime(scheduled.plan.num_tokens());
      in_flight_.push_back({scheduled.plan.step, device_free_});
      const absl::Status submitted = executor_->Submit(std::move(scheduled.plan));
      ASSERT_TRUE(submitted.ok()) << submitted;
    }
  }

  void Finish() {
    const InFlight step = in_flight_.front();
    in_flight_.pop_front();
    now_ = step.ends;
    auto result = executor_->Wait(step.step);
    ASSERT_TRUE(result.ok()) << result.status();
    for (const SequenceUpdate& update : scheduler_.Apply(*std::move(result))) {
      const auto live = live_.find(update.sequence);
      TenantOutcome& outcome = *live->second.outcome;
      if (!std::exchange(live->second.answered, true))
        outcome.ttft.push_back(now_ - live->second.arrived);
      if (!update.finished) continue;
      ++outcome.num_finished;
      live_.erase(live);
    }
  }

  const SchedulerConfig config_;
  const VirtualDevice device_;
  Scheduler scheduler_;
  std::unique_ptr<SimulatedExecutor> executor_;
  const std::shared_ptr<const SamplingParams> sampling_ = std::make_shared<SamplingParams>();
  std::deque<InFlight> in_flight_;
  std::map<SequenceId, Live> live_;
  absl::Time now_ = absl::UnixEpoch(), device_free_ = absl::UnixEpoch();
  SequenceId last_id_ = 0;
  LoadOutcome outcome_;
};

}  // namespace

absl::Duration TenantOutcome::Percentile(double p) const {
  if (ttft.empty()) return absl::InfiniteDuration();
  std::vector<absl::Duration> sorted = ttft;
  std::ranges::sort(sorted);
  const auto index = static_cast<size_t>(std::ceil(p * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(index, 1, sorted.size()) - 1];
}

LoadOutcome RunLoad(const SchedulerConfig& config, const VirtualDevice& device,
                    const std::vector<TenantLoad>& loads, absl::Duration time, uint64_t seed) {
  return Run(config, device).Play(Draw(loads, time, seed), absl::UnixEpoch() + time);
}

}  // namespace sluice
