#include "executor/model_executor.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace sluice {
namespace {

SlotView ViewOf(const SlotInit& init) {
  const SamplingParams& s = *init.sampling;
  return {
      .slot = init.slot,
      .temperature = s.temperature,
      .top_p = s.top_p,
      .min_p = s.min_p,
      .top_k = s.top_k,
      .repetition_penalty = s.repetition_penalty,
      .presence_penalty = s.presence_penalty,
      .frequency_penalty = s.frequency_penalty,
      .seed = s.seed,
      .choice = init.choice,
      .min_tokens = s.min_tokens,
      .num_logprobs = s.num_logprobs,
      .stop_tokens = s.stop_token_ids.data(),
      .num_stop_tokens = static_cast<int32_t>(s.stop_token_ids.size()),
      .bias = s.logit_bias.data(),
      .num_bias = static_cast<int32_t>(s.logit_bias.size()),
      .prompt_tokens = init.prompt_tokens.data(),
      .num_prompt_tokens = static_cast<int32_t>(init.prompt_tokens.size()),
      .output_tokens = init.output_tokens.data(),
      .num_output_tokens = static_cast<int32_t>(init.output_tokens.size()),
  };
}

SampledToken ToSampledToken(const SampleOut& out) {
  SampledToken token{.token = out.token, .logprob = out.logprob, .top = {}};
  token.top.reserve(out.num_top);
  for (int32_t i = 0; i < out.num_top; ++i)
    token.top.emplace_back(out.top_tokens[i], out.top_logprobs[i]);
  return token;
}

}  // namespace

ModelExecutor::ModelExecutor(std::unique_ptr<Ops> ops, ModelExecutorOptions options)
    : options_(std::move(options)), ops_(std::move(ops)) {
  const int32_t rows = options_.limits.max_rows;
  slots_.reserve(rows);
  output_rows_.reserve(rows);
  num_output_tokens_.reserve(rows);
  samples_.reserve(rows);
}

absl::StatusOr<std::unique_ptr<ModelExecutor>> ModelExecutor::Create(const ModelFile& model,
                                                                     std::unique_ptr<Ops> ops,
                                                                     ModelExecutorOptions options) {
  auto executor =
      std::unique_ptr<ModelExecutor>(new ModelExecutor(std::move(ops), std::move(options)));
  const TransformerLimits& limits = executor->options_.limits;
  ASSIGN_OR_RETURN(executor->transformer_,
                   Transformer::Create(model.config, model.weights, limits, *executor->ops_,
                                       executor->options_.load));
  RETURN_IF_ERROR(executor->ops_->AllocateSlots(limits.max_rows, model.config.vocab_size));
  const std::optional<Pooling> pooling = executor->options_.pooling;
  if (pooling.has_value() && *pooling != Pooling::kLast) {
    executor->pooled_.resize(static_cast<size_t>(limits.max_rows) *
                             static_cast<size_t>(model.config.model_dim));
  }
  return executor;
}

absl::Status ModelExecutor::Submit(BatchPlan plan) {
  RETURN_IF_ERROR(failure_);
  SLUICE_CHECK(!plan_.has_value(), "step {} submitted while step {} is in flight", plan.step,
               plan_->step);
  plan_ = std::move(plan);
  CheckPlan();
  return absl::OkStatus();
}

absl::StatusOr<StepResult> ModelExecutor::Wait(StepId step) {
  RETURN_IF_ERROR(failure_);
  SLUICE_CHECK(plan_.has_value() && plan_->step == step, "waited for step {}", step);
  const absl::Time begin = absl::Now();
  failure_ = options_.pooling.has_value() ? ComputeStates() : Compute();
  RETURN_IF_ERROR(failure_);
  StepResult result = Collect();
  result.device_time = absl::Now() - begin;
  plan_.reset();
  return result;
}

absl::Status ModelExecutor::ComputeStates() {
  FillBatchView();
  ops_->BeginStep(batch_);
  const bool all = *options_.pooling != Pooling::kLast;
  states_ = transformer_->ForwardToStates(
      batch_, all ? Transformer::StatesOf::kAllTokens : Transformer::StatesOf::kOutputs);
  RETURN_IF_ERROR(ops_->Finish());
  if (all) PoolStates();
  return absl::OkStatus();
}

void ModelExecutor::PoolStates() {
  const auto dim = static_cast<size_t>(states_.cols);
  for (int32_t r = 0; r < plan_->num_rows(); ++r) {
    double* pooled = pooled_.data() + static_cast<size_t>(slots_[static_cast<size_t>(r)]) * dim;
    for (int32_t t = plan_->row_begin[r]; t < plan_->row_begin[r + 1]; ++t) {
      const float* state = states_.row(t);
      if (plan_->positions[t] == 0) {
        std::copy_n(state, dim, pooled);
      } else if (*options_.pooling == Pooling::kMean) {
        for (size_t d = 0; d < dim; ++d) pooled[d] += double{state[d]};
      }
    }
  }
}

std::vector<float> ModelExecutor::PooledOf(int32_t row, size_t output) const {
  const auto dim = static_cast<size_t>(states_.cols);
  if (pooled_.empty()) {
    const float* state = states_.row(static_cast<int64_t>(output));
    return {state, state + dim};
  }
  const double* pooled =
      pooled_.data() + static_cast<size_t>(slots_[static_cast<size_t>(row)]) * dim;
  const double count = *options_.pooling == Pooling::kMean ? plan_->context_len[row] : 1;
  std::vector<float> vector(dim);
  for (size_t d = 0; d < dim; ++d) vector[d] = static_cast<float>(pooled[d] / count);
  return vector;
}

