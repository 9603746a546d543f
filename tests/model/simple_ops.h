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
  SimpleOps() = default;
  // kv_halfs: keys and values are rounded to f16, as the CPU backend keeps them.
  explicit SimpleOps(bool kv_halfs) : kv_halfs_(kv_halfs) {}
  absl::StatusOr<Linear> LoadLinear(std::span<const WeightView> parts) override;
  absl::StatusOr<Experts> LoadExperts(std::span<const WeightView> parts,
                                      int32_t num_experts) override;
  absl::StatusOr<Adapters> LoadAdapters(std::span<const AdapterView> adapters, int32_t rows,
                                        int32_t cols) override {
    adapters_.emplace_back(adapters.begin(), adapters.end());
    return Adapters{static_cast<int32_t>(adapters.size()), rows, cols, &adapters_.back()};
  }
  void AddAdapters(Tensor x, const Adapters& adapters, Tensor out) override;
  absl::StatusOr<Table> LoadTable(const WeightView& table) override { return Table{table}; }
  using Ops::LoadVector;
  absl::StatusOr<Vector> LoadVector(std::span<const WeightView> parts) override;
  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  [[nodiscard]] int64_t KvBlockBytes(const KvLayer& kv) const override;
  absl::Status AllocateSlots(int32_t max_rows, int32_t vocab_size) override;
  void BeginStep(const BatchView& batch) override { batch_ = batch; }
  void InitSlot(const SlotView& /*slot*/) override {}
  void Embed(const Table& table, float scale, Tensor out) override;
  void RmsNorm(Tensor x, Vector weight, const NormParams& params, Tensor residual,
               Tensor out) override;
  void MatMul(Tensor x, const Linear& w, Tensor residual, Tensor out) override;
  void RopeAndStoreKv(Tensor qkv, int32_t num_q_heads, const RopeParams& rope,
                      const KvLayer& kv) override;
  void Attention(Tensor q, int32_t num_q_heads, const AttentionParams& params, const KvLayer& kv,
                 Tensor out) override;
  void GateMul(Tensor gate_up, Activation activation, Tensor out) override;
  void SoftCap(Tensor x, float cap) override;
  void RouteExperts(Tensor logits, bool renormalise, const Routing& routing) override;
  void GatherPlaces(Tensor x, const Routing& routing, Tensor out) override;
  void ExpertMatMul(Tensor x, const Experts& w, const Routing& routing, Tensor out) override;
  void CombineExperts(Tensor x, const Routing& routing, Tensor residual, Tensor out) override;
  void AddGated(Tensor x, Tensor gate, Tensor residual, Tensor out) override;
  void AddPositions(Vector positions, Vector types, std::span<const int32_t> token_types,
                    Tensor x) override;
  void LayerNorm(Tensor x, Tensor residual, Vector weight, Vector bias, float eps,
                 Tensor out) override;
  void Gelu(Tensor x) override;
  void Pool(Tensor x, Pooling pooling, Tensor out) override;
  void GatherOutputs(Tensor x, Tensor out) override;
  void Sample(Tensor logits, std::span<const int32_t> num_output_tokens,
              std::span<SampleOut> out) override;
  void Read(Tensor x, float* out) override;
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  // Where the key of `position` of row `row` lies; the value follows all Hkv keys. f32.
  [[nodiscard]] float* KvAt(const KvLayer& kv, int32_t row, int32_t position) const;

  const bool kv_halfs_ = false;
  BatchView batch_;
  std::deque<std::vector<WeightView>> linears_;
  std::deque<std::vector<AdapterView>> adapters_;  // the caller's memory
  std::deque<std::vector<uint8_t>> weights_;       // their copies
  std::deque<std::vector<Linear>> experts_;
  std::deque<std::vector<float>> memory_;
  std::vector<int32_t> last_tokens_;  // by slot
};

// One row of a weight as floats. out: [cols]
void DequantizeRow(const WeightView& weight, int64_t row, float* out);

}  // namespace sluice
