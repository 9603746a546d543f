#include "engine/admission.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/errors.h"
#include "base/retry_after.h"
#include "engine/fairness_index.h"
#include "executor/simulated_executor.h"
#include "scheduler/scheduler.h"

namespace sluice {
namespace {

absl::Time At(double seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

// A backlog that leaves at 100 tokens/s.
Admission Backlogged(AdmissionLimits limits = {}) {
  Admission admission(limits);
  for (int i = 0; i <= 10; ++i) admission.StepEnded(At(i), 100 * i, true);
  return admission;
}

TEST(Admission, MeasuresTheRateOnlyWhileThereIsABacklog) {
  Admission admission({});
  admission.StepEnded(At(0), 0, true);
  admission.StepEnded(At(1), 200, true);
  EXPECT_DOUBLE_EQ(admission.tokens_per_second(), 200);
  admission.StepEnded(At(2), 210, false);  // the queue ran dry: it could have been faster
  admission.StepEnded(At(100), 210, true);
  EXPECT_DOUBLE_EQ(admission.tokens_per_second(), 200);
  for (int i = 1; i <= 60; ++i) admission.StepEnded(At(100 + i), 210 + 50 * i, true);
  EXPECT_NEAR(admission.tokens_per_second(), 50, 1) << "it forgets";
}

TEST(Admission, RefusesWhatWouldWaitTooLongAndSaysForHowLong) {
  Admission admission = Backlogged({.max_wait = absl::Seconds(5)});
  admission.Add({.tenant = "a", .sequences = 4, .tokens = 450});
  EXPECT_TRUE(admission.Check({.tenant = "a"}, At(11)).ok());
  admission.Add({.tenant = "a", .sequences = 4, .tokens = 550});
  const absl::Status status = admission.Check({.tenant = "a"}, At(11));
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(ErrorCode(status), "wait_too_long");
  EXPECT_EQ(status.message(), "the request would wait for about 10.0 s; the limit is 5.0 s");
  EXPECT_NEAR(absl::ToDoubleSeconds(RetryAfterOf(status)), 5, 1e-6);
}

// So the scheduler shares: the backlog of one is none for another.
TEST(Admission, ATenantsBacklogIsAnothersOnlyAsFarAsTheSchedulerLetsIt) {
  Admission admission = Backlogged({.max_wait = absl::Seconds(5)});
  admission.Add({.tenant = "flood", .sequences = 100, .tokens = 10'000});
  EXPECT_FALSE(admission.Check({.tenant = "flood"}, At(11)).ok());
  EXPECT_TRUE(admission.Check({.tenant = "modest", .tokens = 60}, At(11)).ok());
  EXPECT_EQ(admission.EstimatedWait({.tenant = "modest", .tokens = 60}), absl::Seconds(0.6));
  EXPECT_EQ(admission.EstimatedWait({.tenant = "modest", .weight = 3, .tokens = 60}),
            absl::Seconds(0.2));
}

TEST(Admission, BoundsTheQueueInSequencesAndTokensForAllAndForEach) {
  Admission admission = Backlogged({.max_waiting_sequences = 10, .max_waiting_tokens = 1000});
  EXPECT_TRUE(admission.Check({.tenant = "a", .sequences = 99, .tokens = 99'999}, At(11)).ok())
      << "into an empty queue anything goes";
  const auto code = [&](Demand demand) { return ErrorCode(admission.Check(demand, At(11))); };
  admission.Add({.tenant = "a", .sequences = 4, .tokens = 300});
  EXPECT_EQ(code({.tenant = "a", .max_queue_share = 0.5, .tokens = 200}), "");
  EXPECT_EQ(code({.tenant = "a", .max_queue_share = 0.5, .tokens = 201}), "queue_share");
  EXPECT_EQ(code({.tenant = "a", .max_queue_share = 0.5, .sequences = 2}), "queue_share");
  EXPECT_EQ(code({.tenant = "b", .max_queue_share = 0.5, .sequences = 2, .tokens = 201}), "");
  EXPECT_EQ(code({.tenant = "b", .tokens = 701}), "queue_full");
  EXPECT_EQ(code({.tenant = "b", .sequences = 7}), "queue_full");
  const absl::Status full = admission.Check({.tenant = "b", .tokens = 950}, At(11));
  EXPECT_NEAR(absl::ToDoubleSeconds(RetryAfterOf(full)), 2.5, 1e-6) << "250 tokens too many";
}

TEST(Admission, RefusesDeadlinesThatCannotBeMet) {
  Admission admission = Backlogged({.max_step_tokens = 512});
  admission.Add({.tenant = "a", .sequences = 1, .tokens = 300});
  EXPECT_TRUE(admission.Check({.tenant = "a", .deadline = At(15)}, At(11)).ok());
  const absl::Status status = admission.Check({.tenant = "a", .deadline = At(13)}, At(11));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_EQ(ErrorCode(status), "deadline_unreachable");
  EXPECT_EQ(status.message(),
            "the first token would come in about 3.00 s; the deadline is in 2.00 s");
  Admission idle({.max_step_tokens = 512});
  EXPECT_TRUE(idle.Check({.tokens = 2000, .deadline = At(11.5)}, At(11)).ok())
      << "nothing is known";
  idle.durations().Observe(512, absl::Seconds(1));
  EXPECT_FALSE(idle.Check({.tokens = 2000, .deadline = At(11.5)}, At(11)).ok());
  EXPECT_TRUE(idle.Check({.tokens = 2000, .deadline = At(14.5)}, At(11)).ok());
}

TEST(StepDurations, AnUnmeasuredSizeTakesAtMostWhatASmallerOneDoesByToken) {
  StepDurations durations;
  EXPECT_FALSE(durations.Worst(100).has_value());
  durations.Observe(1, absl::Milliseconds(10));
  EXPECT_EQ(*durations.Worst(512), 512 * absl::Milliseconds(10));
  EXPECT_FALSE(durations.Typical(512).has_value());
  durations.Observe(512, absl::Milliseconds(500));
  EXPECT_EQ(*durations.Worst(600), absl::Milliseconds(500));
  EXPECT_EQ(*durations.Typical(600), absl::Milliseconds(500));
  for (int i = 0; i < 200; ++i) durations.Observe(512, absl::Milliseconds(100));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(*durations.Worst(512)), 100, 1) << "it forgets";
}

TEST(FairnessIndex, CountsThoseWhoWantedServiceAllTheTime) {
  Tenants tenants(0);
  Tenant* a = tenants.Enter("a", 1);
  Tenant* b = tenants.Enter("b", 3);
  Tenant* idle = tenants.Enter("idle", 1);
  for (Tenant* tenant : {a, b, idle}) tenants.Open(tenant);
  FairnessIndex index;
  EXPECT_TRUE(index.Observe(At(0), tenants.all()));
  tenants.Close(idle);
  EXPECT_FALSE(index.Observe(At(5), tenants.all()));
  a->Charge(100);
  b->Charge(300);
  EXPECT_TRUE(index.Observe(At(10), tenants.all()));
  EXPECT_DOUBLE_EQ(index.value(), 1) << "by weight";
  a->Charge(100);
  EXPECT_TRUE(index.Observe(At(20), tenants.all()));
  EXPECT_DOUBLE_EQ(index.value(), 0.5) << "one of two had everything";
}

// A server in virtual time: admission, scheduler and a step-time model, under a Poisson load.
struct Overload {
  double goodput = 0;        // requests/s whose first token came within the target
  double accepted_late = 0;  // share of the accepted ones whose first token did not
  int64_t refused = 0;
};

Overload Offer(double requests_per_s, absl::Duration max_wait, absl::Duration target) {
  SchedulerConfig config;
  config.num_kv_blocks = 2048;
  config.max_model_len = 2048;
  config.max_waiting_sequences = 100'000;
  config.prefix_cache = false;
  Scheduler scheduler(config);
  Admission admission({.max_waiting_sequences = 100'000, .max_wait = max_wait});
  SimulatedExecutorConfig simulated;
  simulated.max_rows = config.max_rows;
  simulated.num_kv_blocks = config.num_kv_blocks;
  simulated.time.step_s = 5e-3;
  simulated.time.token_s = 20e-6;
  SimulatedExecutor executor(simulated);
  const auto sampling = std::make_shared<const SamplingParams>();
  std::mt19937_64 random(7);
  std::exponential_distribution<double> gap(requests_per_s);
  std::uniform_int_distribution<int32_t> prompt(20, 400), output(10, 200);
  std::map<SequenceId, absl::Time> arrivals;
  Overload outcome;
  absl::Time now = At(0), next = At(gap(random));
  int64_t accepted = 0, late = 0;
  SequenceId last = 0;
  const double seconds = 120;
  while (now < At(seconds)) {
    for (; next <= now; next += absl::Seconds(gap(random))) {
      const int32_t tokens = prompt(random);
      if (!admission.Check({.tenant = "t", .tokens = tokens}, next).ok()) {
        ++outcome.refused;
        continue;
      }
      admission.Add({.tenant = "t", .tokens = tokens});
      SequenceSpec spec;
      spec.id = ++last;
      spec.sampling = sampling;
      spec.prompt_tokens.assign(static_cast<size_t>(tokens), 1);
      spec.max_output_tokens = output(random);
      spec.tenant = "t";
      EXPECT_TRUE(scheduler.Add(std::move(spec)).ok());
      arrivals[last] = next;
      ++accepted;
    }
    BatchPlan plan = scheduler.Schedule(now).plan;
    if (plan.empty()) {
      now = next;
      continue;
    }
    const StepId step = plan.step;
    EXPECT_TRUE(executor.Submit(std::move(plan)).ok());
    StepResult result = *executor.Wait(step);
    now += result.device_time;
    for (const SequenceUpdate& update : scheduler.Apply(std::move(result))) {
      const auto arrival = arrivals.find(update.sequence);
      if (arrival == arrivals.end()) continue;
      const bool in_time = now - arrival->second <= target;
      outcome.goodput += in_time ? 1 / seconds : 0;
      late += in_time ? 0 : 1;
      arrivals.erase(arrival);
    }
    const SchedulerStats stats = scheduler.stats();
    admission.StepEnded(now, stats.num_admitted_tokens, stats.num_waiting > 0);
    std::map<std::string, Admission::Queued, std::less<>> queue;
    if (stats.num_waiting > 0) queue["t"] = {stats.num_waiting, stats.num_waiting_tokens, 1};
    admission.SetQueue(std::move(queue));
  }
  outcome.accepted_late = static_cast<double>(late) / static_cast<double>(accepted);
  return outcome;
}

TEST(Overload, AtThreeTimesTheLoadGoodputStaysAtItsPeakAndTheAcceptedInTime) {
  const absl::Duration max_wait = absl::Seconds(1), target = absl::Seconds(1.5);
  double peak = 0, peak_load = 0;
  for (const double load : {30, 40, 45, 50, 60, 80}) {
    const Overload outcome = Offer(load, max_wait, target);
    if (outcome.goodput > peak) peak_load = load;
    peak = std::max(peak, outcome.goodput);
  }
  const Overload over = Offer(3 * peak_load, max_wait, target);
  const Overload unbounded = Offer(3 * peak_load, absl::ZeroDuration(), target);
  fmt::print(
      "peak {:.2f}/s at {:.1f}/s offered; at three times that {:.2f}/s, {:.2f} % of the "
      "accepted late, {} refused; without the limit {:.2f}/s\n",
      peak, peak_load, over.goodput, 100 * over.accepted_late, over.refused, unbounded.goodput);
  EXPECT_GT(over.refused, 0);
  EXPECT_GE(over.goodput, 0.95 * peak);
  EXPECT_LT(over.accepted_late, 0.01);
  EXPECT_LT(unbounded.goodput, 0.5 * peak) << "it is the limit that does it";
}

}  // namespace
}  // namespace sluice
