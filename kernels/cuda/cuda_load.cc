// Devices, and what CudaBackend does at start-up.
#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/packed_weights.h"
#include "kernels/half.h"

namespace sluice {

absl::StatusOr<std::vector<CudaDevice>> FindCudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice ||
      (error == cudaSuccess && count == 0)) {
    return absl::UnavailableError(error == cudaErrorInsufficientDriver
                                      ? "no CUDA driver, or one older than CUDA 13"
                                      : "no CUDA device");
  }
  RETURN_IF_ERROR(cuda::ToStatus(error, "cudaGetDeviceCount"));
  std::vector<CudaDevice> devices;
  std::string refused;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    RETURN_IF_ERROR(
        cuda::ToStatus(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties"));
    if (properties.major < kLeastComputeCapability) {
      refused = fmt::format("{} has compute capability {}.{}; {}.0 is needed", properties.name,
                            properties.major, properties.minor, kLeastComputeCapability);
      continue;
    }
    devices.push_back({.index = i,
                       .name = properties.name,
                       .major = properties.major,
                       .minor = properties.minor,
                       .total_bytes = static_cast<int64_t>(properties.totalGlobalMem),
                       .multiprocessors = properties.multiProcessorCount});
  }
  if (devices.empty()) return absl::UnavailableError(refused);
  return devices;
}

absl::StatusOr<std::unique_ptr<Ops>> CreateCudaOps(const CudaOpsOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<CudaDevice> devices, FindCudaDevices());
  for (const CudaDevice& device : devices) {
    if (device.index != options.device) continue;
    ASSIGN_OR_RETURN(std::unique_ptr<Ops> ops, cuda::CudaBackend::Create(options, device));
    return ops;
  }
  return absl::InvalidArgumentError(
      fmt::format("device is {}; there are {} usable ones", options.device, devices.size()));
}

namespace cuda {
namespace {

// At least one; packing is a few passes over each row.
int32_t PackingThreads() {
  return static_cast<int32_t>(std::clamp(std::thread::hardware_concurrency(), 1U, 16U));
}

float FloatAt(const WeightView& weight, int64_t i) {
  const auto* bytes = static_cast<const char*>(weight.data);
  if (weight.dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, bytes + 4 * i, 4);
    return value;
  }
  uint16_t half = 0;
  std::memcpy(&half, bytes + 2 * i, 2);
  return weight.dtype == DType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
}

// Not cudaMemcpy: from pageable memory it returns before the bytes are there, and a non-blocking
// stream does not wait for the default stream, where they are under way.
absl::Status CopyToDevice(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  RETURN_IF_ERROR(ToStatus(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream),
                           "uploading weights"));
  return ToStatus(cudaStreamSynchronize(stream), "uploading weights");
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(const CudaOpsOptions& options,
                                                                 const CudaDevice& device) {
  auto backend = std::unique_ptr<CudaBackend>(new CudaBackend(options, device));
  RETURN_IF_ERROR(ToStatus(cudaSetDevice(device.index), "cudaSetDevice"));
  RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&backend->stream_, cudaStreamNonBlocking),
                           "cudaStreamCreate"));
  for (Step& step : backend->steps_) {
    RETURN_IF_ERROR(
        ToStatus(cudaEventCreateWithFlags(&step.done, cudaEventDisableTiming), "cudaEventCreate"));
  }
  return backend;
}

