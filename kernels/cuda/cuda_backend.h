// Ops on one device. Private to this folder.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/ranks.h"
#include "kernels/ops.h"

namespace sluice::cuda {

// A matrix in device memory.
struct DeviceMatrix {
  WeightFormat format = WeightFormat::kHalf;
  int32_t rows = 0, columns = 0;  // N, K padded
  int32_t first_column = 0;       // of the stacked output
  bool fp8_inputs = false;        // x is rounded to e4m3 for the product
  const uint8_t* weights = nullptr;
  const float* row_scale = nullptr;
  int64_t expert_bytes = 0;  // from one expert's weights to the next's
};
// What adapters add to one linear op.
struct DeviceAdapters {
  const DeviceAdapter* adapters = nullptr;
  int32_t max_rank = 0;
  bool halfs = false;
};
struct DeviceLinear {
  std::vector<DeviceMatrix> parts;
  [[nodiscard]] int32_t rows() const { return parts.back().first_column + parts.back().rows; }
};

// One thread at a time. cuda_load.cc loads, cuda_step.cc begins, uploads and finishes steps,
// cuda_backend.cc holds the ops up to the logits, cuda_ranks.cc the exchanges, cuda_sample.cc the
// rest.
class CudaBackend final : public Ops {
 public:
  // `ranks`: null for one rank.
  static absl::StatusOr<std::unique_ptr<CudaBackend>> Create(const CudaOpsOptions& options,
                                                             const CudaDevice& device,
                                                             std::shared_ptr<RankGroup> ranks,
                                                             int32_t rank);
  ~CudaBackend() override;

  absl::StatusOr<Linear> LoadLinear(std::span<const WeightView> parts) override;
  absl::StatusOr<Experts> LoadExperts(std::span<const WeightView> parts,
                                      int32_t num_experts) override;
  absl::StatusOr<Adapters> LoadAdapters(std::span<const AdapterView> adapters, int32_t rows,
                                        int32_t cols) override;
  absl::StatusOr<Table> LoadTable(const WeightView& table) override;
  using Ops::LoadVector;
  absl::StatusOr<Vector> LoadVector(std::span<const WeightView> parts) override;
  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  [[nodiscard]] int64_t KvBlockBytes(const KvLayer& kv) const override;
  absl::Status AllocateSlots(int32_t max_rows, int32_t vocab_size) override;

  [[nodiscard]] int32_t rank() const override { return rank_; }
  [[nodiscard]] int32_t num_ranks() const override {
    return ranks_ == nullptr ? 1 : ranks_->size();
  }
  void AllReduce(Tensor x) override;
  void AllGather(Tensor part, Tensor out) override;

  [[nodiscard]] int max_steps_in_flight() const override { return kSteps; }
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
  static constexpr int kSteps = 2;  // in flight

  // A copy to the host that Finish hands on.
  struct HostCopy {
    void* to;
    int64_t at, bytes;  // in the step's `results`
  };
  // What a step in flight keeps on the host.
  struct Step {
    absl::Status status;
    bool recorded = false;  // `done` is on the stream
    cudaEvent_t done = nullptr;
    PinnedBlock<uint8_t> upload;   // the plan, then what comes later in the step
    int64_t uploaded = 0;          // bytes of it in use
    PinnedBlock<uint8_t> results;  // what comes back
    int64_t results_used = 0;
    std::vector<HostCopy> copies;
  };
  // How the ops of a step are taken: enqueued, enqueued into a graph, or there already.
  enum class Mode { kPlain, kCapture, kReplay };
  struct Graph {
    cudaGraphExec_t exec = nullptr;
  };
  struct ShapePlan {
    AttentionShape shape;
    AttentionPlan plan;
    AttentionPlanView view;
    bool valid = false;  // uploaded for this step
  };

  CudaBackend(const CudaOpsOptions& options, const CudaDevice& device,
              std::shared_ptr<RankGroup> ranks, int32_t rank)
      : options_(options), device_(device), ranks_(std::move(ranks)), rank_(rank) {}

