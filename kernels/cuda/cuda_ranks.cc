// What the ranks of a model exchange. An exchange is enqueued, captured and replayed like a kernel:
// all ranks see the same plans on equal devices, so they take the same steps as graphs.
#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/cuda/cuda_backend.h"

namespace sluice::cuda {

void CudaBackend::Exchange(absl::FunctionRef<absl::Status(const Communicator&)> enqueue) {
  if (mode_ == Mode::kReplay || !step().status.ok()) return;
  absl::Status status = ranks_->Run(rank_, enqueue);
  if (status.ok()) return;
  // NCCL says only that a call failed. A lost device answers each call, this one while it captures,
  // too, with what befell it.
  cudaStreamCaptureStatus capturing = {};
  if (const cudaError_t lost = cudaStreamIsCapturing(stream_, &capturing); lost != cudaSuccess)
    status = ToStatus(lost, "exchanging with the other ranks");
  Fail(std::move(status));
}

bool CudaBackend::LaunchGraph(cudaGraphExec_t graph) {
  const auto launch = [&] {
    return ToStatus(cudaGraphLaunch(graph, stream_), "launching a step's graph");
  };
  absl::Status status = ranks_ == nullptr
                            ? launch()
                            : ranks_->Run(rank_, [&](const Communicator&) { return launch(); });
  if (status.ok()) return true;
  Fail(std::move(status));
  return false;
}

absl::Status CudaBackend::ReserveGathered(int64_t floats) {
  if (floats <= gathered_.size()) return absl::OkStatus();
  SLUICE_CHECK(mode_ == Mode::kPlain, "{} floats are gathered for the first time in a graph",
               floats);
  RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"));
  DropGraphs();
  return Grow(gathered_, floats);
}

const float* CudaBackend::GatherRanks(Tensor x, int64_t max_rows, int32_t& widest) {
  const int64_t rows = BucketedRows(x.rows);
  widest = std::max(widest, x.stride);
  absl::Status status = ReserveGathered(num_ranks() * std::max(rows, max_rows) * x.stride);
  if (!status.ok()) {
    Fail(std::move(status));
    return nullptr;
  }
  Exchange([&](const Communicator& communicator) {
    return communicator.AllGather(x.data, gathered_.data(), static_cast<size_t>(rows * x.stride),
                                  CollectiveType::kF32, stream_);
  });
  return gathered_.data();
}

void CudaBackend::AllReduce(Tensor x) {
  SLUICE_CHECK(x.stride == x.cols, "{} {}", x.stride, x.cols);
  if (ranks_ == nullptr || x.rows == 0) return;
  Wrote(x);
  if (!options_.deterministic) {
    return Exchange([&](const Communicator& communicator) {
      const auto count = static_cast<size_t>(BucketedRows(x.rows)) * static_cast<size_t>(x.cols);
      return communicator.AllReduceSum(x.data, x.data, count, CollectiveType::kF32, stream_);
    });
  }
  const float* parts = GatherRanks(x, max_tokens_, sum_columns_);
  if (parts == nullptr) return;
  Enqueue("sum_ranks", [&] { return SumRanks(parts, num_ranks(), Bucketed(x), stream_); });
}

void CudaBackend::AllGather(Tensor part, Tensor out) {
  if (ranks_ == nullptr || part.rows == 0) return;
  SLUICE_CHECK(part.rows == out.rows && part.cols <= part.stride &&
                   out.cols <= int64_t{num_ranks()} * part.stride,
               "{} x {} of {}, {} x {}", part.rows, part.cols, part.stride, out.rows, out.cols);
  Wrote(out);
  const float* parts = GatherRanks(part, max_plan_rows_, join_columns_);
  if (parts == nullptr) return;
  Enqueue("join_ranks", [&] { return JoinRanks(parts, part.stride, Bucketed(out), stream_); });
}

}  // namespace sluice::cuda
