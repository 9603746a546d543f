// Where a server's models run: picked once, for all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "executor/step_time.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/cuda_ops.h"
#include "model/model_file.h"
#include "sluice/config.h"

namespace sluice {

// Memory that a model may take, and what it needs besides its KV cache; all in bytes.
struct MemoryPlan {
  int64_t available = 0, weights = 0, step = 0;
  int64_t kv_most = 0;  // what the KV cache gets where nobody says
  [[nodiscard]] int64_t left() const { return available - weights - step; }
};

// What a simulated backend computes with.
struct Simulation {
  DeviceSpec device;
  std::optional<ModelShape> shape;  // empty: the model's own sizes
};

// Immutable; thread-safe.
class Backend {
 public:
  virtual ~Backend() = default;
  // Errors: what is wrong with the settings; Unavailable, with the reason, for a backend that was
  // asked for and cannot run.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(const Config& config);

  [[nodiscard]] const std::string& name() const { return name_; }      // "cpu", "cuda" or "sim"
  [[nodiscard]] const std::string& detail() const { return detail_; }  // ISA or devices
  [[nodiscard]] const std::string& reason() const { return reason_; }  // why this one

  // Null: models are really computed, with CreateRanks.
  [[nodiscard]] virtual const Simulation* simulation() const { return nullptr; }

  // Whether its Ops take matrices of DType::kFp8.
  [[nodiscard]] virtual bool takes_fp8() const { return false; }
  // One Ops a rank of the model; more than one are each for a thread of its own.
  [[nodiscard]] virtual absl::StatusOr<std::vector<std::unique_ptr<Ops>>> CreateRanks(
      const Config& model) const = 0;
  // Of each rank, for a decoder whose sequences have up to `max_len` positions.
  virtual absl::StatusOr<MemoryPlan> PlanMemory(const Config& config, const ModelFile& model,
                                                int64_t max_len) const = 0;

 protected:
  Backend(std::string name, std::string detail, std::string reason)
      : name_(std::move(name)), detail_(std::move(detail)), reason_(std::move(reason)) {}

 private:
  const std::string name_, detail_, reason_;
};

// As Backend::PlanMemory, of a device and a model that are only numbers.
[[nodiscard]] MemoryPlan PlanSimulatedMemory(const Config& config, const DeviceSpec& device,
                                             const ModelShape& shape, int64_t max_len);

// What kv-cache-dtype asks for; auto is f16. Errors: InvalidArgument for another name.
absl::StatusOr<KvType> KvTypeOf(const Config& config);

// What the machine, or the container's memory limit, still gives.
[[nodiscard]] int64_t AvailableMemoryBytes();

}  // namespace sluice
