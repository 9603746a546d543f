#include "apps/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <utility>

#include "apps/simulation.h"
#include "base/status_macros.h"
#include "model/linear_loader.h"
#include "model/model_share.h"
#include "model/quantise.h"
#include "model/transformer.h"

namespace sluice {
namespace {

// A number from a file of the kernel's; `fallback` if the file, the word or the number is not
// there.
int64_t ReadNumber(const char* file, std::string_view word, int64_t fallback) {
  std::ifstream in(file);
  for (std::string token; in >> token;) {
    if (!word.empty() && token != word) continue;
    if (!word.empty() && !(in >> token)) break;
    int64_t value = 0;
    const auto parsed = std::from_chars(token.data(), token.data() + token.size(), value);
    return parsed.ec == std::errc() ? value : fallback;
  }
  return fallback;
}

int64_t TensorBytes(const Config& config, const ModelConfig& model, int64_t max_len) {
  return Transformer::ActivationBytes(model, config.max_step_tokens, config.max_rows,
                                      config.tensor_parallel_size) +
         max_len * model.rope.dim * static_cast<int64_t>(sizeof(float));
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(CpuIsa isa, std::shared_ptr<cpu::ThreadPool> threads, std::string reason)
      : Backend("cpu", std::string(CpuIsaName(isa)), std::move(reason)),
        isa_(isa),
        threads_(std::move(threads)) {}

  absl::StatusOr<std::vector<std::unique_ptr<Ops>>> CreateRanks(
      const Config& /*model*/) const override {
    std::vector<std::unique_ptr<Ops>> ranks;
    ASSIGN_OR_RETURN(ranks.emplace_back(), CreateCpuOps({.isa = isa_, .pool = threads_}));
    return ranks;
  }
  absl::StatusOr<MemoryPlan> PlanMemory(const Config& config, const ModelFile& model,
                                        int64_t max_len) const override {
    MemoryPlan plan{.available = AvailableMemoryBytes(),
                    .weights = LinearBytes(model.weights, ParseQuantisedType(config.quantize)),
                    .step = TensorBytes(config, model.config, max_len)};
    plan.kv_most = std::min(plan.available / 4, plan.left());
    return plan;
  }

 private:
  const CpuIsa isa_;
  const std::shared_ptr<cpu::ThreadPool> threads_;  // owners: this and the models' Ops
};

// Hopper: its own matrix instructions are beyond what our kernels may use.
constexpr int32_t kBlasFromMajor = 9;

class CudaBackend final : public Backend {
 public:
  CudaBackend(const CudaDevice& device, int32_t num_ranks, bool deterministic, std::string reason)
      : Backend("cuda",
                fmt::format("{} sm_{}{} fp8 {}{}{}", device.name, device.major, device.minor,
                            HasFp8Products(device) ? "w8a8" : "w8a16",
                            num_ranks > 1 ? fmt::format(" tp {}", num_ranks) : "",
                            deterministic ? " deterministic" : ""),
                std::move(reason)),
        device_(device.index),
        num_ranks_(num_ranks),
        deterministic_(deterministic) {}

  absl::StatusOr<std::vector<std::unique_ptr<Ops>>> CreateRanks(
      const Config& model) const override {
    return CreateCudaRanks({.device = device_,
                            .max_step_tokens = model.max_step_tokens,
                            .deterministic = deterministic_,
                            .blas_from_major = kBlasFromMajor},
                           num_ranks_);
  }
  [[nodiscard]] bool takes_fp8() const override { return true; }
  absl::StatusOr<MemoryPlan> PlanMemory(const Config& config, const ModelFile& model,
                                        int64_t max_len) const override {
    const ModelShare share = ShareOfRank(model.config, model.weights, 0, num_ranks_);
    const ModelConfig& c = share.config;
    const int64_t widest = std::max<int64_t>({c.model_dim, c.q_cols(), c.ffn_dim}) + 64;
    const int64_t choices = std::max(c.moe.num_used, 1);
    MemoryPlan plan{
        .available = INT64_MAX,
        .weights = DeviceBytes(share.weights, ParseQuantisedType(config.quantize), CudaMatrixBytes),
        .step =
            TensorBytes(config, model.config, max_len) +
            CudaStepBytes(config.max_step_tokens, config.max_rows, c.vocab_size, widest * choices) +
            CudaExchangeBytes(config.max_step_tokens, config.max_rows, c.vocab_size, c.model_dim,
                              num_ranks_, deterministic_)};
    // The device with the least room decides for all.
    for (int32_t device = device_; device < device_ + num_ranks_; ++device) {
      ASSIGN_OR_RETURN(const CudaMemory memory, CudaMemoryOf(device));
      const int64_t used = memory.total_bytes - memory.free_bytes;
      const auto budget = static_cast<int64_t>(static_cast<double>(memory.total_bytes) *
                                               config.gpu_memory_fraction);
      plan.available = std::min(plan.available, budget - used);
    }
    plan.kv_most = plan.left();
    return plan;
  }

