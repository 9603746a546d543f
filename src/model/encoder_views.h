// An encoder of BERT's family: its numbers, and its weights as they lie in a file. Immutable.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/view.h"
#include "model/tensor_table.h"

namespace sluice {

struct EncoderConfig {
  int32_t model_dim = 0;      // D
  int32_t ffn_dim = 0;        // F
  int32_t vocab_size = 0;     // V
  int32_t num_layers = 0;     // L
  int32_t num_heads = 0;      // H heads of D/H
  int32_t max_positions = 0;  // P
  int32_t num_types = 0;      // N: of tokens, for the texts of a pair
  float norm_eps = 0;
  Pooling pooling = Pooling::kMean;
  bool normalise = true;   // what the model's own description does with its vectors
  int32_t num_labels = 0;  // of a cross-encoder's head; 0: the model gives vectors

  [[nodiscard]] int32_t head_dim() const { return model_dim / num_heads; }
  [[nodiscard]] int32_t output_dim() const { return num_labels > 0 ? num_labels : model_dim; }
  friend bool operator==(const EncoderConfig&, const EncoderConfig&) = default;
};

// A matrix [rows, cols] with its bias [rows], or a norm's weight and bias.
struct BiasedView {
  WeightView weight, bias;
};

struct EncoderLayerViews {
  BiasedView q, k, v, o;  // [D, D]
  BiasedView attn_norm;   // [D], after attention
  BiasedView up, down;    // [F, D], [D, F]
  BiasedView ffn_norm;    // [D], after the FFN
};

struct EncoderViews {
  WeightView token_embd;     // [V, D]
  WeightView position_embd;  // [P, D]
  WeightView type_embd;      // [N, D]
  BiasedView embd_norm;      // [D]
  std::vector<EncoderLayerViews> layers;
  BiasedView pooler;      // [D, D], tanh; of a cross-encoder
  BiasedView classifier;  // [labels, D]; of a cross-encoder
};

// By GGUF's names ("blk.0.attn_q.weight", "token_types.weight", "cls.weight" for the pooler,
// "cls.output.weight" for the classifier). Errors: InvalidArgument for a tensor that is missing, of
// a wrong shape, or without a place in the forward pass.
absl::StatusOr<EncoderViews> FindEncoder(const TensorTable& table, const EncoderConfig& config);

}  // namespace sluice
