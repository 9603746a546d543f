#include "executor/encoder_executor.h"

#include <numeric>
#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<EncoderExecutor>> EncoderExecutor::Create(
    const EncoderConfig& config, const EncoderViews& views, std::unique_ptr<Ops> ops,
    const EncoderExecutorOptions& options) {
  auto executor = std::unique_ptr<EncoderExecutor>(new EncoderExecutor(std::move(ops), options));
  ASSIGN_OR_RETURN(executor->encoder_,
                   Encoder::Create(config, views, options.limits, options.load, *executor->ops_));
  return executor;
}

absl::Status EncoderExecutor::Submit(BatchPlan plan) {
  RETURN_IF_ERROR(failure_);
  SLUICE_CHECK(!plan_.has_value(), "step {} submitted while step {} is in flight", plan.step,
               plan_->step);
  plan_ = std::move(plan);
  CheckPlan();
  return absl::OkStatus();
}

absl::StatusOr<StepResult> EncoderExecutor::Wait(StepId step) {
  RETURN_IF_ERROR(failure_);
  SLUICE_CHECK(plan_.has_value() && plan_->step == step, "waited for step {}", step);
  const absl::Time begin = absl::Now();
  FillBatchView();
  ops_->BeginStep(batch_);
  const Tensor vectors = encoder_->Forward(batch_, token_types_);
  failure_ = ops_->Finish();
  RETURN_IF_ERROR(failure_);
  StepResult result = Collect(vectors);
  result.device_time = absl::Now() - begin;
  plan_.reset();
  return result;
}

// Kernels index memory by these numbers without looking: a plan that breaks them is our own bug,
// found here.
void EncoderExecutor::CheckPlan() const {
  const BatchPlan& plan = *plan_;
  const int32_t rows = plan.num_rows();
  SLUICE_CHECK(rows >= 1 && rows <= options_.limits.max_rows &&
                   plan.num_tokens() <= options_.limits.max_step_tokens,
               "step {} has {} rows and {} tokens", plan.step, rows, plan.num_tokens());
  SLUICE_CHECK(plan.positions.size() == plan.tokens.size() &&
                   plan.row_begin.size() == plan.rows.size() + 1 &&
                   plan.context_len.size() == plan.rows.size() &&
                   plan.row_begin[rows] == plan.num_tokens(),
               "step {}: arrays of different lengths", plan.step);
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t begin = plan.row_begin[r], length = plan.row_begin[r + 1] - begin;
    SLUICE_CHECK(length >= 1 && plan.context_len[r] == length &&
                     length <= encoder_->config().max_positions &&
                     plan.rows[r].output == RowOutput::kPooled,
                 "step {} row {}: {} new of {} tokens", plan.step, r, length, plan.context_len[r]);
    for (int32_t i = 0; i < length; ++i) {
      SLUICE_CHECK(plan.positions[begin + i] == i && plan.tokens[begin + i] >= 0,
                   "step {} row {}: token {} at position {}", plan.step, r, i,
                   plan.positions[begin + i]);
    }
  }
}

void EncoderExecutor::FillBatchView() {
  const BatchPlan& plan = *plan_;
  const int32_t rows = plan.num_rows();
  block_begin_.assign(1, 0);
  token_types_.assign(plan.tokens.size(), 0);
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t num_blocks =
        (plan.context_len[r] + Encoder::kBlockTokens - 1) / Encoder::kBlockTokens;
    block_begin_.push_back(block_begin_.back() + num_blocks);
    const int32_t second = plan.rows[r].second_begin;
    for (int32_t t = plan.row_begin[r] + second; second > 0 && t < plan.row_begin[r + 1]; ++t)
      token_types_[static_cast<size_t>(t)] = 1;
  }
  SLUICE_CHECK(block_begin_.back() <= encoder_->num_blocks(), "{} blocks of {}",
               block_begin_.back(), encoder_->num_blocks());
  blocks_.resize(static_cast<size_t>(block_begin_.back()));
  std::iota(blocks_.begin(), blocks_.end(), 0);
  output_rows_.resize(plan.rows.size());
  std::iota(output_rows_.begin(), output_rows_.end(), 0);
  slots_.assign(plan.rows.size(), 0);
  batch_ = {
      .num_tokens = plan.num_tokens(),
      .num_rows = rows,
      .tokens = plan.tokens.data(),
      .positions = plan.positions.data(),
      .row_begin = plan.row_begin.data(),
      .context_len = plan.context_len.data(),
      .blocks = blocks_.data(),
      .block_begin = block_begin_.data(),
      .slots = slots_.data(),
      .num_outputs = rows,
      .output_rows = output_rows_.data(),
  };
}

StepResult EncoderExecutor::Collect(Tensor vectors) const {
  StepResult result;
  result.step = plan_->step;
  for (int32_t r = 0; r < plan_->num_rows(); ++r) {
    const float* vector = vectors.row(r);
    result.rows.push_back({.sequence = plan_->rows[static_cast<size_t>(r)].sequence,
                           .tokens = {},
                           .pooled = std::vector<float>(vector, vector + vectors.cols)});
  }
  return result;
}

}  // namespace sluice
