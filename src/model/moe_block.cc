#include "model/moe_block.h"

#include "base/status_macros.h"

namespace sluice {
namespace {

absl::StatusOr<Tensor> AllocateTensor(Ops& ops, int32_t rows, int32_t cols) {
  ASSIGN_OR_RETURN(void* memory,
                   ops.Allocate(int64_t{rows} * cols * static_cast<int64_t>(sizeof(float))));
  return Tensor{static_cast<float*>(memory), rows, cols, cols};
}

absl::StatusOr<int32_t*> AllocateInts(Ops& ops, int64_t count) {
  ASSIGN_OR_RETURN(void* memory, ops.Allocate(count * static_cast<int64_t>(sizeof(int32_t))));
  return static_cast<int32_t*>(memory);
}

}  // namespace

absl::StatusOr<MoeBlock> MoeBlock::Create(const ModelConfig& config, int32_t max_tokens, Ops& ops) {
  const MoeConfig& m = config.moe;
  MoeBlock block;
  if (m.num_experts == 0) return block;
  block.config_ = m;
  block.activation_ = config.activation;
  const int32_t choices = max_tokens * m.num_used;
  ASSIGN_OR_RETURN(block.logits_, AllocateTensor(ops, max_tokens, m.num_experts));
  ASSIGN_OR_RETURN(block.places_, AllocateTensor(ops, choices, config.model_dim));
  ASSIGN_OR_RETURN(block.gate_up_, AllocateTensor(ops, choices, 2 * m.ffn_dim));
  ASSIGN_OR_RETURN(block.gated_, AllocateTensor(ops, choices, m.ffn_dim));
  ASSIGN_OR_RETURN(const Tensor weights, AllocateTensor(ops, choices, 1));
  Routing& routing = block.routing_;
  routing.num_experts = m.num_experts;
  routing.num_used = m.num_used;
  routing.weights = weights.data;
  ASSIGN_OR_RETURN(routing.experts, AllocateInts(ops, choices));
  ASSIGN_OR_RETURN(routing.place, AllocateInts(ops, choices));
  ASSIGN_OR_RETURN(routing.choice, AllocateInts(ops, choices));
  ASSIGN_OR_RETURN(routing.begin, AllocateInts(ops, m.num_experts + 1));
  ASSIGN_OR_RETURN(routing.active, AllocateInts(ops, m.num_experts + 1));
  if (m.shared_ffn_dim == 0) return block;
  ASSIGN_OR_RETURN(block.shared_gate_up_, AllocateTensor(ops, max_tokens, 2 * m.shared_ffn_dim));
  ASSIGN_OR_RETURN(block.shared_gated_, AllocateTensor(ops, max_tokens, m.shared_ffn_dim));
  ASSIGN_OR_RETURN(block.shared_gate_, AllocateTensor(ops, max_tokens, 1));
  return block;
}

int64_t MoeBlock::ActivationBytes(const ModelConfig& config, int32_t max_tokens) {
  const MoeConfig& m = config.moe;
  if (m.num_experts == 0) return 0;
  const int64_t per_choice = int64_t{config.model_dim} + 3 * int64_t{m.ffn_dim} + 4;
  const int64_t per_token =
      m.num_experts + m.num_used * per_choice + 3 * int64_t{m.shared_ffn_dim} + 1;
  return max_tokens * per_token * static_cast<int64_t>(sizeof(float));
}

void MoeBlock::Forward(Tensor normed, const MoeWeights& w, Tensor x, Ops& ops) const {
  const Tensor logits = logits_.Rows(x.rows);
  const Tensor places = places_.Rows(x.rows * config_.num_used);
  const Tensor gate_up = gate_up_.Rows(places.rows);
  const Tensor gated = gated_.Rows(places.rows);
  ops.MatMul(normed, w.router, {}, logits);
  ops.RouteExperts(logits, config_.renormalise, routing_);
  ops.GatherPlaces(normed, routing_, places);
  ops.ExpertMatMul(places, w.gate_up, routing_, gate_up);
  ops.GateMul(gate_up, activation_, gated);
  // The gathered rows have been read; their place takes the results.
  ops.ExpertMatMul(gated, w.down, routing_, places);
  ops.CombineExperts(places, routing_, ops.rank() == 0 ? x : Tensor{}, x);
  if (w.shared_router) AddSharedExpert(normed, w, x, ops);
  ops.AllReduce(x);
}

void MoeBlock::AddSharedExpert(Tensor normed, const MoeWeights& w, Tensor x, Ops& ops) const {
  const Tensor gate_up = shared_gate_up_.Rows(x.rows);
  const Tensor gated = shared_gated_.Rows(x.rows);
  const Tensor gate = shared_gate_.Rows(x.rows);
  const Tensor result = places_.Rows(x.rows);
  ops.MatMul(normed, w.shared_gate_up, {}, gate_up);
  ops.GateMul(gate_up, activation_, gated);
  ops.MatMul(gated, w.shared_down, {}, result);
  ops.MatMul(normed, w.shared_router, {}, gate);
  ops.AddGated(result, gate, x, x);
}

}  // namespace sluice
