// Runs plans on a model: fills the kernels' view of the plan, resets slots, runs the forward pass,
// samples, and collects what was sampled. Engine thread only; computes inside Wait (CPU: one step
// in flight).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/model_file.h"
#include "model/transformer.h"
#include "step/executor.h"

namespace sluice {

struct ModelExecutorOptions {
  TransformerLimits limits;  // max_rows is also the number of slots
  LoadOptions load;
  // Rows with output give a vector of their tokens' states, not a token. What is not kLast must see
  // every token of a sequence in this executor, from position 0 on and in one slot.
  std::optional<Pooling> pooling;
  // Tests only: sees every step's logits [num_outputs, V] before sampling. Null in the server.
  std::function<void(const BatchPlan& plan, Tensor logits)> logits_tap;
};

class ModelExecutor final : public Executor {
 public:
  // Loads the model; `model` outlives the executor. Errors: those of Transformer::Create and Ops.
  static absl::StatusOr<std::unique_ptr<ModelExecutor>> Create(const ModelFile& model,
                                                               std::unique_ptr<Ops> ops,
                                                               ModelExecutorOptions options);

  [[nodiscard]] int max_steps_in_flight() const override { return 1; }
  absl::Status Submit(BatchPlan plan) override;
  absl::StatusOr<StepResult> Wait(StepId step) override;

 private:
  ModelExecutor(std::unique_ptr<Ops> ops, ModelExecutorOptions options);
  absl::Status Compute();
  absl::Status ComputeStates();
  // Takes the step's states into what the slots hold of their sequences so far.
  void PoolStates();
  [[nodiscard]] std::vector<float> PooledOf(int32_t row, size_t output) const;
  // Points batch_ at plan_'s arrays and gathers what Ops wants by output row.
  void FillBatchView();
  void CheckPlan() const;
  void InitSlots();
  [[nodiscard]] StepResult Collect() const;

  const ModelExecutorOptions options_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Transformer> transformer_;  // its memory is the Ops'
  absl::Status failure_;                      // the first; nothing runs after it

  std::optional<BatchPlan> plan_;  // submitted, not yet waited for
  BatchView batch_;
  std::vector<int32_t> slots_;              // [R]
  std::vector<int32_t> output_rows_;        // [num_outputs]
  std::vector<int32_t> num_output_tokens_;  // [num_outputs]
  std::vector<SampleOut> samples_;          // [num_outputs]
  Tensor states_;                           // of the last step that embedded
  // [slots, D], not of kLast: sums over the tokens so far, or the first token's state. In double
  // and token by token, so that chunks and neighbours do not show.
  std::vector<double> pooled_;
};

}  // namespace sluice
