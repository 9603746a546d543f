// What executors over Ops share: Submit enqueues a step, Wait finishes the oldest one and collects
// what it gave. Engine thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "step/executor.h"

namespace sluice {

class OpsExecutor : public Executor {
 public:
  [[nodiscard]] int max_steps_in_flight() const final { return ops_->max_steps_in_flight(); }
  absl::Status Submit(BatchPlan plan) final;
  absl::StatusOr<StepResult> Wait(StepId step) final;

 protected:
  // A step in flight: its plan, what Ops reads of it and what Ops writes.
  struct Step {
    BatchPlan plan;
    BatchView batch;
    std::vector<int32_t> slots;                // [R]
    std::vector<int32_t> adapters;             // [R]
    std::vector<int32_t> output_rows;          // [num_outputs]
    std::vector<int32_t> num_output_tokens;    // [num_outputs]
    std::vector<int32_t> blocks, block_begin;  // where the plan has none
    std::vector<int32_t> token_types;          // [T]
    std::vector<SampleOut> samples;            // [num_outputs]
    std::vector<float> values;                 // read back: rows of value_cols
    int32_t value_cols = 0;

    // Reads x back into `values`.
    void Read(Tensor x, Ops& ops);
    [[nodiscard]] const float* row(size_t i) const {
      return values.data() + i * static_cast<size_t>(value_cols);
    }
  };

  explicit OpsExecutor(std::unique_ptr<Ops> ops) : ops_(std::move(ops)) {}
  // Kernels index memory by a plan's numbers without looking: ends the process over a plan that
  // breaks them, which is our own bug.
  virtual void CheckPlan(const BatchPlan& plan) const = 0;
  // Fills the step's view and enqueues its ops from BeginStep on.
  virtual void Enqueue(Step& step) = 0;
  // After Finish.
  virtual StepResult Collect(const Step& step) = 0;
  [[nodiscard]] Ops& ops() { return *ops_; }

 private:
  const std::unique_ptr<Ops> ops_;
  absl::Status failure_;  // the first; nothing runs after it
  std::deque<std::unique_ptr<Step>> in_flight_;
  std::vector<std::unique_ptr<Step>> free_;  // keep their arrays
};

}  // namespace sluice
