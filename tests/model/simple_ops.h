// Ops as the textbook has them: dequantised weights, activations that are never rounded, sums in
// double, everything computed at once on the calling thread, greedy sampling only. The oracle of
// the transformer tests: it shares no code with a backend.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "kernels/ops.h"

namespace sluice {

class SimpleOps final : public Ops {
 public:
  absl::StatusOr<Linear> LoadLinear(std::span<const WeightView> parts) override;
  using Ops::LoadVector;
  absl::StatusOr<Vector> LoadVector(std::span<const WeightView> parts) override;
  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  [[nodiscard]] int64_t KvBlockBytes(int32_t block_tokens, int32_t num_kv_heads,
                                     int32_t head_dim) const override;
  absl::Status AllocateSlots(int32_t max_rows, int32_t vocab_size) override;
  void BeginStep(const BatchView& batch) override { batch_ = batch; }
  void InitSlot(const SlotView& /*slot*/) override {}
  void Embed(const WeightView& table, Tensor out) override;
  void RmsNorm(Tensor x, Vector weight, float eps, Tensor out) override;
  void MatMul(Tensor x, const Linear& w, Tensor residual, Tensor out) override;
  void RopeAndStoreKv(Tensor qkv, int32_t num_q_heads, const RopeParams& rope,
                      const KvLayer& kv) override;
  void Attention(Tensor q, int32_t num_q_heads, float scale, const KvLayer& kv,
                 Tensor out) override;
  void SiluMul(Tensor gate_up, Tensor out) override;
  void GatherOutputs(Tensor x, Tensor out) override;
  void Sample(Tensor logits, std::span<const int32_t> num_output_tokens,
              std::span<SampleOut> out) override;
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  // Where the key of `position` of row `row` lies; the value follows all Hkv keys. f32.
  [[nodiscard]] float* KvAt(const KvLayer& kv, int32_t row, int32_t position) const;

  BatchView batch_;
  std::deque<std::vector<WeightView>> linears_;
  std::deque<std::vector<float>> memory_;
  std::vector<int32_t> last_tokens_;  // by slot
};

// One row of a weight as floats. out: [cols]
void DequantizeRow(const WeightView& weight, int64_t row, float* out);

}  // namespace sluice
