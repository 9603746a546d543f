// Runs plans of whole sequences on an encoder. Engine thread only; computes inside Wait.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/encoder.h"
#include "step/executor.h"

namespace sluice {

struct EncoderExecutorOptions {
  EncoderLimits limits;
  LoadOptions load;
};

class EncoderExecutor final : public Executor {
 public:
  // The views' memory outlives the executor. Errors: those of Encoder::Create.
  static absl::StatusOr<std::unique_ptr<EncoderExecutor>> Create(
      const EncoderConfig& config, const EncoderViews& views, std::unique_ptr<Ops> ops,
      const EncoderExecutorOptions& options);

  [[nodiscard]] int max_steps_in_flight() const override { return 1; }
  absl::Status Submit(BatchPlan plan) override;
  absl::StatusOr<StepResult> Wait(StepId step) override;

 private:
  EncoderExecutor(std::unique_ptr<Ops> ops, const EncoderExecutorOptions& options)
      : options_(options), ops_(std::move(ops)) {}
  void CheckPlan() const;
  // Gives the rows consecutive blocks and their tokens types.
  void FillBatchView();
  [[nodiscard]] StepResult Collect(Tensor vectors) const;

  const EncoderExecutorOptions options_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Encoder> encoder_;  // its memory is the Ops'
  absl::Status failure_;              // the first; nothing runs after it

  std::optional<BatchPlan> plan_;  // submitted, not yet waited for
  BatchView batch_;
  std::vector<int32_t> blocks_, block_begin_;
  std::vector<int32_t> token_types_;          // [T]
  std::vector<int32_t> slots_, output_rows_;  // [R]
};

}  // namespace sluice
