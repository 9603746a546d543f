#include "model/weights.h"

#include "base/status_macros.h"
#include "model/linear_loader.h"
#include "model/rope.h"

namespace sluice {
namespace {

absl::StatusOr<LayerWeights> LoadLayer(const LayerViews& views, LinearLoader& linears, Ops& ops) {
  LayerWeights layer;
  ASSIGN_OR_RETURN(layer.attn_norm, ops.LoadVector(views.attn_norm));
  if (views.qkv.data != nullptr) {
    ASSIGN_OR_RETURN(layer.qkv, linears.Load({&views.qkv, 1}));
  } else {
    const WeightView parts[] = {views.q, views.k, views.v};
    ASSIGN_OR_RETURN(layer.qkv, linears.Load(parts));
  }
  if (views.q_bias.data != nullptr) {
    const WeightView parts[] = {views.q_bias, views.k_bias, views.v_bias};
    ASSIGN_OR_RETURN(layer.qkv_bias, ops.LoadVector(parts));
  }
  if (views.q_norm.data != nullptr) {
    ASSIGN_OR_RETURN(layer.q_norm, ops.LoadVector(views.q_norm));
    ASSIGN_OR_RETURN(layer.k_norm, ops.LoadVector(views.k_norm));
  }
  ASSIGN_OR_RETURN(layer.o, linears.Load({&views.o, 1}));
  ASSIGN_OR_RETURN(layer.ffn_norm, ops.LoadVector(views.ffn_norm));
  if (views.gate.data == nullptr) {
    ASSIGN_OR_RETURN(layer.gate_up, linears.Load({&views.up, 1}));
  } else {
    const WeightView gate_up[] = {views.gate, views.up};
    ASSIGN_OR_RETURN(layer.gate_up, linears.Load(gate_up));
  }
  ASSIGN_OR_RETURN(layer.down, linears.Load({&views.down, 1}));
  return layer;
}

absl::StatusOr<RopeParams> LoadRope(const RopeConfig& rope, int32_t max_positions, Ops& ops) {
  const RopeTable table = MakeRopeTable(rope, max_positions);
  const auto size = static_cast<int64_t>(table.cos.size());
  ASSIGN_OR_RETURN(const Vector cos, ops.LoadVector({DType::kF32, 1, size, table.cos.data()}));
  ASSIGN_OR_RETURN(const Vector sin, ops.LoadVector({DType::kF32, 1, size, table.sin.data()}));
  return RopeParams{rope.dim, rope.interleaved, cos.data, sin.data};
}

}  // namespace

absl::StatusOr<Weights> LoadWeights(const WeightViews& views, const ModelConfig& config,
                                    int32_t max_positions, const LoadOptions& options, Ops& ops) {
  LinearLoader linears(options, ops);
  Weights weights;
  weights.token_embd = views.token_embd;
  for (const LayerViews& layer : views.layers) {
    ASSIGN_OR_RETURN(weights.layers.emplace_back(), LoadLayer(layer, linears, ops));
  }
  ASSIGN_OR_RETURN(weights.output_norm, ops.LoadVector(views.output_norm));
  const WeightView& head = views.head.data != nullptr ? views.head : views.token_embd;
  ASSIGN_OR_RETURN(weights.head, linears.Load({&head, 1}, LinearRole::kHead));
  ASSIGN_OR_RETURN(weights.rope, LoadRope(config.rope, max_positions, ops));
  return weights;
}

}  // namespace sluice
