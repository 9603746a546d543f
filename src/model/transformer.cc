#include "model/transformer.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace sluice {
namespace {

// A bias as the residual of a product: the same row for every token. Null stays null.
Tensor BiasRows(const Vector& bias, int32_t rows) {
  return {const_cast<float*>(bias.data), rows, bias.size,
          0};  // Tensor has no const form; a residual is only read
}

}  // namespace

// Shapes: T tokens, n output rows; D model_dim, F ffn_dim, V vocab_size, H head_dim, Hq and Hkv
// heads. Of several ranks each has its share of F, V and the heads, and the whole residual stream.
Tensor Transformer::Forward(const BatchView& batch) {
  const Tensor states = ForwardToStates(batch);
  if (states.data == nullptr) return {};
  const Tensor share = a_.share.Rows(states.rows), logits = a_.logits.Rows(states.rows);
  ops_.MatMul(states, weights_.head, {}, share);
  if (config_.final_softcap > 0) ops_.SoftCap(share, config_.final_softcap);
  ops_.AllGather(share, logits);
  return logits;
}

Tensor Transformer::ForwardToStates(const BatchView& batch, StatesOf states_of) {
  const ModelConfig& c = config_;
  SLUICE_CHECK(batch.num_tokens <= limits_.max_step_tokens && batch.num_rows <= limits_.max_rows,
               "{} tokens in {} rows; limits {} and {}", batch.num_tokens, batch.num_rows,
               limits_.max_step_tokens, limits_.max_rows);
  Tensor x = a_.x.Rows(batch.num_tokens);
  Tensor normed = a_.normed.Rows(batch.num_tokens);
  Tensor attended = a_.attended.Rows(batch.num_tokens);
  const Tensor qkv = a_.qkv.Rows(batch.num_tokens);
  const Tensor q = qkv.Columns(0, c.q_cols());
  const Tensor qk = qkv.Columns(0, c.q_cols() + c.kv_cols());

  ops_.Embed(weights_.token_embd, c.embedding_scale, x);
  for (int32_t l = 0; l < c.num_layers; ++l) {
    const LayerWeights& w = weights_.layers[l];
    const int32_t window = c.window(l);

    // Attention: x += O attention(rope(QKV norm(x)))
    ops_.RmsNorm(x, w.attn_norm, {c.norm_eps}, {}, normed);
    ops_.MatMul(normed, w.qkv, BiasRows(w.qkv_bias, x.rows), qkv);
    if (w.qk_norm) ops_.RmsNorm(qk, w.qk_norm, {c.norm_eps, c.head_dim}, {}, qk);
    ops_.RopeAndStoreKv(qkv, c.num_q_heads, window > 0 ? weights_.window_rope : weights_.rope,
                        kv_.layer(l));
    // After the last layer's keys and values only the tokens that are sampled from are read.
    const bool last = l == c.num_layers - 1 && states_of == StatesOf::kOutputs;
    if (last && batch.num_outputs == 0) return {};
    ops_.Attention(q, c.num_q_heads, {c.attention_scale, window, c.attention_softcap}, kv_.layer(l),
                   attended);
    if (last) {
      ops_.GatherOutputs(attended, a_.attended_out.Rows(batch.num_outputs));
      ops_.GatherOutputs(x, a_.x_out.Rows(batch.num_outputs));
      attended = a_.attended_out.Rows(batch.num_outputs);
      x = a_.x_out.Rows(batch.num_outputs);
      normed = a_.normed_out.Rows(batch.num_outputs);
    }
    AddProduct(attended, w.o, w.post_attention_norm, normed, x);

    ops_.RmsNorm(x, w.ffn_norm, {c.norm_eps}, {}, normed);
    AddFfn(w, normed, x);
  }
  ops_.RmsNorm(x, weights_.output_norm, {c.norm_eps}, {}, normed);
  return normed;
}

// Dense: x += Down(act(Gate normed) * Up normed).
void Transformer::AddFfn(const LayerWeights& w, Tensor normed, Tensor x) {
  if (w.moe.router) return moe_.Forward(normed, w.moe, x, ops_);
  const Tensor gate_up = a_.gate_up.Rows(x.rows);
  const Tensor gated = a_.gated.Rows(x.rows);
  ops_.MatMul(normed, w.gate_up, {}, gate_up);
  ops_.GateMul(gate_up, config_.activation, gated);
  AddProduct(gated, w.down, w.post_ffn_norm, normed, x);
}

