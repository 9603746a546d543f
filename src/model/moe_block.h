// The mixture of experts that takes an FFN's place: a router chooses a few experts for each token,
// and one expert may serve every token.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "kernels/view.h"
#include "model/model_config.h"
#include "model/weights.h"

namespace sluice {

class MoeBlock {
 public:
  // Activations for max_tokens rows, in the memory of `ops`; none for a dense model. Errors:
  // ResourceExhausted.
  static absl::StatusOr<MoeBlock> Create(const ModelConfig& config, int32_t max_tokens, Ops& ops);
  [[nodiscard]] static int64_t ActivationBytes(const ModelConfig& config, int32_t max_tokens);

  // x += sum over the chosen experts of weight * Down(act(Gate normed) * Up normed), plus the
  // shared expert's times sigmoid(SharedRouter normed). normed, x [T, D]; enqueues only. A rank
  // does its columns of every expert, and rank 0 adds x.
  void Forward(Tensor normed, const MoeWeights& w, Tensor x, Ops& ops) const;

 private:
  void AddSharedExpert(Tensor normed, const MoeWeights& w, Tensor x, Ops& ops) const;

  MoeConfig config_;
  Activation activation_ = Activation::kSilu;
  Tensor logits_;                         // [T, E]
  Routing routing_;                       // of T rows
  Tensor places_, gate_up_, gated_;       // [T*k, D], [T*k, 2Fe], [T*k, Fe]
  Tensor shared_gate_up_, shared_gated_;  // [T, 2Fs], [T, Fs]
  Tensor shared_gate_;                    // [T, 1]
};

}  // namespace sluice
