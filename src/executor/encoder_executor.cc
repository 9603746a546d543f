#include "executor/encoder_executor.h"

#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<EncoderExecutor>> EncoderExecutor::Create(
    const EncoderConfig& config, const EncoderViews& views, std::unique_ptr<Ops> ops,
    const EncoderExecutorOptions& options) {
  auto executor = std::unique_ptr<EncoderExecutor>(new EncoderExecutor(std::move(ops), options));
  ASSIGN_OR_RETURN(executor->encoder_,
                   Encoder::Create(config, views, options.limits, options.load, executor->ops()));
  return executor;
}

void EncoderExecutor::Enqueue(Step& step) {
  FillBatchView(step);
  ops().BeginStep(step.batch);
  step.Read(encoder_->Forward(step.batch, step.token_types), ops());
}

void EncoderExecutor::CheckPlan(const BatchPlan& plan) const {
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

void EncoderExecutor::FillBatchView(Step& step) const {
  const BatchPlan& plan = step.plan;
  const int32_t rows = plan.num_rows();
  step.block_begin.assign(1, 0);
  step.token_types.assign(plan.tokens.size(), 0);
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t num_blocks =
        (plan.context_len[r] + Encoder::kBlockTokens - 1) / Encoder::kBlockTokens;
    step.block_begin.push_back(step.block_begin.back() + num_blocks);
    const int32_t second = plan.rows[r].second_begin;
    for (int32_t t = plan.row_begin[r] + second; second > 0 && t < plan.row_begin[r + 1]; ++t)
      step.token_types[static_cast<size_t>(t)] = 1;
  }
  SLUICE_CHECK(step.block_begin.back() <= encoder_->num_blocks(), "{} blocks of {}",
               step.block_begin.back(), encoder_->num_blocks());
  step.blocks.resize(static_cast<size_t>(step.block_begin.back()));
  std::iota(step.blocks.begin(), step.blocks.end(), 0);
  step.output_rows.resize(plan.rows.size());
  std::iota(step.output_rows.begin(), step.output_rows.end(), 0);
  step.slots.assign(plan.rows.size(), 0);
  step.batch = {
      .num_tokens = plan.num_tokens(),
      .num_rows = rows,
      .tokens = plan.tokens.data(),
      .positions = plan.positions.data(),
      .row_begin = plan.row_begin.data(),
      .context_len = plan.context_len.data(),
      .blocks = step.blocks.data(),
      .block_begin = step.block_begin.data(),
      .slots = step.slots.data(),
      .num_outputs = rows,
      .output_rows = step.output_rows.data(),
  };
}

StepResult EncoderExecutor::Collect(const Step& step) {
  StepResult result;
  result.step = step.plan.step;
  for (size_t r = 0; r < step.plan.rows.size(); ++r) {
    const float* vector = step.row(r);
    result.rows.push_back({.sequence = step.plan.rows[r].sequence,
                           .tokens = {},
                           .pooled = std::vector<float>(vector, vector + step.value_cols)});
  }
  return result;
}

}  // namespace sluice
