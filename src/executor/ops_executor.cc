#include "executor/ops_executor.h"

#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "executor/step_time.h"

namespace sluice {
namespace {

// What a model of step times is fitted to (bench/engine/fit.py).
void LogStep(const BatchPlan& plan, absl::Duration time) {
  const StepWork work = StepWork::Of(plan);
  Log(LogLevel::kTrace, "step",
      {{"step", plan.step},
       {"tokens", work.tokens},
       {"rows", work.rows},
       {"outputs", work.outputs},
       {"context_tokens", work.context_tokens},
       {"attended", work.attended},
       {"seconds", time}});
}

}  // namespace

void OpsExecutor::Step::Read(Tensor x, Ops& ops) {
  value_cols = x.cols;
  values.resize(static_cast<size_t>(x.rows) * static_cast<size_t>(x.cols));
  ops.Read(x, values.data());
}

absl::Status OpsExecutor::Submit(BatchPlan plan) {
  RETURN_IF_ERROR(failure_);
  SLUICE_CHECK(in_flight_.size() < static_cast<size_t>(max_steps_in_flight()),
               "step {} submitted while {} are in flight", plan.step, in_flight_.size());
  CheckPlan(plan);
  if (free_.empty()) free_.push_back(std::make_unique<Step>());
  in_flight_.push_back(std::move(free_.back()));
  free_.pop_back();
  Step& step = *in_flight_.back();
  step.plan = std::move(plan);
  Enqueue(step);
  return absl::OkStatus();
}

absl::StatusOr<StepResult> OpsExecutor::Wait(StepId id) {
  RETURN_IF_ERROR(failure_);
  SLUICE_CHECK(!in_flight_.empty() && in_flight_.front()->plan.step == id, "waited for step {}",
               id);
  const absl::Time begin = absl::Now();
  failure_ = ops_->Finish();
  RETURN_IF_ERROR(failure_);
  StepResult result = Collect(*in_flight_.front());
  result.device_time = absl::Now() - begin;
  if (Logs(LogLevel::kTrace)) LogStep(in_flight_.front()->plan, result.device_time);
  free_.push_back(std::move(in_flight_.front()));
  in_flight_.pop_front();
  return result;
}

}  // namespace sluice
