// Devices, and what CudaBackend does at start-up.
#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/adapter_factors.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/packed_weights.h"
#include "kernels/cuda/weight_tile.h"
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
                       .multiprocessors = properties.multiProcessorCount});
  }
  if (devices.empty()) return absl::UnavailableError(refused);
  return devices;
}

absl::StatusOr<CudaMemory> CudaMemoryOf(int32_t device) {
  size_t free = 0, total = 0;
  RETURN_IF_ERROR(cuda::ToStatus(cudaSetDevice(device), "cudaSetDevice"));
  RETURN_IF_ERROR(cuda::ToStatus(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  return CudaMemory{static_cast<int64_t>(total), static_cast<int64_t>(free)};
}

namespace {

// The devices [options.device, options.device + num_ranks). Ranks choose kernels, graphs and plans
// alike only if their devices are.
absl::StatusOr<std::vector<CudaDevice>> DevicesOfRanks(const CudaOpsOptions& options,
                                                       int32_t num_ranks) {
  ASSIGN_OR_RETURN(const std::vector<CudaDevice> usable, FindCudaDevices());
  std::vector<CudaDevice> devices;
  for (int32_t index = options.device; index < options.device + num_ranks; ++index) {
    const auto found = std::ranges::find(usable, index, &CudaDevice::index);
    if (found == usable.end()) {
      return absl::InvalidArgumentError(
          num_ranks == 1
              ? fmt::format("device is {}; there are {} usable ones", index, usable.size())
              : fmt::format("{} ranks need the devices {} to {}; {} is not usable, of {} "
                            "that are",
                            num_ranks, options.device, options.device + num_ranks - 1, index,
                            usable.size()));
    }
    devices.push_back(*found);
    const CudaDevice &first = devices.front(), &last = devices.back();
    if (first.name == last.name && first.multiprocessors == last.multiprocessors) continue;
    return absl::InvalidArgumentError(fmt::format(
        "device {} is {} with {} multiprocessors, device {} is {} with {}; the ranks of "
        "a model need equal ones",
        first.index, first.name, first.multiprocessors, last.index, last.name,
        last.multiprocessors));
  }
  return devices;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> CreateCudaOps(const CudaOpsOptions& options) {
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Ops>> ranks, CreateCudaRanks(options, 1));
  return std::move(ranks.front());
}

absl::StatusOr<std::vector<std::unique_ptr<Ops>>> CreateCudaRanks(const CudaOpsOptions& options,
                                                                  int32_t num_ranks) {
  ASSIGN_OR_RETURN(const std::vector<CudaDevice> devices, DevicesOfRanks(options, num_ranks));
  std::shared_ptr<cuda::RankGroup> group;  // owners: the ranks
  if (num_ranks > 1) {
    std::vector<int> indexes;
    for (const CudaDevice& device : devices) indexes.push_back(device.index);
    ASSIGN_OR_RETURN(group, cuda::RankGroup::Create(indexes, cuda::FindCollectives()));
  }
  std::vector<std::unique_ptr<Ops>> ranks;
  for (int32_t r = 0; r < num_ranks; ++r) {
    ASSIGN_OR_RETURN(ranks.emplace_back(),
                     cuda::CudaBackend::Create(options, devices[static_cast<size_t>(r)], group, r));
  }
  return ranks;
}

absl::StatusOr<CudaHealthReader> WatchCudaDevice(int32_t device) {
  char bus[32] = {};
  RETURN_IF_ERROR(
      cuda::ToStatus(cudaDeviceGetPCIBusId(bus, sizeof bus, device), "cudaDeviceGetPCIBusId"));
  ASSIGN_OR_RETURN(std::unique_ptr<cuda::DeviceMonitor> monitor, cuda::DeviceMonitor::Open(bus));
  // Owners: the copies of the reader.
  return [monitor = std::shared_ptr<cuda::DeviceMonitor>(std::move(monitor))] {
    return monitor->Read();
  };
}

int64_t CudaMatrixBytes(DType dtype, int64_t rows, int64_t cols) {
  return cuda::PackedBytes(dtype, rows, cols);
}

int64_t CudaStepBytes(int32_t max_step_tokens, int32_t max_rows, int64_t vocab, int64_t widest) {
  constexpr int64_t kDriverAndGraphs = int64_t{256} << 20;
  const int64_t slot = vocab * 4 + cuda::kMaxSlotBias * 12 + cuda::kMaxSlotStops * 4 + 512;
  return kDriverAndGraphs + max_rows * slot + max_step_tokens * (widest * 3 + 64);
}

int64_t CudaExchangeBytes(int32_t max_step_tokens, int32_t max_rows, int64_t vocab,
                          int64_t model_dim, int32_t num_ranks, bool deterministic) {
  if (num_ranks == 1) return 0;
  const int64_t sums = deterministic ? num_ranks * max_step_tokens * model_dim : 0;
  const int64_t logits = max_rows * (vocab + int64_t{16} * num_ranks);
  return std::max(sums, logits) * static_cast<int64_t>(sizeof(float));
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
                                                                 const CudaDevice& device,
                                                                 std::shared_ptr<RankGroup> ranks,
                                                                 int32_t rank) {
  auto backend =
      std::unique_ptr<CudaBackend>(new CudaBackend(options, device, std::move(ranks), rank));
  RETURN_IF_ERROR(ToStatus(cudaSetDevice(device.index), "cudaSetDevice"));
  RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&backend->stream_, cudaStreamNonBlocking),
                           "cudaStreamCreate"));
  if (!options.deterministic && options.blas_from_major > 0 &&
      device.major >= options.blas_from_major) {
    absl::StatusOr<std::unique_ptr<Blas>> blas = Blas::Open(options.find_blas);
    if (blas.ok()) backend->blas_ = *std::move(blas);  // else our own kernels
  }
  if (!options.deterministic) {
    const auto places = int64_t{device.multiprocessors};
    ASSIGN_OR_RETURN(void* sums, backend->Allocate(places * kTiledSums * sizeof(float)));
    ASSIGN_OR_RETURN(void* arrived, backend->Allocate(places * sizeof(uint32_t)));
    backend->tiled_sums_ = static_cast<float*>(sums);
    backend->tiled_arrived_ = static_cast<uint32_t*>(arrived);
  }
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

// One matrix of `num_parts` stacked ones for each expert; views: [num_experts][num_parts].
absl::StatusOr<DeviceMatrix> CudaBackend::LoadMatrix(std::span<const WeightView> views,
                                                     size_t num_parts) {
  std::vector<PackedWeights> packed;
  packed.reserve(views.size());
  for (const WeightView& view : views) packed.push_back(PackWeights(view, PackingThreads()));
  DeviceMatrix matrix{.format = packed[0].format,
                      .columns = packed[0].columns,
                      .fp8_inputs = TakesFp8Inputs(views[0].dtype)};
  int64_t bytes = 0, scales = 0;
  for (const PackedWeights& p : packed) {
    bytes += static_cast<int64_t>(p.tiles.size());
    scales += static_cast<int64_t>(p.row_scale.size() * sizeof(float));
  }
  for (size_t i = 0; i < num_parts; ++i) matrix.rows += packed[i].rows;
  matrix.expert_bytes = bytes / static_cast<int64_t>(views.size() / num_parts);
  ASSIGN_OR_RETURN(void* weights, arena_.Allocate(bytes));
  ASSIGN_OR_RETURN(void* row_scale, arena_.Allocate(scales));
  matrix.weights = static_cast<const uint8_t*>(weights);
  matrix.row_scale = static_cast<const float*>(row_scale);
  auto* to = static_cast<uint8_t*>(weights);
  auto* scale_to = static_cast<float*>(row_scale);
  for (const PackedWeights& p : packed) {
    RETURN_IF_ERROR(CopyToDevice(to, p.tiles.data(), p.tiles.size(), stream_));
    RETURN_IF_ERROR(
        CopyToDevice(scale_to, p.row_scale.data(), p.row_scale.size() * sizeof(float), stream_));
    to += p.tiles.size();
    scale_to += p.row_scale.size();
  }
  int32_t& columns = matrix.fp8_inputs ? max_fp8_columns_ : max_columns_;
  columns = std::max(columns, matrix.columns);
  return matrix;
}

// Parts that follow each other in one format, in whole panels, become one matrix: one launch.
absl::StatusOr<const DeviceLinear*> CudaBackend::LoadStacked(std::span<const WeightView> views,
                                                             size_t num_experts) {
  const size_t num_parts = views.size() / num_experts;
  for (size_t v = 0; v < views.size(); ++v) {
    const WeightView &view = views[v], &first = views[v % num_parts];
    if (view.rows < 1 || view.cols < 1 || view.rows > INT32_MAX || view.cols > INT32_MAX - 64) {
      return absl::InvalidArgumentError(
          fmt::format("a matrix of {} x {} elements", view.rows, view.cols));
    }
    if (view.cols != views[0].cols)
      return absl::InvalidArgumentError("stacked weights differ in columns");
    if (view.rows != first.rows || view.dtype != first.dtype) {
      return absl::InvalidArgumentError(
          fmt::format("expert {} differs from expert 0 in shape or type", v / num_parts));
    }
    if (!ScalesFit(view)) {
      return absl::InvalidArgumentError(
          fmt::format("a matrix of type {} has scales that differ within 8 rows and within a row",
                      GetDTypeInfo(view.dtype).name));
    }
  }
  auto linear = std::make_unique<DeviceLinear>();
  int32_t rows = 0;
  for (size_t begin = 0; begin < num_parts;) {
    size_t end = begin + 1;
    while (end < num_parts && views[end - 1].rows % kPanelRows == 0 &&
           FormatOf(views[end].dtype) == FormatOf(views[begin].dtype) &&
           TakesFp8Inputs(views[end].dtype) == TakesFp8Inputs(views[begin].dtype)) {
      ++end;
    }
    std::vector<WeightView> run;
    for (size_t e = 0; e < num_experts; ++e) {
      const auto expert = views.subspan(e * num_parts + begin, end - begin);
      run.insert(run.end(), expert.begin(), expert.end());
    }
    ASSIGN_OR_RETURN(DeviceMatrix matrix, LoadMatrix(run, end - begin));
    matrix.first_column = rows;
    rows += matrix.rows;
    linear->parts.push_back(matrix);
    begin = end;
  }
  linears_.push_back(std::move(linear));
  return linears_.back().get();
}

// Whole panels of a table's matrix, a rank's share of a head; null: it is no part of a table.
const DeviceLinear* CudaBackend::FindInTables(const WeightView& view) {
  for (const auto& [begin, table] : tables_) {
    const DeviceMatrix& matrix = table->parts[0];
    const int64_t offset = static_cast<const char*>(view.data) - static_cast<const char*>(begin);
    const int64_t row = offset / view.row_bytes();
    if (offset < 0 || offset % view.row_bytes() != 0 || row % kPanelRows != 0 ||
        row + view.rows > matrix.rows || matrix.format != FormatOf(view.dtype)) {
      continue;
    }
    if (view.rows == matrix.rows) return table;
    const int64_t panel_bytes = InfoOf(matrix.format).panel_bytes(matrix.columns / kTileColumns);
    DeviceMatrix part = matrix;
    part.rows = static_cast<int32_t>(view.rows);
    part.weights += row / kPanelRows * panel_bytes;
    part.row_scale += row;
    linears_.push_back(std::make_unique<DeviceLinear>());
    linears_.back()->parts = {part};
    return linears_.back().get();
  }
  return nullptr;
}

absl::StatusOr<Linear> CudaBackend::LoadLinear(std::span<const WeightView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a linear op without weights");
  const auto cols = static_cast<int32_t>(parts[0].cols);
  if (const DeviceLinear* shared = parts.size() == 1 ? FindInTables(parts[0]) : nullptr)
    return Linear{shared->rows(), cols, shared};
  ASSIGN_OR_RETURN(const DeviceLinear* linear, LoadStacked(parts, 1));
  return Linear{linear->rows(), cols, linear};
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
  ASSIGN_OR_RETURN(const DeviceLinear* experts,
                   LoadStacked(parts, static_cast<size_t>(num_experts)));
  return Experts{num_experts, experts->rows(), static_cast<int32_t>(parts[0].cols), experts};
}

absl::StatusOr<Adapters> CudaBackend::LoadAdapters(std::span<const AdapterView> adapters,
                                                   int32_t rows, int32_t cols) {
  RETURN_IF_ERROR(CheckAdapters(adapters, rows, cols));
  auto loaded = std::make_unique<DeviceAdapters>();
  loaded->halfs = std::ranges::all_of(adapters, [](const AdapterView& v) {
    return v.rank == 0 || (v.a.dtype == DType::kF16 && v.b.dtype == DType::kF16);
  });
  const auto upload = [&](const WeightView& factor, bool transposed) -> absl::StatusOr<void*> {
    const std::vector<float> values = AdapterFactor(factor, transposed);
    const auto count = static_cast<int64_t>(values.size());
    if (!loaded->halfs) return Upload(values.data(), count * 4);
    std::vector<uint16_t> halfs;
    for (const float value : values) halfs.push_back(FloatToHalf(value));
    return Upload(halfs.data(), count * 2);
  };
  std::vector<DeviceAdapter> table;
  for (const AdapterView& adapter : adapters) {
    DeviceAdapter& entry = table.emplace_back(DeviceAdapter{nullptr, nullptr, 0, adapter.scale});
    if (adapter.rank == 0) continue;
    entry.rank = adapter.rank;
    ASSIGN_OR_RETURN(entry.a, upload(adapter.a, false));
    ASSIGN_OR_RETURN(entry.b, upload(adapter.b, true));
    loaded->max_rank = std::max(loaded->max_rank, adapter.rank);
  }
  const auto bytes = static_cast<int64_t>(table.size() * sizeof(DeviceAdapter));
  ASSIGN_OR_RETURN(void* entries, Upload(table.data(), bytes));
  loaded->adapters = static_cast<const DeviceAdapter*>(entries);
  adapters_.push_back(std::move(loaded));
  return Adapters{static_cast<int32_t>(adapters.size()), rows, cols, adapters_.back().get()};
}

absl::StatusOr<Table> CudaBackend::LoadTable(const WeightView& table) {
  ASSIGN_OR_RETURN(const DeviceLinear* linear, LoadStacked({&table, 1}, 1));
  tables_[table.data] = linear;
  return Table{table, linear};
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

int64_t CudaBackend::KvBlockBytes(const KvLayer& kv) const { return BytesOfKvBlock(kv); }

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
