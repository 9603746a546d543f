// THE forward pass: a decoder-only transformer over Ops, for every backend. Parts that a family
// lacks are null weights.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/kv_cache.h"
#include "model/linear_loader.h"
#include "model/model_config.h"
#include "model/model_share.h"
#include "model/moe_block.h"
#include "model/weight_views.h"
#include "model/weights.h"

namespace sluice {

struct TransformerLimits {
  int32_t max_step_tokens = 0;  // T of a step
  int32_t max_rows = 0;         // R of a step
  int32_t max_model_len = 0;    // positions [0, max_model_len)
  int32_t kv_block_tokens = 0;
  int32_t num_kv_blocks = 0;
  KvType kv_type = KvType::kF16;
};

class Transformer {
 public:
  // Loads the weights, or a rank's share of them, and allocates the KV pool and all activations.
  // `ops` and the views' memory outlive the Transformer. Errors: what Ops says; InvalidArgument for
  // limits that do not fit the model and for ranks that cannot share it.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelConfig& config,
                                                             const WeightViews& views,
                                                             const TransformerLimits& limits,
                                                             Ops& ops,
                                                             const LoadOptions& load = {});

  // Enqueues one step between Ops::BeginStep and Finish: stores the new tokens' keys and values and
  // computes logits [num_outputs, V] of the output rows' last tokens (no data if there are none),
  // valid until the next Forward.
  Tensor Forward(const BatchView& batch);

  // The same up to the head, for embeddings: the normed states [num_outputs, D] of the output rows'
  // last tokens, or [T, D] of all tokens.
  enum class StatesOf { kOutputs, kAllTokens };
  Tensor ForwardToStates(const BatchView& batch, StatesOf states_of = StatesOf::kOutputs);

  // Bytes of all activations of a rank's step within the limits.
  [[nodiscard]] static int64_t ActivationBytes(const ModelConfig& config, int32_t max_step_tokens,
                                               int32_t max_rows, int32_t num_ranks = 1);

 private:
  struct Activations {
    Tensor x;                  // [T, D] the residual stream
    Tensor normed;             // [T, D]
    Tensor qkv;                // [T, (Hq + 2 Hkv) * H]
    Tensor attended;           // [T, Hq*H]
    Tensor gate_up;            // [T, 2F] of a dense FFN
    Tensor gated;              // [T, F]
    Tensor x_out, normed_out;  // [R, D] of the output rows
    Tensor attended_out;       // [R, Hq*H] of the output rows
    Tensor logits;             // [R, V]
    Tensor share;              // the rank's columns of them; of one rank, logits
  };

  Transformer(const ModelConfig& config, const TransformerLimits& limits, Ops& ops)
      : config_(config), limits_(limits), ops_(ops) {}
  absl::Status AllocateActivations();
  // x += the FFN of the normed x.
  void AddFfn(const LayerWeights& w, Tensor normed, Tensor x);
  // x += the sum of linear(in) over the ranks, or its norm if there is one. scratch has x's shape.
  // Rank 0's product carries x into the sum.
  void AddProduct(Tensor in, const Linear& linear, const Vector& norm, Tensor scratch, Tensor x);

  const ModelConfig config_;  // of the rank
  const TransformerLimits limits_;
  Ops& ops_;
  Weights weights_;
  KvCache kv_;
  Activations a_;
  MoeBlock moe_;
};

}  // namespace sluice