 private:
  const int32_t device_, num_ranks_;
  const bool deterministic_;
};

class SimulatedBackend final : public Backend {
 public:
  explicit SimulatedBackend(Simulation simulation)
      : Backend("sim",
                fmt::format("simulated {}, {}", simulation.device.name,
                            simulation.shape ? simulation.shape->name : "the model's own sizes"),
                "backend is sim: nothing is computed"),
        simulation_(std::move(simulation)) {}

  static absl::StatusOr<std::unique_ptr<Backend>> Create(const Config& config) {
    Simulation simulation;
    ASSIGN_OR_RETURN(simulation.device,
                     LoadDevice(config.sim_device.empty() ? "h100" : config.sim_device));
    if (!config.model_shape.empty()) {
      ASSIGN_OR_RETURN(simulation.shape, LoadShape(config.model_shape));
    }
    return std::make_unique<SimulatedBackend>(std::move(simulation));
  }

  [[nodiscard]] const Simulation* simulation() const override { return &simulation_; }
  absl::StatusOr<std::vector<std::unique_ptr<Ops>>> CreateRanks(
      const Config& /*model*/) const override {
    return absl::InternalError("a simulated backend computes nothing");
  }
  absl::StatusOr<MemoryPlan> PlanMemory(const Config& config, const ModelFile& model,
                                        int64_t max_len) const override {
    return PlanSimulatedMemory(config, simulation_.device,
                               simulation_.shape ? *simulation_.shape : ShapeOf(config, model),
                               max_len);
  }

 private:
  const Simulation simulation_;
};

}  // namespace

MemoryPlan PlanSimulatedMemory(const Config& config, const DeviceSpec& device,
                               const ModelShape& shape, int64_t max_len) {
  const auto memory = static_cast<double>(device.memory_bytes);
  MemoryPlan plan{.available = static_cast<int64_t>(memory * config.gpu_memory_fraction),
                  .weights = shape.WeightBytes(),
                  .step = TensorBytes(config, shape.config, max_len)};
  plan.kv_most = plan.left();
  return plan;
}

absl::StatusOr<KvType> KvTypeOf(const Config& config) {
  if (config.kv_cache_dtype == "auto") return KvType::kF16;
  for (const KvType type : {KvType::kF16, KvType::kBf16, KvType::kFp8, KvType::kInt8}) {
    if (config.kv_cache_dtype == KvTypeName(type)) return type;
  }
  return absl::InvalidArgumentError(fmt::format(
      "kv-cache-dtype is {:?}; it may be auto, f16, bf16, fp8 or int8", config.kv_cache_dtype));
}

int64_t AvailableMemoryBytes() {
  const int64_t machine = ReadNumber("/proc/meminfo", "MemAvailable:", 0) << 10;
  const int64_t limit = ReadNumber("/sys/fs/cgroup/memory.max", "", INT64_MAX);
  const int64_t used = ReadNumber("/sys/fs/cgroup/memory.current", "", 0);
  return std::min(machine, std::max<int64_t>(limit - used, 0));
}

absl::StatusOr<std::unique_ptr<Backend>> Backend::Create(const Config& config) {
  const int32_t num_ranks = config.tensor_parallel_size;
  if (config.backend == "sim") {
    if (num_ranks == 1) return SimulatedBackend::Create(config);
    return absl::InvalidArgumentError(
        fmt::format("tensor-parallel-size is {}; backend sim allows 1", num_ranks));
  }
  std::string reason = "backend is cpu";
  if (config.backend != "cpu") {
    const absl::StatusOr<std::vector<CudaDevice>> devices = FindCudaDevices();
    if (devices.ok()) {
      const auto num_found = std::ranges::count_if(*devices, [&](const CudaDevice& device) {
        return device.index >= config.gpu_device && device.index < config.gpu_device + num_ranks;
      });
      for (const CudaDevice& device : *devices) {
        if (device.index != config.gpu_device) continue;
        if (num_found < num_ranks) {
          return absl::InvalidArgumentError(
              fmt::format("tensor-parallel-size is {}; from gpu-device {} on there are {} usable "
                          "devices",
                          num_ranks, config.gpu_device, num_found));
        }
        reason = config.backend == "cuda" ? "backend is cuda" : "there is a usable CUDA device";
        return std::make_unique<CudaBackend>(device, num_ranks, config.deterministic, reason);
      }
      return absl::InvalidArgumentError(fmt::format("gpu-device is {}; there are {} usable ones",
                                                    config.gpu_device, devices->size()));
    }
    if (config.backend == "cuda") {
      return absl::UnavailableError(
          fmt::format("backend is cuda: {}", std::string(devices.status().message())));
    }
    reason = fmt::format("no CUDA: {}", std::string(devices.status().message()));
  }
  if (num_ranks > 1) {
    return absl::InvalidArgumentError(fmt::format(
        "tensor-parallel-size is {}; the CPU backend allows 1 ({})", num_ranks, reason));
  }
  ASSIGN_OR_RETURN(const CpuIsa isa, ParseCpuIsa(config.cpu_isa));
  ASSIGN_OR_RETURN(std::shared_ptr<cpu::ThreadPool> threads, CreateCpuThreads(config.threads));
  return std::make_unique<CpuBackend>(isa, std::move(threads), std::move(reason));
}

}  // namespace sluice
