#include "executor/model_executor.h"

#include <algorithm>
#include <utility>

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

absl::StatusOr<std::unique_ptr<ModelExecutor>> ModelExecutor::Create(const ModelFile& model,
                                                                     std::unique_ptr<Ops> ops,
                                                                     ModelExecutorOptions options) {
  auto executor =
      std::unique_ptr<ModelExecutor>(new ModelExecutor(std::move(ops), std::move(options)));
  const TransformerLimits& limits = executor->options_.limits;
  ASSIGN_OR_RETURN(executor->transformer_,
                   Transformer::Create(model.config, model.weights, limits, executor->ops(),
                                       executor->options_.load));
  RETURN_IF_ERROR(executor->ops().AllocateSlots(limits.max_rows, model.config.vocab_size));
  const std::optional<Pooling> pooling = executor->options_.pooling;
  if (pooling.has_value() && *pooling != Pooling::kLast) {
    executor->pooled_.resize(static_cast<size_t>(limits.max_rows) *
                             static_cast<size_t>(model.config.model_dim));
  }
  return executor;
}

void ModelExecutor::Enqueue(Step& step) {
  FillBatchView(step);
  ops().BeginStep(step.batch);
  if (options_.pooling.has_value()) {
    const bool all = *options_.pooling != Pooling::kLast;
    const Tensor states = transformer_->ForwardToStates(
        step.batch, all ? Transformer::StatesOf::kAllTokens : Transformer::StatesOf::kOutputs);
    if (states.rows > 0) step.Read(states, ops());
    return;
  }
  for (const SlotInit& init : step.plan.slot_inits) ops().InitSlot(ViewOf(init));
  const Tensor logits = transformer_->Forward(step.batch);
  if (step.output_rows.empty()) return;
  if (options_.logits_tap) step.Read(logits, ops());
  ops().Sample(logits, step.num_output_tokens, step.samples);
}

void ModelExecutor::PoolStates(const Step& step) {
  const auto dim = static_cast<size_t>(step.value_cols);
  for (size_t r = 0; r < step.plan.rows.size(); ++r) {
    double* pooled = pooled_.data() + static_cast<size_t>(step.slots[r]) * dim;
    for (int32_t t = step.plan.row_begin[r]; t < step.plan.row_begin[r + 1]; ++t) {
      const float* state = step.row(static_cast<size_t>(t));
      if (step.plan.positions[static_cast<size_t>(t)] == 0) {
        std::copy_n(state, dim, pooled);
      } else if (*options_.pooling == Pooling::kMean) {
        for (size_t d = 0; d < dim; ++d) pooled[d] += double{state[d]};
      }
    }
  }
}

std::vector<float> ModelExecutor::PooledOf(const Step& step, size_t output) const {
  const auto dim = static_cast<size_t>(step.value_cols);
  if (pooled_.empty()) return {step.row(output), step.row(output) + dim};
  const auto row = static_cast<size_t>(step.output_rows[output]);
  const double* pooled = pooled_.data() + static_cast<size_t>(step.slots[row]) * dim;
  const double count = *options_.pooling == Pooling::kMean ? step.plan.context_len[row] : 1;
  std::vector<float> vector(dim);
  for (size_t d = 0; d < dim; ++d) vector[d] = static_cast<float>(pooled[d] / count);
  return vector;
}

void ModelExecutor::FillBatchView(Step& step) const {
  const BatchPlan& plan = step.plan;
  step.slots.clear();
  step.adapters.clear();
  step.output_rows.clear();
  step.num_output_tokens.clear();
  for (int32_t r = 0; r < plan.num_rows(); ++r) {
    const Row& row = plan.rows[r];
    step.slots.push_back(row.slot);
    step.adapters.push_back(row.adapter);
    if (row.output == RowOutput::kNone) continue;
    SLUICE_CHECK((row.output == RowOutput::kPooled) == options_.pooling.has_value(),
                 "step {} row {}", plan.step, r);
    step.output_rows.push_back(r);
    step.num_output_tokens.push_back(row.num_output_tokens);
  }
  step.samples.assign(step.output_rows.size(), SampleOut{});
  step.batch = {
      .num_tokens = plan.num_tokens(),
      .num_rows = plan.num_rows(),
      .tokens = plan.tokens.data(),
      .positions = plan.positions.data(),
      .row_begin = plan.row_begin.data(),
      .context_len = plan.context_len.data(),
      .blocks = plan.blocks.data(),
      .block_begin = plan.block_begin.data(),
      .slots = step.slots.data(),
      .num_outputs = static_cast<int32_t>(step.output_rows.size()),
      .output_rows = step.output_rows.data(),
      .adapters = step.adapters.data(),
  };
}

void ModelExecutor::CheckPlan(const BatchPlan& plan) const {
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
    SLUICE_CHECK(plan.rows[r].adapter < 0, "step {} row {}: adapter {} of a model without",
                 plan.step, r, plan.rows[r].adapter);
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

StepResult ModelExecutor::Collect(const Step& step) {
  if (!pooled_.empty()) PoolStates(step);
  StepResult result;
  result.step = step.plan.step;
  result.rows.reserve(step.plan.rows.size());
  for (const Row& row : step.plan.rows)
    result.rows.push_back({.sequence = row.sequence, .tokens = {}});
  for (size_t i = 0; i < step.output_rows.size(); ++i) {
    RowResult& row = result.rows[static_cast<size_t>(step.output_rows[i])];
    if (options_.pooling.has_value()) {
      row.pooled = PooledOf(step, i);
    } else {
      row.tokens.push_back(ToSampledToken(step.samples[i]));
    }
  }
  if (options_.logits_tap && !step.output_rows.empty()) {
    options_.logits_tap(step.plan, {const_cast<float*>(step.values.data()),
                                    static_cast<int32_t>(step.output_rows.size()), step.value_cols,
                                    step.value_cols});
  }
  return result;
}

}  // namespace sluice
