// The loaded models: names and aliases to what serves them. Immutable once the service runs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
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
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;  // empty: the model has none
  std::unique_ptr<Engine> engine;             // uses the tokenizer: destroyed first
};

class ModelRegistry {
 public:
  void Add(std::unique_ptr<LoadedModel> model) { models_.push_back(std::move(model)); }

  // By name or alias. Errors: NotFound with the names there are.
  [[nodiscard]] absl::StatusOr<const LoadedModel*> Find(const std::string& name) const;
  [[nodiscard]] const std::vector<std::unique_ptr<LoadedModel>>& models() const { return models_; }

 private:
  std::vector<std::unique_ptr<LoadedModel>> models_;
};

}  // namespace sluice
