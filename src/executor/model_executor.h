// Runs plans on a model: fills the kernels' view of the plan, resets slots, enqueues the forward
// pass and sampling, and collects what was sampled.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "executor/ops_executor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/model_file.h"
#include "model/transformer.h"

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

class ModelExecutor final : public OpsExecutor {
 public:
  // Loads the model; `model` outlives the executor. Errors: those of Transformer::Create and Ops.
  static absl::StatusOr<std::unique_ptr<ModelExecutor>> Create(const ModelFile& model,
                                                               std::unique_ptr<Ops> ops,
                                                               ModelExecutorOptions options);

 private:
  ModelExecutor(std::unique_ptr<Ops> ops, ModelExecutorOptions options)
      : OpsExecutor(std::move(ops)), options_(std::move(options)) {}
  void CheckPlan(const BatchPlan& plan) const override;
  void Enqueue(Step& step) override;
  StepResult Collect(const Step& step) override;
  // Points the step's view at its plan's arrays and gathers what Ops wants by output row.
  void FillBatchView(Step& step) const;
  // Takes the step's states into what the slots hold of their sequences so far.
  void PoolStates(const Step& step);
  [[nodiscard]] std::vector<float> PooledOf(const Step& step, size_t output) const;

  const ModelExecutorOptions options_;
  std::unique_ptr<Transformer> transformer_;  // its memory is the Ops'
  // [slots, D], not of kLast: sums over the tokens so far, or the first token's state. In double
  // and token by token, so that chunks and neighbours do not show.
  std::vector<double> pooled_;
};

}  // namespace sluice
