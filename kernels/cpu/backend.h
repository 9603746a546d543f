// Ops on CPU threads: each op appends commands to a list, Finish lets all threads run it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/arena.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/command_list.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed_linear.h"
#include "kernels/cpu/sampling_slots.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace sluice::cpu {

// Each expert's panels of one run of output rows; a plain table that the kernels read.
struct PackedExpertsPart {
  Packing packing = Packing::kF32;
  int32_t rows = 0;
  int32_t column = 0;                  // its first column of the stacked output
  std::vector<const uint8_t*> panels;  // [E]
};
struct PackedExperts {
  std::vector<PackedExpertsPart> parts;
};

// Engine thread only. linear.cc implements the linear ops, expert_ops.cc the mixture of experts,
// encoder_ops.cc what only encoders use,
// row_ops.cc the others, cpu_ops.cc the rest.
class Backend final : public Ops {
 public:
  // A thread's: attention scores, rounded activations of a few rows, sampling candidates. Untouched
  // pages cost nothing.
  static constexpr int64_t kScratchBytes = 4 << 20;

  Backend(const Kernels& kernels, std::shared_ptr<ThreadPool> pool);

  absl::StatusOr<Linear> LoadLinear(std::span<const WeightView> parts) override;
  absl::StatusOr<Experts> LoadExperts(std::span<const WeightView> parts,
                                      int32_t num_experts) override;
  absl::StatusOr<Adapters> LoadAdapters(std::span<const AdapterView> adapters, int32_t rows,
                                        int32_t cols) override;
  absl::StatusOr<Table> LoadTable(const WeightView& table) override { return Table{table}; }
  absl::StatusOr<Vector> LoadVector(std::span<const WeightView> parts) override;
  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  [[nodiscard]] int64_t KvBlockBytes(const KvLayer& kv) const override;
  absl::Status AllocateSlots(int32_t max_rows, int32_t vocab_size) override;

  void BeginStep(const BatchView& batch) override;
  void InitSlot(const SlotView& slot) override;
  void Embed(const Table& table, float scale, Tensor out) override;
  void RmsNorm(Tensor x, Vector weight, const NormParams& params, Tensor residual,
               Tensor out) override;
  void MatMul(Tensor x, const Linear& w, Tensor residual, Tensor out) override;
  void AddAdapters(Tensor x, const Adapters& adapters, Tensor out) override;
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
  absl::Status Finish() override;

 private:
  // Room for the rounded input of a linear op, or fails the step.
  bool ReserveQuantised(int64_t blocks);
  // Keeps the first failure of the step for Finish.
  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  const Kernels& kernels_;
  const std::shared_ptr<ThreadPool> pool_;  // owners: the Backends that share it
  Arena arena_;
  CommandList commands_;
  absl::Status status_;

  BatchView batch_;
  std::vector<int32_t> token_row_;  // [T] the row each token of the step belongs to
  AttentionPlans attention_plans_;
  SamplingSlots slots_;

  std::vector<std::unique_ptr<PackedLinear>> linears_;
  std::vector<std::unique_ptr<PackedExperts>> experts_;
  std::vector<std::unique_ptr<std::vector<AdapterFactors>>> adapters_;
  QuantisedRows quantised_;  // the rounded input of one linear op at a time
  int64_t quantised_blocks_ = 0;
};

}  // namespace sluice::cpu
