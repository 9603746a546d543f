#include "model/weights.h"

#include <vector>

#include "base/status_macros.h"
#include "model/linear_loader.h"
#include "model/model_share.h"
#include "model/quantise.h"
#include "model/rope.h"

namespace sluice {
namespace {

// Null stays null.
absl::StatusOr<Vector> LoadOptional(const WeightView& view, Ops& ops) {
  if (view.data == nullptr) return Vector{};
  return ops.LoadVector(view);
}

// The heads' norms one after the other, so that one op norms the q and k heads of a row.
absl::StatusOr<Vector> LoadHeadNorms(const LayerViews& views, const ModelConfig& c, Ops& ops) {
  if (views.q_norm.data == nullptr) return Vector{};
  std::vector<WeightView> heads(static_cast<size_t>(c.num_q_heads), views.q_norm);
  heads.resize(static_cast<size_t>(c.num_q_heads + c.num_kv_heads), views.k_norm);
  return ops.LoadVector(heads);
}

// gate and up of one FFN as one linear op.
absl::StatusOr<Linear> LoadGateUp(const WeightView& gate, const WeightView& up,
                                  LinearLoader& linears) {
  if (gate.data == nullptr) return linears.Load({&up, 1});
  const WeightView parts[] = {gate, up};
  return linears.Load(parts);
}

absl::StatusOr<MoeWeights> LoadMoe(const LayerViews& views, LinearLoader& linears) {
  MoeWeights moe;
  const auto num_experts = static_cast<int32_t>(views.gate_experts.size());
  ASSIGN_OR_RETURN(moe.router, linears.Load({&views.router, 1}, LinearRole::kRouter));
  std::vector<WeightView> gate_up;
  for (size_t e = 0; e < views.gate_experts.size(); ++e) {
    gate_up.push_back(views.gate_experts[e]);
    gate_up.push_back(views.up_experts[e]);
  }
  ASSIGN_OR_RETURN(moe.gate_up, linears.LoadExperts(gate_up, num_experts));
  ASSIGN_OR_RETURN(moe.down, linears.LoadExperts(views.down_experts, num_experts));
  if (views.shared_router.data == nullptr) return moe;
  ASSIGN_OR_RETURN(moe.shared_router, linears.Load({&views.shared_router, 1}, LinearRole::kRouter));
  ASSIGN_OR_RETURN(moe.shared_gate_up, LoadGateUp(views.shared_gate, views.shared_up, linears));
  ASSIGN_OR_RETURN(moe.shared_down, linears.Load({&views.shared_down, 1}));
  return moe;
}

absl::StatusOr<LayerWeights> LoadLayer(const LayerViews& views, const ModelConfig& c,
                                       LinearLoader& linears, Ops& ops) {
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
  ASSIGN_OR_RETURN(layer.qk_norm, LoadHeadNorms(views, c, ops));
  ASSIGN_OR_RETURN(layer.o, linears.Load({&views.o, 1}));
  ASSIGN_OR_RETURN(layer.post_attention_norm, LoadOptional(views.post_attention_norm, ops));
  ASSIGN_OR_RETURN(layer.ffn_norm, ops.LoadVector(views.ffn_norm));
  ASSIGN_OR_RETURN(layer.post_ffn_norm, LoadOptional(views.post_ffn_norm, ops));
  if (views.router.data != nullptr) {
    ASSIGN_OR_RETURN(layer.moe, LoadMoe(views, linears));
    return layer;
  }
  ASSIGN_OR_RETURN(layer.gate_up, LoadGateUp(views.gate, views.up, linears));
  ASSIGN_OR_RETURN(layer.down, linears.Load({&views.down, 1}));
  return layer;
}

// An embedding that is also the head is rounded as one with it: what is looked up is then what a
// file made by `model convert` holds.
absl::StatusOr<WeightView> RoundTied(const WeightView& table, const LoadOptions& options,
                                     std::unique_ptr<uint8_t[]>& bytes) {
  WeightView rounded{RoundedType(table, LinearRole::kHead, options.quantise), table.rows,
                     table.cols};
  if (rounded.dtype == table.dtype) return table;
  bytes = std::make_unique_for_overwrite<uint8_t[]>(
      static_cast<size_t>(rounded.rows * rounded.row_bytes()));
  RETURN_IF_ERROR(QuantiseRows(table, rounded.dtype, options.threads, bytes.get()));
  rounded.data = bytes.get();
  if (options.release) {
    options.release({static_cast<const uint8_t*>(table.data),
                     static_cast<size_t>(table.rows * table.row_bytes())});
  }
  return rounded;
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
  // First, so that a head of the same bytes can share it.
  const bool tied = views.head.data == nullptr;
  WeightView embd = views.token_embd;
  if (tied) {
    ASSIGN_OR_RETURN(embd, RoundTied(embd, options, weights.rounded_embd));
  }
  ASSIGN_OR_RETURN(weights.token_embd, ops.LoadTable(embd));
  for (const LayerViews& layer : views.layers) {
    ASSIGN_OR_RETURN(weights.layers.emplace_back(), LoadLayer(layer, config, linears, ops));
  }
  ASSIGN_OR_RETURN(weights.output_norm, ops.LoadVector(views.output_norm));
  const WeightView head =
      tied ? VocabOfRank(embd, config.vocab_size, ops.rank(), ops.num_ranks()) : views.head;
  ASSIGN_OR_RETURN(weights.head, linears.Load({&head, 1}, LinearRole::kHead));
  ASSIGN_OR_RETURN(weights.rope, LoadRope(config.rope, max_positions, ops));
  weights.window_rope = weights.rope;
  if (config.window_rope.has_value()) {
    ASSIGN_OR_RETURN(weights.window_rope, LoadRope(*config.window_rope, max_positions, ops));
  }
  return weights;
}

}  // namespace sluice