  // --- cuda_load.cc ---
  [[nodiscard]] bool TakesFp8Inputs(DType dtype) const {
    return dtype == DType::kFp8A8 && HasFp8Products(device_);
  }
  absl::StatusOr<DeviceMatrix> LoadMatrix(std::span<const WeightView> views, size_t num_parts);
  absl::StatusOr<const DeviceLinear*> LoadStacked(std::span<const WeightView> views,
                                                  size_t num_experts);
  const DeviceLinear* FindInTables(const WeightView& view);
  absl::StatusOr<void*> Upload(const void* data, int64_t bytes);

  // --- cuda_step.cc ---
  [[nodiscard]] Step& step() { return steps_[(begun_ - 1) % kSteps]; }
  // The first failure of the step stays for its Finish.
  bool Check(cudaError_t error, std::string_view call);
  void Fail(absl::Status status);
  // Takes the launch, or skips it where a graph holds it.
  template <class F>
  void Enqueue(std::string_view call, const F& launch) {
    if (mode_ == Mode::kReplay || !step().status.ok()) return;
    Check(launch(), call);
  }
  // At least `count` elements, as Block::Reserve. Memory that is freed waits for devices, and an
  // exchange that one of them has begun for the rank that frees: no rank goes on before all have
  // grown. They do so at the same places of the same steps, for their plans are the same.
  template <class B>
  absl::Status Grow(B& block, int64_t count) {
    if (count <= block.size()) return absl::OkStatus();
    absl::Status status = block.Reserve(count);
    if (status.ok() && ranks_ != nullptr) ranks_->Meet();
    return status;
  }
  // Memory that the step's kernels read at fixed addresses grows here, never under a step in
  // flight.
  absl::Status ReserveStep(const BatchView& batch);
  absl::Status ReserveHalves(int64_t rows);
  absl::Status ReserveFp8(int64_t rows);
  void UploadBatch(const BatchView& batch);
  // Copies `bytes` into the step's pinned memory and on to `to`.
  void UploadTo(void* to, const void* data, int64_t bytes);
  void ChooseMode(const BatchView& batch);
  void EndCapture();
  void DropGraphs();
  // Grows what the stream may still be reading.
  bool GrowUpdates(int64_t bytes);
  absl::Status ReserveCounters(int64_t count);
  void PlanShape(ShapePlan& shape, const BatchView& batch);
  const AttentionPlanView& PlanOf(const AttentionShape& shape);
  void RecordDone();
  // x as a launch sees it: with the bucket's rows in a step of a graph.
  [[nodiscard]] Tensor Bucketed(Tensor x) const;
  [[nodiscard]] int32_t BucketedRows(int32_t rows) const;

  // --- cuda_ranks.cc ---
  // Takes the exchange, or skips it where a graph holds it.
  void Exchange(absl::FunctionRef<absl::Status(const Communicator&)> enqueue);
  bool LaunchGraph(cudaGraphExec_t graph);
  // Room for what is gathered: by all ranks in the same step, for their batches are the same.
  absl::Status ReserveGathered(int64_t floats);
  // All ranks' x, as they are in the bucket's rows: [rank][rows][x.stride]. Null after a failure.
  const float* GatherRanks(Tensor x, int64_t max_rows, int32_t& widest);

  // The product by cuBLASLt, if it is there and it is one for it.
  bool MultiplyByBlas(const LinearArgs& args);

  // The product of many rows.
  cudaError_t MultiplyTiled(const LinearArgs& args);

  // --- Halves ---
  // Room for the Halves of `out`, which is about to be written, and a note of whose they are.
  Halves NewHalvesOf(const Tensor& out);
  // Halves of x: its producer's, or made now.
  Halves HalvesOf(const Tensor& x);
  // The same as e4m3; data is null after a failure.
  Fp8Rows NewFp8Of(const Tensor& out);
  Fp8Rows Fp8Of(const Tensor& x);
  // Room for what the kernel that makes `out` leaves for the product behind it: e4m3 where
  // matrices take such inputs, else Halves. A product that wants the other makes it by itself.
  struct ForProduct {
    Halves halves;
    Fp8Rows fp8;
  };
  ForProduct NewForProductOf(const Tensor& out);
  // The product of one part of a linear op; the rest of args is set.
  void Multiply(const DeviceMatrix& part, const Tensor& x, LinearArgs args);
  // Notes that out is overwritten.
  void Wrote(const Tensor& out);
  void FlushHeadNorm();