void Transformer::AddProduct(Tensor in, const Linear& linear, const Vector& norm, Tensor scratch,
                             Tensor x) {
  if (!norm) {
    ops_.MatMul(in, linear, ops_.rank() == 0 ? x : Tensor{}, x);
    return ops_.AllReduce(x);
  }
  ops_.MatMul(in, linear, {}, scratch);
  ops_.AllReduce(scratch);
  ops_.RmsNorm(scratch, norm, {config_.norm_eps}, x, x);
}

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelConfig& config,
                                                                 const WeightViews& views,
                                                                 const TransformerLimits& limits,
                                                                 Ops& ops,
                                                                 const LoadOptions& load) {
  if (limits.max_model_len < 1 || limits.max_model_len > config.max_context) {
    return absl::InvalidArgumentError(
        fmt::format("a context of {} tokens; the model allows 1 to {}", limits.max_model_len,
                    config.max_context));
  }
  if (int64_t{limits.max_model_len} * config.rope.dim / 2 > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(fmt::format(
        "a context of {} tokens is beyond what a rotation table can hold; use a smaller one",
        limits.max_model_len));
  }
  SLUICE_CHECK(limits.max_step_tokens >= 1 && limits.max_rows >= 1 && limits.num_kv_blocks >= 1,
               "{} {} {}", limits.max_step_tokens, limits.max_rows, limits.num_kv_blocks);
  RETURN_IF_ERROR(CheckRanks(config, views, ops.num_ranks()));
  const ModelShare share = ShareOfRank(config, views, ops.rank(), ops.num_ranks());
  auto model = std::unique_ptr<Transformer>(new Transformer(share.config, limits, ops));
  const ModelConfig& c = model->config_;
  ASSIGN_OR_RETURN(model->weights_, LoadWeights(share.weights, c, limits.max_model_len, load, ops));
  ASSIGN_OR_RETURN(model->kv_, KvCache::Create(ops, c, limits.num_kv_blocks, limits.kv_block_tokens,
                                               limits.kv_type));
  RETURN_IF_ERROR(model->AllocateActivations());
  ASSIGN_OR_RETURN(model->moe_, MoeBlock::Create(c, limits.max_step_tokens, ops));
  return model;
}

int64_t Transformer::ActivationBytes(const ModelConfig& config, int32_t max_step_tokens,
                                     int32_t max_rows, int32_t num_ranks) {
  const ModelConfig c = ConfigOfRank(config, num_ranks);
  const int64_t per_token =
      2 * int64_t{c.model_dim} + c.qkv_cols() + c.q_cols() + 3 * int64_t{c.ffn_dim};
  const int64_t share = num_ranks > 1 ? ColumnsOfRank(c.vocab_size, num_ranks) : 0;
  const int64_t per_row = 2 * int64_t{c.model_dim} + c.q_cols() + c.vocab_size + share;
  return (max_step_tokens * per_token + max_rows * per_row) * static_cast<int64_t>(sizeof(float)) +
         MoeBlock::ActivationBytes(c, max_step_tokens);
}

absl::Status Transformer::AllocateActivations() {
  const ModelConfig& c = config_;
  const int32_t tokens = limits_.max_step_tokens, rows = limits_.max_rows;
  const struct {
    Tensor* tensor;
    int32_t rows, cols;
  } kShapes[] = {
      {&a_.x, tokens, c.model_dim},         {&a_.normed, tokens, c.model_dim},
      {&a_.qkv, tokens, c.qkv_cols()},      {&a_.attended, tokens, c.q_cols()},
      {&a_.gate_up, tokens, 2 * c.ffn_dim}, {&a_.gated, tokens, c.ffn_dim},
      {&a_.x_out, rows, c.model_dim},       {&a_.normed_out, rows, c.model_dim},
      {&a_.attended_out, rows, c.q_cols()}, {&a_.logits, rows, c.vocab_size},
  };
  for (const auto& shape : kShapes) {
    ASSIGN_OR_RETURN(void* memory, ops_.Allocate(int64_t{shape.rows} * shape.cols *
                                                 static_cast<int64_t>(sizeof(float))));
    *shape.tensor = {static_cast<float*>(memory), shape.rows, shape.cols, shape.cols};
  }
  a_.share = a_.logits;
  if (ops_.num_ranks() == 1) return absl::OkStatus();
  const int32_t width = ColumnsOfRank(c.vocab_size, ops_.num_ranks());
  ASSIGN_OR_RETURN(void* memory,
                   ops_.Allocate(int64_t{rows} * width * static_cast<int64_t>(sizeof(float))));
  a_.share = {static_cast<float*>(memory), rows, weights_.head.rows, width};
  return absl::OkStatus();
}

}  // namespace sluice
