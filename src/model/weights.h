// A model's weights in the backend's memory and layout. A part that the model does not have is
// null.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/linear_loader.h"
#include "model/model_config.h"
#include "model/weight_views.h"

namespace sluice {

struct LayerWeights {
  Vector attn_norm;       // [D]
  Linear qkv;             // D -> (Hq + 2 Hkv) * H, stacked
  Vector qkv_bias;        // [(Hq + 2 Hkv) * H] or null
  Vector q_norm, k_norm;  // [H] or null: RMS norm of every head before the rotation
  Linear o;               // Hq*H -> D
  Vector ffn_norm;        // [D]
  Linear gate_up;         // D -> 2F, stacked
  Linear down;            // F -> D
};

struct Weights {
  WeightView token_embd;  // [V, D], read where it lies in the file
  std::vector<LayerWeights> layers;
  Vector output_norm;  // [D]
  Linear head;         // D -> V; made from token_embd where the file has no head of its own
  RopeParams rope;     // tables for max_positions
};

// The views' memory must outlive `ops`. Errors: what Ops says.
absl::StatusOr<Weights> LoadWeights(const WeightViews& views, const ModelConfig& config,
                                    int32_t max_positions, const LoadOptions& options, Ops& ops);

}  // namespace sluice