  const CudaOpsOptions options_;
  const CudaDevice device_;
  const std::shared_ptr<RankGroup> ranks_;  // owners: its ranks; null: there is one
  const int32_t rank_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Blas> blas_;  // null: our own kernels do everything
  DeviceArena arena_{device_.index};
  std::vector<std::unique_ptr<DeviceLinear>> linears_;
  std::vector<std::unique_ptr<DeviceAdapters>> adapters_;
  DeviceBlock<float> shrunk_;  // [tokens][kMaxAdapterRank], where there are adapters
  std::unordered_map<const void*, const DeviceLinear*> tables_;  // by the file's bytes
  int32_t max_columns_ = 0;      // K padded, of all matrices that take Halves
  int32_t max_fp8_columns_ = 0;  // of those with fp8_inputs
  int32_t max_choices_ = 1;      // places a token, of all mixtures

  // The newest step's plan, as the host and as the device has it.
  BatchView batch_;
  DeviceBatch device_batch_;
  DeviceBlock<uint8_t> plan_memory_;
  int64_t max_tokens_ = 0, max_plan_rows_ = 0, max_blocks_ = 0;  // that it holds
  std::vector<int32_t> token_row_;
  std::array<Step, kSteps> steps_;
  uint64_t begun_ = 0, finished_ = 0;  // steps

  Mode mode_ = Mode::kPlain;
  int32_t bucket_ = 0;  // rows that launches of this step are made for; 0: those it has
  // By what its launches hold: the bucket, then the most items of each kind of attention, on which
  // the places of the plans depend, too.
  std::map<std::vector<int32_t>, Graph> graphs_;
  std::vector<int32_t> graph_key_;

  std::vector<std::unique_ptr<ShapePlan>> shapes_;
  DeviceBlock<uint8_t> attention_memory_;  // items of all shapes
  int64_t attention_used_ = 0;
  bool plans_moved_ = false;  // in this step
  DeviceBlock<float> partials_;
  DeviceBlock<uint32_t> ended_;  // counters of blocks that have ended

  DeviceBlock<uint16_t> halves_memory_;
  DeviceBlock<float> halves_scale_;
  Halves halves_;
  const float* halves_of_ = nullptr;  // whose; null: nobody's
  int32_t halves_rows_ = 0;
  DeviceBlock<float> gathered_;                 // of all ranks
  int32_t sum_columns_ = 0, join_columns_ = 0;  // of a row that is gathered to be summed or joined
  // The same for matrices with fp8_inputs.
  DeviceBlock<uint8_t> fp8_memory_;
  DeviceBlock<float> fp8_scale_;
  Fp8Rows fp8_;
  const float* fp8_of_ = nullptr;
  int32_t fp8_rows_ = 0;
  // A norm of q and k heads that the rotation takes along.
  struct {
    Tensor x;
    const float* weight = nullptr;
    float eps = 0;
    int32_t group = 0;
  } head_norm_;

  // For a place in every multiprocessor; null: no product is cut.
  float* tiled_sums_ = nullptr;
  uint32_t* tiled_arrived_ = nullptr;

  SlotTable slots_;
  float* sample_scratch_ = nullptr;
  SampleOut* sample_out_ = nullptr;
  int32_t* num_output_tokens_ = nullptr;
  std::vector<SlotUpdate> updates_;
  std::vector<TokenBias> update_bias_;
  std::vector<int32_t> update_stops_, update_history_;
  DeviceBlock<uint8_t> update_memory_;
};

}  // namespace sluice::cuda
