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

// Of a layer whose FFN is a mixture of experts; else all null.
struct MoeWeights {
  Linear router;                       // D -> E
  Experts gate_up, down;               // D -> 2Fe, Fe -> D
  Linear shared_router;                // D -> 1, or null with the next two
  Linear shared_gate_up, shared_down;  // D -> 2Fs, Fs -> D
};

struct LayerWeights {
  Vector attn_norm;  // [D]
  Linear qkv;        // D -> (Hq + 2 Hkv) * H, stacked
  Vector qkv_bias;   // [(Hq + 2 Hkv) * H] or null
  Vector qk_norm;    // [(Hq + Hkv) * H] or null: RMS norm of every head before the rotation
  Linear o;          // Hq*H -> D
  Vector post_attention_norm;  // [D] or null: norm of what attention adds
  Vector ffn_norm;             // [D]
  Linear gate_up;              // D -> 2F, stacked; null where there is a mixture of experts
  Linear down;                 // F -> D
  Vector post_ffn_norm;        // [D] or null: norm of what the FFN adds
  MoeWeights moe;
};

struct Weights {
  Table token_embd;                         // [V, D]
  std::unique_ptr<uint8_t[]> rounded_embd;  // its bytes, if it is rounded with the head
  std::vector<LayerWeights> layers;
  Vector output_norm;  // [D]
  Linear head;  // D -> V, or a rank's share of V; made from token_embd where the file has no head
                // of its own
  RopeParams rope;         // tables for max_positions
  RopeParams window_rope;  // the same for layers with a window
};

// The views and `config` are a rank's. The views' memory must outlive `ops`. Errors: what Ops says.
absl::StatusOr<Weights> LoadWeights(const WeightViews& views, const ModelConfig& config,
                                    int32_t max_positions, const LoadOptions& options, Ops& ops);

}  // namespace sluice