absl::Status ModelExecutor::Compute() {
  FillBatchView();
  ops_->BeginStep(batch_);
  if (!options_.logits_tap) InitSlots();
  const Tensor logits = transformer_->Forward(batch_);
  if (options_.logits_tap) {
    // The tap needs finished logits that Sample has not overwritten yet: end the step and open it
    // again to sample.
    RETURN_IF_ERROR(ops_->Finish());
    if (batch_.num_outputs > 0) options_.logits_tap(*plan_, logits);
    ops_->BeginStep(batch_);
    InitSlots();
  }
  if (batch_.num_outputs > 0) ops_->Sample(logits, num_output_tokens_, samples_);
  return ops_->Finish();
}

void ModelExecutor::FillBatchView() {
  const BatchPlan& plan = *plan_;
  slots_.clear();
  output_rows_.clear();
  num_output_tokens_.clear();
  for (int32_t r = 0; r < plan.num_rows(); ++r) {
    const Row& row = plan.rows[r];
    slots_.push_back(row.slot);
    if (row.output == RowOutput::kNone) continue;
    SLUICE_CHECK((row.output == RowOutput::kPooled) == options_.pooling.has_value(),
                 "step {} row {}", plan.step, r);
    output_rows_.push_back(r);
    num_output_tokens_.push_back(row.num_output_tokens);
  }
  samples_.assign(output_rows_.size(), SampleOut{});
  batch_ = {
      .num_tokens = plan.num_tokens(),
      .num_rows = plan.num_rows(),
      .tokens = plan.tokens.data(),
      .positions = plan.positions.data(),
      .row_begin = plan.row_begin.data(),
      .context_len = plan.context_len.data(),
      .blocks = plan.blocks.data(),
      .block_begin = plan.block_begin.data(),
      .slots = slots_.data(),
      .num_outputs = static_cast<int32_t>(output_rows_.size()),
      .output_rows = output_rows_.data(),
  };
}

// Kernels index memory by these numbers without looking: a plan that breaks them is our own bug,
// found here.
void ModelExecutor::CheckPlan() const {
  const BatchPlan& plan = *plan_;
  const TransformerLimits& limits = options_.limits;
  const int32_t rows = plan.num_rows();
  SLUICE_CHECK(rows >= 1 && rows <= limits.max_rows && plan.num_tokens() <= limits.max_step_tokens,
               "step {} has {} rows and {} tokens", plan.step, rows, plan.num_tokens());
  SLUICE_CHECK(plan.positions.size() == plan.tokens.size() &&
                   plan.row_begin.size() == plan.rows.size() + 1 &&
                   plan.context_len.size() == plan.rows.size() &&
                   plan.block_begin.size() == plan.rows.size() + 1 &&
                   plan.row_begin[rows] == plan.num_tokens() &&
                   plan.block_begin[rows] == static_cast<int32_t>(plan.blocks.size()),
               "step {}: arrays of different lengths", plan.step);
  for (int32_t r = 0; r < rows; ++r) {
    const int32_t num_new = plan.row_begin[r + 1] - plan.row_begin[r];
    const int32_t context = plan.context_len[r];
    const int32_t num_blocks = plan.block_begin[r + 1] - plan.block_begin[r];
    SLUICE_CHECK(num_new >= 1 && context >= num_new && context <= limits.max_model_len,
                 "step {} row {}: {} new of {} tokens", plan.step, r, num_new, context);
    SLUICE_CHECK(num_blocks == (context + limits.kv_block_tokens - 1) / limits.kv_block_tokens,
                 "step {} row {}: {} blocks for {} tokens", plan.step, r, num_blocks, context);
    SLUICE_CHECK(plan.rows[r].slot >= 0 && plan.rows[r].slot < limits.max_rows,
                 "step {} row {}: slot {}", plan.step, r, plan.rows[r].slot);
    for (int32_t i = 0; i < num_new; ++i) {
      const int32_t position = plan.positions[plan.row_begin[r] + i];
      SLUICE_CHECK(position == context - num_new + i,
                   "step {} row {}: token {} at position {} of {}", plan.step, r, i, position,
                   context);
    }
  }
  for (const BlockId block : plan.blocks) {
    SLUICE_CHECK(block >= 0 && block < limits.num_kv_blocks, "step {}: block {}", plan.step, block);
  }
}

void ModelExecutor::InitSlots() {
  for (const SlotInit& init : plan_->slot_inits) ops_->InitSlot(ViewOf(init));
}

StepResult ModelExecutor::Collect() const {
  StepResult result;
  result.step = plan_->step;
  result.rows.reserve(plan_->rows.size());
  for (const Row& row : plan_->rows)
    result.rows.push_back({.sequence = row.sequence, .tokens = {}});
  for (size_t i = 0; i < output_rows_.size(); ++i) {
    RowResult& row = result.rows[output_rows_[i]];
    if (options_.pooling.has_value()) {
      row.pooled = PooledOf(output_rows_[i], i);
    } else {
      row.tokens.push_back(ToSampledToken(samples_[i]));
    }
  }
  return result;
}

}  // namespace sluice
