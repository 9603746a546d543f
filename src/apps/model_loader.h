// From a model's settings to what serves it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/backend.h"
#include "apps/device_watch.h"
#include "apps/kv_plan.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "metrics/metrics.h"
#include "model/model_file.h"
#include "service/model_registry.h"
#include "sluice/config.h"
#include "sluice/service.h"
#include "step/executor.h"
#include "tokenizer/tokenizer.h"

namespace sluice {

// Thread-safe.
class ModelLoader {
 public:
  // `config`: the server's; `clock` outlives the models. Errors: what is wrong with the settings.
  static absl::StatusOr<std::unique_ptr<ModelLoader>> Create(const Config& config,
                                                             const Clock* clock);

  // Takes seconds. Errors: what is wrong with the file or the settings, in one sentence.
  absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const Config& model);

  // The metrics of the server, under the name of the first model. Once, after its Load.
  [[nodiscard]] std::unique_ptr<Metrics> TakeServerMetrics();

  // What is the same in two answers that may differ in nothing but their sampling.
  [[nodiscard]] VersionInfo VersionWith(const ModelInfo& model) const;

 private:
  ModelLoader(std::unique_ptr<const Backend> backend, int gpu_device, int num_devices,
              const Clock* clock)
      : backend_(std::move(backend)),
        gpu_device_(gpu_device),
        num_devices_(num_devices),
        clock_(clock) {}
  struct Computed {
    std::unique_ptr<Executor> executor;
    KvPlan kv;
  };
  absl::StatusOr<Computed> CreateExecutor(const Config& config,
                                          const std::shared_ptr<const ModelFile>& file,
                                          const std::optional<Pooling>& pooling) const;
  absl::StatusOr<Computed> CreateSimulatedExecutor(const Config& config, const ModelFile& file,
                                                   const Tokenizer& tokenizer) const;
  [[nodiscard]] std::unique_ptr<Metrics> MetricsOf(const std::string& name,
                                                   const std::string& alias);

  const std::unique_ptr<const Backend> backend_;
  const int gpu_device_, num_devices_;
  const Clock* const clock_;
  Mutex mutex_;
  std::unique_ptr<Metrics> server_metrics_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Metrics> page_ ABSL_GUARDED_BY(mutex_);  // what later models join
  // A device each; they write to page_.
  std::vector<std::unique_ptr<DeviceWatch>> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice
