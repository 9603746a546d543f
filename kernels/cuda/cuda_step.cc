// How CudaBackend begins, uploads, captures and finishes steps.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/cuda/cuda_backend.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kAlign = 16;
constexpr int64_t kCounts = 4;  // ints; three are used

int64_t Aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Where the arrays of a plan lie in one piece of memory, for plans up to a size.
struct PlanLayout {
  int64_t tokens, positions, token_row, row_begin, context_len, block_begin, slots, output_rows,
      adapters, blocks, end;  // in ints

  PlanLayout(int64_t max_tokens, int64_t max_rows, int64_t max_blocks) {
    int64_t at = kCounts;
    const auto take = [&at](int64_t count) {
      const int64_t begin = at;
      at += Aligned(count * 4) / 4;
      return begin;
    };
    tokens = take(max_tokens);
    positions = take(max_tokens);
    token_row = take(max_tokens);
    row_begin = take(max_rows + 1);
    context_len = take(max_rows);
    block_begin = take(max_rows + 1);
    slots = take(max_rows);
    output_rows = take(max_rows);
    adapters = take(max_rows);
    blocks = take(max_blocks);
    end = at;
  }
};

// Rows that a graph is made for.
int32_t BucketOf(int32_t rows) {
  int32_t bucket = 1;
  while (bucket < rows) bucket += bucket < 32 ? bucket : 32;
  return bucket;
}

// Counts that a graph's attention is made for.
int32_t PowerOfTwo(size_t count) {
  int32_t power = 1;
  while (static_cast<size_t>(power) < count) power *= 2;
  return count == 0 ? 0 : power;
}

}  // namespace

void CudaBackend::Fail(absl::Status status) {
  if (!step().status.ok()) return;
  step().status = ranks_ == nullptr ? std::move(status) : ranks_->Fail(rank_, status);
}

bool CudaBackend::Check(cudaError_t error, std::string_view call) {
  if (error != cudaSuccess) Fail(ToStatus(error, call));
  return error == cudaSuccess;
}

absl::Status CudaBackend::ReserveHalves(int64_t rows) {
  const int64_t elements = rows * max_columns_;
  if (elements == 0) return absl::OkStatus();
  if (elements <= halves_memory_.size() && rows <= halves_scale_.size()) return absl::OkStatus();
  RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"));
  halves_of_ = nullptr;
  DropGraphs();
  RETURN_IF_ERROR(Grow(halves_memory_, elements));
  RETURN_IF_ERROR(Grow(halves_scale_, rows));
  // Rows that a bucket adds are read before anybody writes them.
  RETURN_IF_ERROR(ToStatus(cudaMemsetAsync(halves_memory_.data(), 0,
                                           static_cast<size_t>(halves_memory_.size()) * 2, stream_),
                           "clearing a step's memory"));
  return ToStatus(cudaMemsetAsync(halves_scale_.data(), 0,
                                  static_cast<size_t>(halves_scale_.size()) * 4, stream_),
                  "clearing a step's memory");
}

absl::Status CudaBackend::ReserveFp8(int64_t rows) {
  const int64_t elements = rows * max_fp8_columns_;
  if (elements <= fp8_memory_.size() && rows <= fp8_scale_.size()) return absl::OkStatus();
  RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"));
  fp8_of_ = nullptr;
  DropGraphs();
  RETURN_IF_ERROR(Grow(fp8_memory_, elements));
  return Grow(fp8_scale_, rows);
}

absl::Status CudaBackend::ReserveStep(const BatchView& batch) {
  const int64_t tokens = std::max<int64_t>(
      {batch.num_tokens, options_.max_step_tokens, int64_t{BucketOf(batch.num_rows)}});
  const int64_t rows = std::max<int64_t>(BucketOf(batch.num_rows), slots_.max_rows);
  const int64_t blocks = batch.block_begin[batch.num_rows];
  if (tokens > max_tokens_ || rows > max_plan_rows_ || blocks > max_blocks_) {
    RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"));
    DropGraphs();
    max_tokens_ = std::max(max_tokens_, tokens);
    max_plan_rows_ = std::max(max_plan_rows_, rows);
    while (max_blocks_ < blocks) max_blocks_ = std::max<int64_t>(2 * max_blocks_, 1024);
    const PlanLayout layout(max_tokens_, max_plan_rows_, max_blocks_);
    RETURN_IF_ERROR(Grow(plan_memory_, layout.end * 4));
  }
  if (!adapters_.empty() && shrunk_.size() < max_tokens_ * kMaxAdapterRank) {
    RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"));
    DropGraphs();
    RETURN_IF_ERROR(Grow(shrunk_, max_tokens_ * kMaxAdapterRank));
  }
  const PlanLayout layout(max_tokens_, max_plan_rows_, max_blocks_);
  RETURN_IF_ERROR(Grow(step().upload, 2 * layout.end * 4));
  RETURN_IF_ERROR(ReserveGathered(
      num_ranks() * std::max(max_tokens_ * sum_columns_, max_plan_rows_ * join_columns_)));
  RETURN_IF_ERROR(ReserveHalves(tokens * max_choices_));
  return max_fp8_columns_ > 0 ? ReserveFp8(tokens * max_choices_) : absl::OkStatus();
}

void CudaBackend::UploadTo(void* to, const void* data, int64_t bytes) {
  if (bytes == 0 || !step().status.ok()) return;
  Step& s = step();
  if (s.uploaded + Aligned(bytes) > s.upload.size()) {
    // What was uploaded from here may still be under way.
    if (!Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize")) return;
    s.uploaded = 0;
    if (const absl::Status status = Grow(s.upload, 2 * Aligned(bytes)); !status.ok())
      return Fail(status);
  }
  uint8_t* from = s.upload.data() + s.uploaded;
  s.uploaded += Aligned(bytes);
  std::memcpy(from, data, static_cast<size_t>(bytes));
  Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_),
        "uploading the plan");
}

void CudaBackend::UploadBatch(const BatchView& batch) {
  const PlanLayout at(max_tokens_, max_plan_rows_, max_blocks_);
  const int64_t tokens = batch.num_tokens, rows = batch.num_rows;
  auto* host = reinterpret_cast<int32_t*>(step().upload.data());
  auto* device = reinterpret_cast<int32_t*>(plan_memory_.data());
  const int64_t bytes = (at.blocks + batch.block_begin[rows]) * 4;
  std::memset(host, 0, static_cast<size_t>(at.blocks * 4));  // rows that a bucket adds are zeros
  const int32_t counts[kCounts] = {batch.num_tokens, batch.num_rows, batch.num_outputs, 0};
  std::copy_n(counts, kCounts, host);
  std::copy_n(batch.tokens, tokens, host + at.tokens);
  std::copy_n(batch.positions, tokens, host + at.positions);
  for (int32_t r = 0; r < batch.num_rows; ++r)
    std::fill(host + at.token_row + batch.row_begin[r],
              host + at.token_row + batch.row_begin[r + 1], r);
  std::copy_n(batch.row_begin, rows + 1, host + at.row_begin);
  std::copy_n(batch.context_len, rows, host + at.context_len);
  std::copy_n(batch.block_begin, rows + 1, host + at.block_begin);
  std::copy_n(batch.slots, rows, host + at.slots);
  std::copy_n(batch.output_rows, batch.num_outputs, host + at.output_rows);
  if (batch.adapters != nullptr) {
    std::copy_n(batch.adapters, rows, host + at.adapters);
  } else {
    std::fill_n(host + at.adapters, rows, -1);
  }
  std::copy_n(batch.blocks, batch.block_begin[rows], host + at.blocks);
  step().uploaded = Aligned(bytes);
  Check(cudaMemcpyAsync(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_),
        "uploading the plan");
  device_batch_ = {.counts = device,
                   .tokens = device + at.tokens,
                   .positions = device + at.positions,
                   .token_row = device + at.token_row,
                   .row_begin = device + at.row_begin,
                   .context_len = device + at.context_len,
                   .blocks = device + at.blocks,
                   .block_begin = device + at.block_begin,
                   .slots = device + at.slots,
                   .output_rows = device + at.output_rows,
                   .num_output_tokens = num_output_tokens_,
                   .adapters = device + at.adapters};
}

void CudaBackend::BeginStep(const BatchView& batch) {
  if (begun_ > finished_) {
    if (mode_ == Mode::kCapture) EndCapture();
    RecordDone();
  }
  SLUICE_CHECK(begun_ - finished_ < kSteps, "{} steps begun, {} finished", begun_, finished_);
  ++begun_;
  Step& s = step();
  s.status = absl::OkStatus();
  s.recorded = false;
  s.uploaded = s.results_used = 0;
  s.copies.clear();
  batch_ = batch;
  mode_ = Mode::kPlain;
  bucket_ = 0;
  halves_of_ = fp8_of_ = nullptr;
  head_norm_.weight = nullptr;
  updates_.clear();
  update_bias_.clear();
  update_stops_.clear();
  update_history_.clear();
  if (!Check(cudaSetDevice(device_.index), "cudaSetDevice")) return;
  if (absl::Status status = ReserveStep(batch); !status.ok()) return Fail(std::move(status));
  UploadBatch(batch);
  attention_used_ = 0;
  plans_moved_ = false;
  for (const auto& shape : shapes_) PlanShape(*shape, batch);
  ChooseMode(batch);
}

// A step of single tokens is a graph's if every kind of attention has been seen.
void CudaBackend::ChooseMode(const BatchView& batch) {
  if (!options_.graphs || plans_moved_ || slots_.max_rows == 0 || shapes_.empty() ||
      !step().status.ok() || batch.num_tokens != batch.num_rows ||
      batch.num_outputs != batch.num_rows) {
    return;
  }
  const int32_t bucket = BucketOf(batch.num_rows);
  if (bucket > slots_.max_rows || bucket > max_tokens_) return;
  bucket_ = bucket;
  graph_key_ = {bucket};
  for (const auto& shape : shapes_) graph_key_.push_back(shape->view.max_items);
  const auto graph = graphs_.find(graph_key_);
  if (graph != graphs_.end()) {
    LaunchGraph(graph->second.exec);
    mode_ = Mode::kReplay;
    return;
  }
  if (Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
            "capturing a step's graph")) {
    mode_ = Mode::kCapture;
  }
}

// Their launches hold addresses that are about to change. Nothing of them is under way.
void CudaBackend::DropGraphs() {
  for (const auto& [key, graph] : graphs_)
    Check(cudaGraphExecDestroy(graph.exec), "dropping graphs");
  graphs_.clear();
}

void CudaBackend::EndCapture() {
  mode_ = Mode::kPlain;
  cudaGraph_t graph = nullptr;
  if (!Check(cudaStreamEndCapture(stream_, &graph), "capturing a step's graph")) return;
  Graph made;
  const bool ok = step().status.ok() &&
                  Check(cudaGraphInstantiate(&made.exec, graph, 0), "making a step's graph");
  cudaGraphDestroy(graph);
  if (!ok) return;
  LaunchGraph(made.exec);
  graphs_.emplace(graph_key_, made);
}

// Every launch leaves them at zero.
absl::Status CudaBackend::ReserveCounters(int64_t count) {
  if (count <= ended_.size()) return absl::OkStatus();
  RETURN_IF_ERROR(Grow(ended_, count));
  return ToStatus(
      cudaMemsetAsync(ended_.data(), 0, static_cast<size_t>(ended_.size()) * 4, stream_),
      "clearing a step's memory");
}

void CudaBackend::PlanShape(ShapePlan& shape, const BatchView& batch) {
  PlanAttention(batch, shape.shape, device_.multiprocessors, shape.plan);
  const AttentionPlan& plan = shape.plan;
  // For a graph, the most that a plan of its key may have.
  const bool single = batch.num_tokens == batch.num_rows;
  const int32_t max_items =
      single ? PowerOfTwo(plan.items.size()) : static_cast<int32_t>(plan.items.size());
  const int64_t partial_floats =
      int64_t{plan.num_partials} * shape.shape.num_q_heads * (shape.shape.head_dim + 2);
  const int64_t items_bytes = Aligned(max_items * static_cast<int64_t>(sizeof(AttentionItem)));
  const int64_t counters = int64_t{plan.num_counters} * shape.shape.num_q_heads;
  const int64_t bytes = kAlign + items_bytes;
  if (attention_used_ + bytes > attention_memory_.size() || partial_floats > partials_.size() ||
      counters > ended_.size()) {
    // Grows, and every shape's place changes, now and again in the next step, which begins anew:
    // their lists are made again, and this step is no graph's.
    plans_moved_ = true;
    if (!Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize")) return;
    DropGraphs();
    absl::Status status = Grow(attention_memory_, 2 * (attention_used_ + bytes) + (1 << 16));
    if (status.ok()) status = Grow(partials_, partial_floats);
    if (status.ok()) status = ReserveCounters(counters);
    if (!status.ok()) return Fail(std::move(status));
    attention_used_ = 0;
    for (const auto& other : shapes_) {
      if (other.get() != &shape && other->valid) PlanShape(*other, batch);
    }
  }
  uint8_t* at = attention_memory_.data() + attention_used_;
  attention_used_ += bytes;
  const int32_t counts[4] = {static_cast<int32_t>(plan.items.size()), 0, 0, 0};
  UploadTo(at, counts, sizeof counts);
  UploadTo(at + kAlign, plan.items.data(),
           static_cast<int64_t>(plan.items.size() * sizeof(AttentionItem)));
  shape.view = {.items = reinterpret_cast<const AttentionItem*>(at + kAlign),
                .num_items = reinterpret_cast<const int32_t*>(at),
                .max_items = max_items,
                .long_rows = plan.long_rows};
  shape.valid = true;
}

const AttentionPlanView& CudaBackend::PlanOf(const AttentionShape& shape) {
  for (const auto& known : shapes_) {
    if (known->shape == shape) return known->view;
  }
  shapes_.push_back(std::make_unique<ShapePlan>(ShapePlan{.shape = shape, .plan = {}, .view = {}}));
  PlanShape(*shapes_.back(), batch_);
  return shapes_.back()->view;
}

int32_t CudaBackend::BucketedRows(int32_t rows) const {
  if (bucket_ == 0) return rows;
  return rows / batch_.num_rows * bucket_;
}

Tensor CudaBackend::Bucketed(Tensor x) const {
  x.rows = BucketedRows(x.rows);
  return x;
}

void CudaBackend::RecordDone() {
  Step& s = step();
  if (s.recorded) return;
  s.recorded = true;
  Check(cudaEventRecord(s.done, stream_), "cudaEventRecord");
}

absl::Status CudaBackend::Finish() {
  SLUICE_CHECK(finished_ < begun_, "{} steps begun, {} finished", begun_, finished_);
  if (finished_ + 1 == begun_) {
    if (mode_ == Mode::kCapture) EndCapture();
    RecordDone();
  }
  Step& s = steps_[finished_++ % kSteps];
  const cudaError_t error = cudaEventSynchronize(s.done);
  if (s.status.ok()) s.status = ToStatus(error, "running a step");
  if (ranks_ != nullptr) s.status = ranks_->Outcome(rank_, s.status);
  if (s.status.ok()) {
    for (const HostCopy& copy : s.copies)
      std::memcpy(copy.to, s.results.data() + copy.at, static_cast<size_t>(copy.bytes));
  }
  return std::move(s.status);
}

}  // namespace sluice::cuda