CudaBackend::~CudaBackend() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (const auto& [key, graph] : graphs_) {
    if (graph.exec != nullptr) cudaGraphExecDestroy(graph.exec);
  }
  for (const Step& step : steps_) {
    if (step.done != nullptr) cudaEventDestroy(step.done);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::StatusOr<void*> CudaBackend::Upload(const void* data, int64_t bytes) {
  ASSIGN_OR_RETURN(void* to, arena_.Allocate(bytes));
  RETURN_IF_ERROR(CopyToDevice(to, data, static_cast<size_t>(bytes), stream_));
  return to;
}

// The matrices of all experts, of one shape and type, one after the other; or one matrix.
absl::StatusOr<DeviceMatrix> CudaBackend::LoadMatrix(std::span<const WeightView> experts) {
  const WeightView& first = experts[0];
  if (first.rows < 1 || first.cols < 1 || first.rows > INT32_MAX || first.cols > INT32_MAX - 64) {
    return absl::InvalidArgumentError(
        fmt::format("a matrix of {} x {} elements", first.rows, first.cols));
  }
  for (const WeightView& view : experts) {
    if (view.rows != first.rows || view.cols != first.cols || view.dtype != first.dtype)
      return absl::InvalidArgumentError("experts differ in shape or type");
  }
  std::vector<PackedWeights> packed(experts.size());
  std::vector<std::thread> threads;
  const auto num_threads = std::min<size_t>(experts.size(), PackingThreads());
  for (size_t i = 0; i < num_threads; ++i) {
    threads.emplace_back([&, i] {
      for (size_t e = i; e < experts.size(); e += num_threads) packed[e] = PackWeights(experts[e]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  DeviceMatrix matrix{.format = packed[0].format,
                      .rows = packed[0].rows,
                      .columns = packed[0].columns,
                      .expert_bytes = static_cast<int64_t>(packed[0].tiles.size())};
  std::vector<uint8_t> tiles;
  std::vector<float> scales;
  for (const PackedWeights& p : packed) {
    if (experts.size() == 1) break;
    tiles.insert(tiles.end(), p.tiles.begin(), p.tiles.end());
    scales.insert(scales.end(), p.row_scale.begin(), p.row_scale.end());
  }
  if (experts.size() == 1) {
    tiles = std::move(packed[0].tiles);
    scales = std::move(packed[0].row_scale);
  }
  ASSIGN_OR_RETURN(const void* weights, Upload(tiles.data(), static_cast<int64_t>(tiles.size())));
  ASSIGN_OR_RETURN(const void* row_scale,
                   Upload(scales.data(), static_cast<int64_t>(scales.size() * sizeof(float))));
  matrix.weights = static_cast<const uint8_t*>(weights);
  matrix.row_scale = static_cast<const float*>(row_scale);
  max_columns_ = std::max(max_columns_, matrix.columns);
  return matrix;
}

absl::StatusOr<Linear> CudaBackend::LoadLinear(std::span<const WeightView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a linear op without weights");
  const auto cols = static_cast<int32_t>(parts[0].cols);
  if (const auto table = tables_.find(parts[0].data); parts.size() == 1 && table != tables_.end()) {
    const DeviceMatrix& matrix = table->second->parts[0];
    if (matrix.rows == parts[0].rows && matrix.format == FormatOf(parts[0].dtype))
      return Linear{matrix.rows, cols, table->second};
  }
  auto linear = std::make_unique<DeviceLinear>();
  int32_t rows = 0;
  for (const WeightView& part : parts) {
    if (part.cols != cols) return absl::InvalidArgumentError("stacked weights differ in columns");
    ASSIGN_OR_RETURN(DeviceMatrix matrix, LoadMatrix({&part, 1}));
    matrix.first_column = rows;
    rows += matrix.rows;
    linear->parts.push_back(matrix);
  }
  linears_.push_back(std::move(linear));
  return Linear{rows, cols, linears_.back().get()};
}

absl::StatusOr<Experts> CudaBackend::LoadExperts(std::span<const WeightView> parts,
                                                 int32_t num_experts) {
  if (num_experts < 1 || num_experts > kMaxExperts || parts.empty() ||
      parts.size() % static_cast<size_t>(num_experts) != 0) {
    return absl::InvalidArgumentError(
        fmt::format("{} weights for {} experts; the CUDA backend allows 1 to {} experts of equally "
                    "many weights",
                    parts.size(), num_experts, kMaxExperts));
  }
  const size_t parts_each = parts.size() / static_cast<size_t>(num_experts);
  auto experts = std::make_unique<DeviceLinear>();
  int32_t rows = 0;
  for (size_t i = 0; i < parts_each; ++i) {
    std::vector<WeightView> views;
    for (size_t e = 0; e < static_cast<size_t>(num_experts); ++e)
      views.push_back(parts[e * parts_each + i]);
    ASSIGN_OR_RETURN(DeviceMatrix matrix, LoadMatrix(views));
    matrix.first_column = rows;
    rows += matrix.rows;
    experts->parts.push_back(matrix);
  }
  linears_.push_back(std::move(experts));
  return Experts{num_experts, rows, static_cast<int32_t>(parts[0].cols), linears_.back().get()};
}

absl::StatusOr<Table> CudaBackend::LoadTable(const WeightView& table) {
  auto linear = std::make_unique<DeviceLinear>();
  ASSIGN_OR_RETURN(DeviceMatrix matrix, LoadMatrix({&table, 1}));
  linear->parts.push_back(matrix);
  linears_.push_back(std::move(linear));
  tables_[table.data] = linears_.back().get();
  return Table{table, linears_.back().get()};
}

absl::StatusOr<Vector> CudaBackend::LoadVector(std::span<const WeightView> parts) {
  std::vector<float> values;
  for (const WeightView& part : parts) {
    if (part.rows != 1) {
      return absl::InvalidArgumentError(
          fmt::format("a vector has {} rows; it must have 1", part.rows));
    }
    if (part.dtype != DType::kF32 && part.dtype != DType::kF16 && part.dtype != DType::kBF16) {
      return absl::InvalidArgumentError(fmt::format(
          "a vector has type {}; it must be F32, F16 or BF16", GetDTypeInfo(part.dtype).name));
    }
    for (int64_t i = 0; i < part.cols; ++i) values.push_back(FloatAt(part, i));
  }
  ASSIGN_OR_RETURN(const void* data,
                   Upload(values.data(), static_cast<int64_t>(values.size() * sizeof(float))));
  return Vector{static_cast<const float*>(data), static_cast<int32_t>(values.size())};
}

absl::StatusOr<void*> CudaBackend::Allocate(int64_t bytes) {
  ASSIGN_OR_RETURN(void* data, arena_.Allocate(bytes));
  RETURN_IF_ERROR(
      ToStatus(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream_), "cudaMemset"));
  return data;
}

int64_t CudaBackend::KvBlockBytes(int32_t block_tokens, int32_t num_kv_heads,
                                  int32_t head_dim) const {
  return int64_t{2} * block_tokens * num_kv_heads * PaddedHeadDim(head_dim) *
         static_cast<int64_t>(sizeof(uint16_t));
}

absl::Status CudaBackend::AllocateSlots(int32_t max_rows, int32_t vocab_size) {
  if (max_rows <= 0 || vocab_size <= 0) {
    return absl::InvalidArgumentError(
        fmt::format("cannot sample {} rows over {} tokens", max_rows, vocab_size));
  }
  const int64_t rows = max_rows;
  const auto allocate = [this](int64_t count, auto** to) -> absl::Status {
    ASSIGN_OR_RETURN(void* data, Allocate(count * static_cast<int64_t>(sizeof **to)));
    *to = static_cast<std::remove_reference_t<decltype(*to)>>(data);
    return absl::OkStatus();
  };
  slots_.max_rows = max_rows;
  slots_.vocab = vocab_size;
  RETURN_IF_ERROR(allocate(rows, &slots_.slots));
  RETURN_IF_ERROR(allocate(rows * kMaxSlotBias, &slots_.bias));
  RETURN_IF_ERROR(allocate(rows * kMaxSlotStops, &slots_.stop_tokens));
  RETURN_IF_ERROR(allocate(rows * vocab_size, &slots_.counts));
  RETURN_IF_ERROR(allocate(rows, &slots_.last_tokens));
  RETURN_IF_ERROR(allocate(rows * kMaxSlotBias, &sample_scratch_));
  RETURN_IF_ERROR(allocate(rows, &sample_out_));
  return allocate(rows, &num_output_tokens_);
}

}  // namespace cuda
}  // namespace sluice
