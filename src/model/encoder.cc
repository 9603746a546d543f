#include "model/encoder.h"

#include <cmath>

#include "base/check.h"
#include "base/status_macros.h"

namespace sluice {

// Shapes: T tokens, n output rows; D model_dim, F ffn_dim.
Tensor Encoder::Forward(const BatchView& batch, std::span<const int32_t> token_types) {
  const EncoderConfig& c = config_;
  SLUICE_CHECK(batch.num_tokens <= a_.x.rows && batch.num_rows <= a_.pooled.rows,
               "{} tokens in {} rows", batch.num_tokens, batch.num_rows);
  const Tensor x = a_.x.Rows(batch.num_tokens);
  const Tensor qkv = a_.qkv.Rows(batch.num_tokens);
  const Tensor attended = a_.attended.Rows(batch.num_tokens);
  const Tensor added = a_.added.Rows(batch.num_tokens);
  const Tensor up = a_.up.Rows(batch.num_tokens);
  AttentionParams attention{.scale = 1 / std::sqrt(static_cast<float>(c.head_dim()))};
  attention.causal = false;

  ops_.Embed(token_embd_, 1, x);
  ops_.AddPositions(position_embd_, type_embd_, token_types, x);
  ops_.LayerNorm(x, {}, embd_norm_.weight, embd_norm_.bias, c.norm_eps, x);
  for (const Layer& w : layers_) {
    // Attention: x = norm(x + O attention(QKV x))
    MatMul(x, w.qkv, qkv);
    ops_.RopeAndStoreKv(qkv, c.num_heads, {}, kv_);
    ops_.Attention(qkv.Columns(0, c.model_dim), c.num_heads, attention, kv_, attended);
    MatMul(attended, w.o, added);
    ops_.LayerNorm(added, x, w.attn_norm.weight, w.attn_norm.bias, c.norm_eps, x);

    // FFN: x = norm(x + Down gelu(Up x))
    MatMul(x, w.up, up);
    ops_.Gelu(up);
    MatMul(up, w.down, added);
    ops_.LayerNorm(added, x, w.ffn_norm.weight, w.ffn_norm.bias, c.norm_eps, x);
  }
  const Tensor pooled = a_.pooled.Rows(batch.num_outputs);
  ops_.Pool(x, c.num_labels > 0 ? Pooling::kFirst : c.pooling, pooled);
  if (c.num_labels == 0) return pooled;

  // Head: classifier(tanh(pooler x[0]))
  const Tensor dense = a_.dense.Rows(batch.num_outputs);
  MatMul(pooled, pooler_, dense);
  ops_.SoftCap(dense, 1);  // 1 * tanh(x / 1)
  const Tensor logits = a_.logits.Rows(batch.num_outputs);
  MatMul(dense, classifier_, logits);
  return logits;
}

// A bias is the residual of a product: the same row for every token. A residual is only read.
void Encoder::MatMul(Tensor x, const Biased& w, Tensor out) {
  ops_.MatMul(x, w.linear, {const_cast<float*>(w.bias.data), x.rows, w.bias.size, 0}, out);
}

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Create(const EncoderConfig& config,
                                                         const EncoderViews& views,
                                                         const EncoderLimits& limits,
                                                         const LoadOptions& load, Ops& ops) {
  SLUICE_CHECK(limits.max_step_tokens >= 1 && limits.max_rows >= 1, "{} {}", limits.max_step_tokens,
               limits.max_rows);
  auto encoder = std::unique_ptr<Encoder>(new Encoder(config, ops));
  RETURN_IF_ERROR(encoder->LoadWeights(views, load));
  RETURN_IF_ERROR(encoder->Allocate(limits));
  return encoder;
}

absl::Status Encoder::LoadWeights(const EncoderViews& views, const LoadOptions& load) {
  const auto flat = [](WeightView table) {
    table.cols *= table.rows;
    table.rows = 1;
    return table;
  };
  LinearLoader loader(load, ops_);
  ASSIGN_OR_RETURN(token_embd_, ops_.LoadTable(views.token_embd));
  ASSIGN_OR_RETURN(position_embd_, ops_.LoadVector(flat(views.position_embd)));
  ASSIGN_OR_RETURN(type_embd_, ops_.LoadVector(flat(views.type_embd)));
  ASSIGN_OR_RETURN(embd_norm_, LoadNorm(views.embd_norm));
  for (const EncoderLayerViews& layer : views.layers) {
    ASSIGN_OR_RETURN(layers_.emplace_back(), LoadLayer(layer, loader));
  }
  if (config_.num_labels == 0) return absl::OkStatus();
  // As exact as the file has them: they cost nothing.
  ASSIGN_OR_RETURN(pooler_, LoadBiased(views.pooler, loader, LinearRole::kRouter));
  ASSIGN_OR_RETURN(classifier_, LoadBiased(views.classifier, loader, LinearRole::kRouter));
  return absl::OkStatus();
}

absl::StatusOr<Encoder::Layer> Encoder::LoadLayer(const EncoderLayerViews& views,
                                                  LinearLoader& loader) {
  Layer layer;
  const WeightView qkv[] = {views.q.weight, views.k.weight, views.v.weight};
  const WeightView qkv_bias[] = {views.q.bias, views.k.bias, views.v.bias};
  ASSIGN_OR_RETURN(layer.qkv.linear, loader.Load(qkv));
  ASSIGN_OR_RETURN(layer.qkv.bias, ops_.LoadVector(qkv_bias));
  ASSIGN_OR_RETURN(layer.o, LoadBiased(views.o, loader, LinearRole::kPlain));
  ASSIGN_OR_RETURN(layer.attn_norm, LoadNorm(views.attn_norm));
  ASSIGN_OR_RETURN(layer.up, LoadBiased(views.up, loader, LinearRole::kPlain));
  ASSIGN_OR_RETURN(layer.down, LoadBiased(views.down, loader, LinearRole::kPlain));
  ASSIGN_OR_RETURN(layer.ffn_norm, LoadNorm(views.ffn_norm));
  return layer;
}

absl::StatusOr<Encoder::Biased> Encoder::LoadBiased(const BiasedView& view, LinearLoader& loader,
                                                    LinearRole role) {
  Biased biased;
  ASSIGN_OR_RETURN(biased.linear, loader.Load({&view.weight, 1}, role));
  ASSIGN_OR_RETURN(biased.bias, ops_.LoadVector(view.bias));
  return biased;
}

absl::StatusOr<Encoder::Norm> Encoder::LoadNorm(const BiasedView& view) {
  Norm norm;
  ASSIGN_OR_RETURN(norm.weight, ops_.LoadVector(view.weight));
  ASSIGN_OR_RETURN(norm.bias, ops_.LoadVector(view.bias));
  return norm;
}

absl::Status Encoder::Allocate(const EncoderLimits& limits) {
  const EncoderConfig& c = config_;
  const int32_t tokens = limits.max_step_tokens, rows = limits.max_rows;
  const struct {
    Tensor* tensor;
    int32_t rows, cols;
  } kShapes[] = {
      {&a_.x, tokens, c.model_dim},        {&a_.qkv, tokens, 3 * c.model_dim},
      {&a_.attended, tokens, c.model_dim}, {&a_.added, tokens, c.model_dim},
      {&a_.up, tokens, c.ffn_dim},         {&a_.pooled, rows, c.model_dim},
      {&a_.dense, rows, c.model_dim},      {&a_.logits, rows, c.num_labels},
  };
  for (const auto& shape : kShapes) {
    if (shape.cols == 0) continue;
    ASSIGN_OR_RETURN(void* memory, ops_.Allocate(int64_t{shape.rows} * shape.cols *
                                                 static_cast<int64_t>(sizeof(float))));
    *shape.tensor = {static_cast<float*>(memory), shape.rows, shape.cols, shape.cols};
  }
  // Each row's last block may be nearly empty.
  kv_ = {nullptr, tokens / kBlockTokens + rows, kBlockTokens, c.num_heads, c.head_dim()};
  ASSIGN_OR_RETURN(kv_.data, ops_.Allocate(kv_.num_blocks * ops_.KvBlockBytes(kv_)));
  return absl::OkStatus();
}

}  // namespace sluice
