// The encoder's forward pass over Ops: BERT's order of operations, with the norms behind the blocks
// and every token seeing its whole sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/encoder_views.h"
#include "model/linear_loader.h"

namespace sluice {

struct EncoderLimits {
  int32_t max_step_tokens = 0;  // T of a step
  int32_t max_rows = 0;         // R of a step
};

class Encoder {
 public:
  // A step's keys and values live in blocks of so many tokens, which only that step uses.
  static constexpr int32_t kBlockTokens = 16;

  // `ops` and the views' memory outlive the Encoder. Errors: what Ops says.
  static absl::StatusOr<std::unique_ptr<Encoder>> Create(const EncoderConfig& config,
                                                         const EncoderViews& views,
                                                         const EncoderLimits& limits,
                                                         const LoadOptions& load, Ops& ops);

  // Enqueues one step between Ops::BeginStep and Finish. Rows are whole sequences with blocks of
  // [0, num_blocks()) of their own. token_types [T] lives until Finish. Returns [num_outputs,
  // output_dim]: the pooled vectors as they are, or the head's logits; valid until the next
  // Forward.
  Tensor Forward(const BatchView& batch, std::span<const int32_t> token_types);

  // Enough for any step within the limits.
  [[nodiscard]] int32_t num_blocks() const { return kv_.num_blocks; }
  [[nodiscard]] const EncoderConfig& config() const { return config_; }

 private:
  struct Biased {
    Linear linear;
    Vector bias;
  };
  struct Norm {
    Vector weight, bias;
  };
  struct Layer {
    Biased qkv, o, up, down;  // D -> 3D, D -> D, D -> F, F -> D
    Norm attn_norm, ffn_norm;
  };
  struct Activations {
    Tensor x;         // [T, D]
    Tensor qkv;       // [T, 3D]
    Tensor attended;  // [T, D]
    Tensor added;     // [T, D] what a block adds to x
    Tensor up;        // [T, F]
    Tensor pooled;    // [R, D]
    Tensor dense;     // [R, D]
    Tensor logits;    // [R, labels]
  };

  Encoder(const EncoderConfig& config, Ops& ops) : config_(config), ops_(ops) {}
  absl::Status LoadWeights(const EncoderViews& views, const LoadOptions& load);
  absl::StatusOr<Layer> LoadLayer(const EncoderLayerViews& views, LinearLoader& loader);
  absl::StatusOr<Biased> LoadBiased(const BiasedView& view, LinearLoader& loader, LinearRole role);
  absl::StatusOr<Norm> LoadNorm(const BiasedView& view);
  absl::Status Allocate(const EncoderLimits& limits);
  void MatMul(Tensor x, const Biased& w, Tensor out);

  const EncoderConfig config_;
  Ops& ops_;
  Table token_embd_;
  Vector position_embd_, type_embd_;  // [P*D], [N*D]
  Norm embd_norm_;
  std::vector<Layer> layers_;
  Biased pooler_, classifier_;  // null without a head
  KvLayer kv_;                  // of one layer: each overwrites the one before
  Activations a_;
};

}  // namespace sluice
