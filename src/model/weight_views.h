// A model's weights as they lie in its file, by role: names and shapes checked, nothing loaded. A
// view without data is a part that the model does not have.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/view.h"
#include "model/model_config.h"
#include "model/tensor_table.h"

namespace sluice {

struct LayerViews {
  WeightView attn_norm;               // [D]
  WeightView q, k, v;                 // [Hq*H, D], [Hkv*H, D], [Hkv*H, D]
  WeightView q_bias, k_bias, v_bias;  // all three or none: [Hq*H], [Hkv*H], [Hkv*H]
  WeightView q_norm, k_norm;          // both or none: [H]
  WeightView o;                       // [D, Hq*H]
  WeightView ffn_norm;                // [D]
  WeightView gate, up;                // [F, D]
  WeightView down;                    // [D, F]
};

struct WeightViews {
  WeightView token_embd;  // [V, D]
  std::vector<LayerViews> layers;
  WeightView output_norm;  // [D]
  WeightView head;         // [V, D]; without data: token_embd serves as head
  WeightView rope_freqs;   // [rope_dim/2] f32 divisors of the rotation frequencies, or none
};

// Errors: InvalidArgument for a missing tensor, a wrong shape, or a tensor that the forward pass
// would not use (it would compute something else than the file means).
absl::StatusOr<WeightViews> FindWeights(const TensorTable& table, const ModelConfig& config);

}  // namespace sluice
