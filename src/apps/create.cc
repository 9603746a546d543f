#include "apps/create.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "apps/config.h"
#include "apps/model_loader.h"
#include "base/status_macros.h"
#include "sluice/create.h"

namespace sluice {
namespace {

// The first model answers to "default" unless another does.
void NameTheDefault(std::vector<std::unique_ptr<LoadedModel>>& models) {
  for (const auto& model : models) {
    if (model->info.name == "default" || std::ranges::count(model->aliases, "default") > 0) return;
  }
  models.front()->aliases.emplace_back("default");
}

absl::Status CheckNames(const std::vector<std::unique_ptr<LoadedModel>>& models) {
  std::vector<std::string> names;
  for (const auto& model : models) {
    names.push_back(model->info.name);
    names.insert(names.end(), model->aliases.begin(), model->aliases.end());
  }
  std::ranges::sort(names);
  const auto twin = std::ranges::adjacent_find(names);
  if (twin == names.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("two models are named {:?}; served-model-name and model-alias name them", *twin));
}

}  // namespace

std::string Version() { return SLUICE_VERSION; }

absl::StatusOr<std::unique_ptr<LocalService>> CreateLocalService(const Config& config) {
  if (config.model.empty() && config.models.empty())
    return absl::InvalidArgumentError("model is not set: --model FILE.gguf or --model FOLDER");
  ASSIGN_OR_RETURN(const std::vector<Config> configs, ConfigsOfModels(config));
  ASSIGN_OR_RETURN(TenantRules tenants,
                   TenantRules::Load(config.tenants_file, !config.api_keys_file.empty()));
  auto clock = std::make_unique<const RealClock>();
  ASSIGN_OR_RETURN(
      std::shared_ptr<ModelLoader> loader,  // owners: this frame, then the factory below
      ModelLoader::Create(config, clock.get()));
  std::vector<std::unique_ptr<LoadedModel>> models;
  for (const Config& model : configs) {
    ASSIGN_OR_RETURN(models.emplace_back(), loader->Load(model));
  }
  NameTheDefault(models);
  RETURN_IF_ERROR(CheckNames(models));
  std::unique_ptr<Metrics> metrics = loader->TakeServerMetrics();
  const VersionInfo version = loader->VersionWith(models.front()->info);
  metrics->SetBuildInfo(version.version, version.backend, version.isa);
  metrics->SetSimulated(version.backend == "sim");
  const auto load =
      [config,
       loader](const LoadModelRequest& request) -> absl::StatusOr<std::unique_ptr<LoadedModel>> {
    ASSIGN_OR_RETURN(const Config model, ConfigOfModel(config, request));
    return loader->Load(model);
  };
  return std::make_unique<LocalService>(
      LocalServiceOptions{.version = version,
                          .prepare_threads = config.prepare_threads,
                          .max_body_bytes = static_cast<size_t>(config.max_body_bytes),
                          .stall_timeout = absl::Seconds(config.stall_timeout_s),
                          .plant_fault = config.plant_fault,
                          .drain_timeout = absl::Seconds(config.drain_timeout_s),
                          .tenants = std::move(tenants),
                          .load_model = load},
      std::move(models), std::move(metrics), std::move(clock));
}

absl::StatusOr<std::unique_ptr<Service>> CreateService(const Config& config) {
  return CreateLocalService(config);
}

}  // namespace sluice
