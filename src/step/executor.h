// The contract between the two halves: scheduler and engine on one side, models and kernels on the
// other.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "step/batch_plan.h"
#include "step/step_result.h"

namespace sluice {

// Engine thread only. Steps are computed in the order of Submit and waited for in the same order.
class Executor {
 public:
  virtual ~Executor() = default;

  // How many steps may be submitted and not yet waited for. CPU 1, CUDA 2.
  [[nodiscard]] virtual int max_steps_in_flight() const = 0;

  // Takes a plan (plan.step is its id). May return before anything is computed.
  virtual absl::Status Submit(BatchPlan plan) = 0;

  // Blocks until the step is done. Errors: what the device said; the executor is then unusable.
  virtual absl::StatusOr<StepResult> Wait(StepId step) = 0;
};

}  // namespace sluice
