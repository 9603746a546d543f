// The loaded models: names and aliases to what serves them. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "engine/engine.h"
#include "metrics/metrics.h"
#include "sluice/model_info.h"
#include "sluice/service.h"
#include "template/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace sluice {

struct LoadedModel {
  std::shared_ptr<const void>
      backing;  // only owner of the file that the weights point into: destroyed last
  ModelInfo info;
  std::vector<std::string> aliases;
  absl::Time loaded_at;
  std::unique_ptr<Metrics> metrics;  // null: the service's own
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;  // empty: the model has none
  std::unique_ptr<Engine> engine;             // uses the tokenizer: destroyed first
};

// Owners of a model: the registry, and calls while they are being prepared.
using ModelRef = std::shared_ptr<const LoadedModel>;

class ModelRegistry {
 public:
  // Errors: AlreadyExists for a name or alias that is taken.
  absl::Status Add(std::unique_ptr<LoadedModel> model);
  // By name or alias. Errors: NotFound with the names there are.
  [[nodiscard]] absl::StatusOr<ModelRef> Find(const std::string& name) const;
  // Those that Find finds, in the order they came.
  [[nodiscard]] std::vector<ModelRef> Serving() const;
  // The same and those that are being unloaded.
  [[nodiscard]] std::vector<ModelRef> All() const;

  // Hides a model from Find: only what holds it already can still reach it. Errors: NotFound;
  // aliases do not count.
  absl::StatusOr<ModelRef> Retire(const std::string& name);
  // Whether nothing but the registry and the caller holds a retired model, and its engine is idle.
  [[nodiscard]] static bool Unused(const ModelRef& retired);
  // Drops a retired model; the last owner destroys it.
  void Remove(const ModelRef& retired);

 private:
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<LoadedModel>> serving_ ABSL_GUARDED_BY(mutex_);
  std::vector<ModelRef> retired_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice
