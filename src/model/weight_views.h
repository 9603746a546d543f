// A model's weights as they lie in its file, by role: names and shapes checked, nothing loaded. A
// view without data is a part that the model does not have.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/view.h"
#include "model/model_config.h"
#include "model/tensor_table.h"

namespace sluice {

struct LayerViews {
  WeightView attn_norm;               // [D]
  WeightView q, k, v;                 // [Hq*H, D], [Hkv*H, D], [Hkv*H, D]
  WeightView qkv;                     // [(Hq + 2 Hkv) * H, D] in place of those three
  WeightView q_bias, k_bias, v_bias;  // all three or none: [Hq*H], [Hkv*H], [Hkv*H]
  WeightView q_norm, k_norm;          // both or none: [H]
  WeightView o;                       // [D, Hq*H]
  WeightView post_attention_norm;     // [D] of what attention adds, or none
  WeightView ffn_norm;                // [D]
  WeightView gate, up;       // [F, D]; without gate, up is [2F, D]: gate rows, then up rows
  WeightView down;           // [D, F]
  WeightView post_ffn_norm;  // [D] of what the FFN adds, or none
  // With a router the FFN is a mixture of experts, and gate, up and down are not there.
  WeightView router;                                              // [E, D]
  std::vector<WeightView> gate_experts, up_experts;               // E times [Fe, D]
  std::vector<WeightView> down_experts;                           // E times [D, Fe]
  WeightView shared_router, shared_gate, shared_up, shared_down;  // [D], [Fs, D] twice, [D, Fs]
};

struct WeightViews {
  WeightView token_embd;  // [V, D]
  std::vector<LayerViews> layers;
  WeightView output_norm;  // [D]
  WeightView head;         // [V, D]; without data: token_embd serves as head
};

// Divisors of rotation frequencies; they are part of the ModelConfig, which its reader filled.
inline constexpr std::string_view kRopeTensors[] = {
    "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"};

// Errors: InvalidArgument for a missing tensor, a wrong shape, or a tensor that the forward pass
// would not use (it would compute something else than the file means).
absl::StatusOr<WeightViews> FindWeights(const TensorTable& table, const ModelConfig& config);

}  // namespace sluice
