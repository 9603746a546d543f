// An executor that misbehaves on purpose, for tests of what the server does about it
// (--plant-fault).
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "base/logging.h"
#include "step/executor.h"

namespace sluice {

struct PlantedFault {
  StepId fail_step = 0;   // that step's Wait returns Internal; 0: never
  StepId stall_step = 0;  // that step's Wait returns only after stall; 0: never
  absl::Duration stall = absl::Seconds(30);
};

class FaultyExecutor final : public Executor {
 public:
  FaultyExecutor(std::unique_ptr<Executor> executor, PlantedFault fault)
      : executor_(std::move(executor)), fault_(fault) {}

  [[nodiscard]] int max_steps_in_flight() const override {
    return executor_->max_steps_in_flight();
  }
  absl::Status Submit(BatchPlan plan) override { return executor_->Submit(std::move(plan)); }
  absl::StatusOr<StepResult> Wait(StepId step) override {
    if (step == fault_.stall_step) {
      Log(LogLevel::kWarn, "planted_stall");
      absl::SleepFor(fault_.stall);
    }
    absl::StatusOr<StepResult> result = executor_->Wait(step);
    if (step == fault_.fail_step) return absl::InternalError("planted device error");
    return result;
  }

 private:
  const std::unique_ptr<Executor> executor_;
  const PlantedFault fault_;
};

}  // namespace sluice
