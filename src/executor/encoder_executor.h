// Runs plans of whole sequences on an encoder.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "executor/ops_executor.h"
#include "kernels/ops.h"
#include "model/encoder.h"

namespace sluice {

struct EncoderExecutorOptions {
  EncoderLimits limits;
  LoadOptions load;
};

class EncoderExecutor final : public OpsExecutor {
 public:
  // The views' memory outlives the executor. Errors: those of Encoder::Create.
  static absl::StatusOr<std::unique_ptr<EncoderExecutor>> Create(
      const EncoderConfig& config, const EncoderViews& views, std::unique_ptr<Ops> ops,
      const EncoderExecutorOptions& options);

 private:
  EncoderExecutor(std::unique_ptr<Ops> ops, const EncoderExecutorOptions& options)
      : OpsExecutor(std::move(ops)), options_(options) {}
  void CheckPlan(const BatchPlan& plan) const override;
  void Enqueue(Step& step) override;
  StepResult Collect(const Step& step) override;
  // Gives the rows consecutive blocks and their tokens types.
  void FillBatchView(Step& step) const;

  const EncoderExecutorOptions options_;
  std::unique_ptr<Encoder> encoder_;  // its memory is the Ops'
};

}  // namespace sluice
