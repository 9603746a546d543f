#include "service/model_registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/errors.h"

namespace sluice {

absl::StatusOr<const LoadedModel*> ModelRegistry::Find(const std::string& name) const {
  std::vector<std::string> known;
  for (const auto& model : models_) {
    if (model->info.name == name ||
        std::find(model->aliases.begin(), model->aliases.end(), name) != model->aliases.end()) {
      return model.get();
    }
    known.push_back(model->info.name);
    known.insert(known.end(), model->aliases.begin(), model->aliases.end());
  }
  if (name.empty()) return FieldError("model", "model is missing");
  // The name is the client's: quoted, and cut so that an error stays one line.
  return WithErrorCode(
      WithParam(absl::NotFoundError(fmt::format("model {:?} is not served here; there are: {}",
                                                name.substr(0, 128), fmt::join(known, ", "))),
                "model"),
      "model_not_found");
}

}  // namespace sluice
