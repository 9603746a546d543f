#include "executor/step_time.h"

#include <algorithm>
#include <cmath>

namespace sluice {

double ModelShape::ParametersOf(bool all_experts) const {
  const double dim = config.model_dim;
  const double attention = dim * config.qkv_cols() + dim * config.q_cols();
  const MoeConfig& moe = config.moe;
  if (moe.num_experts == 0) return attention + 3 * dim * config.ffn_dim;
  const double experts = all_experts ? moe.num_experts : moe.num_used;
  return attention + dim * moe.num_experts + 3 * dim * (experts * moe.ffn_dim + moe.shared_ffn_dim);
}

int64_t ModelShape::WeightBytes() const {
  const double tables = HeadParameters() * (tied_head ? 1 : 2);
  return static_cast<int64_t>((LayerParameters() + tables) * weight_bytes_per_parameter);
}

int64_t ModelShape::KvTokenBytes() const {
  return static_cast<int64_t>(2.0 * config.num_layers * config.kv_cols() * kv_bytes_per_element);
}

StepWork StepWork::Of(const BatchPlan& plan) {
  StepWork work{.tokens = plan.num_tokens(), .rows = plan.num_rows()};
  for (int32_t r = 0; r < plan.num_rows(); ++r) {
    const int64_t tokens = plan.row_begin[r + 1] - plan.row_begin[r];
    const int64_t context = plan.context_len[r];
    work.outputs += plan.rows[r].output != RowOutput::kNone ? 1 : 0;
    work.context_tokens += context;
    work.attended += tokens * context - tokens * (tokens - 1) / 2;
  }
  return work;
}

StepTimeModel StepTimeModel::Of(const DeviceSpec& device, const ModelShape& shape) {
  const ModelConfig& c = shape.config;
  const double bandwidth = device.bandwidth_bytes_per_s * device.bandwidth_efficiency;
  const bool fp8 = shape.fp8_products && device.fp8_flops_per_s > 0;
  const double peak = (fp8 ? device.fp8_flops_per_s : device.flops_per_s) * device.flops_efficiency;
  const double attention_peak =
      device.flops_per_s *
      (device.attention_efficiency > 0 ? device.attention_efficiency : device.flops_efficiency);
  const double byte = shape.weight_bytes_per_parameter / bandwidth;
  StepTimeModel m;
  m.step_s = device.step_s + c.num_layers * device.layer_s;
  m.token_s = device.token_s;
  m.row_s = device.row_s;
  m.weights_s = shape.LayerParameters() * byte;
  if (c.moe.num_experts > 0) {
    m.experts_s = 3.0 * c.num_layers * c.model_dim * c.moe.num_experts * c.moe.ffn_dim * byte;
    m.unused_experts = 1 - static_cast<double>(c.moe.num_used) / c.moe.num_experts;
  }
  m.token_products_s = 2 * shape.ActiveParameters() / peak;
  m.head_s = shape.HeadParameters() * byte;
  m.output_products_s = 2 * shape.HeadParameters() / peak;
  m.kv_read_s = static_cast<double>(shape.KvTokenBytes()) / bandwidth;
  // A product with a key and one with a value, two FLOPs an element each.
  m.attended_s = 4.0 * c.num_layers * c.q_cols() / attention_peak;
  return m;
}

absl::Duration StepTimeModel::TimeOf(const StepWork& work) const {
  const auto tokens = static_cast<double>(work.tokens), outputs = static_cast<double>(work.outputs);
  // Tokens choose experts independently: what none of them chose is not read.
  const double weights =
      experts_s > 0 ? weights_s - experts_s * std::pow(unused_experts, tokens) : weights_s;
  double seconds = step_s + tokens * token_s + outputs * row_s;
  seconds += std::max(weights, tokens * token_products_s);
  if (work.outputs > 0) seconds += std::max(head_s, outputs * output_products_s);
  seconds += std::max(static_cast<double>(work.context_tokens + work.tokens) * kv_read_s,
                      static_cast<double>(work.attended) * attended_s);
  return absl::Nanoseconds(std::llround(seconds * 1e9));
}

}  // namespace sluice
