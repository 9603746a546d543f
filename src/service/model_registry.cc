#include "service/model_registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/errors.h"

namespace sluice {
namespace {

bool Answers(const LoadedModel& model, const std::string& name) {
  return model.info.name == name ||
         std::find(model.aliases.begin(), model.aliases.end(), name) != model.aliases.end();
}

// The name is the client's: quoted, and cut so that an error stays one line.
absl::Status NotServed(const std::string& name,
                       const std::vector<std::shared_ptr<LoadedModel>>& serving) {
  if (name.empty()) return FieldError("model", "model is missing");
  std::vector<std::string> known;
  for (const auto& model : serving) {
    known.push_back(model->info.name);
    known.insert(known.end(), model->aliases.begin(), model->aliases.end());
  }
  return WithErrorCode(
      WithParam(absl::NotFoundError(fmt::format("model {:?} is not served here; there are: {}",
                                                name.substr(0, 128), fmt::join(known, ", "))),
                "model"),
      "model_not_found");
}

}  // namespace

absl::Status ModelRegistry::Add(std::unique_ptr<LoadedModel> model) {
  const MutexLock lock(mutex_);
  std::vector<std::string> names = model->aliases;
  names.push_back(model->info.name);
  for (const std::string& name : names) {
    for (const auto& other : serving_) {
      if (!Answers(*other, name)) continue;
      return absl::AlreadyExistsError(
          fmt::format("model name {:?} is taken by {}", name, other->info.name));
    }
  }
  serving_.push_back(std::move(model));
  return absl::OkStatus();
}

absl::StatusOr<ModelRef> ModelRegistry::Find(const std::string& name) const {
  const MutexLock lock(mutex_);
  for (const auto& model : serving_) {
    if (Answers(*model, name)) return model;
  }
  return NotServed(name, serving_);
}

std::vector<ModelRef> ModelRegistry::Serving() const {
  const MutexLock lock(mutex_);
  return {serving_.begin(), serving_.end()};
}

std::vector<ModelRef> ModelRegistry::All() const {
  const MutexLock lock(mutex_);
  std::vector<ModelRef> all(serving_.begin(), serving_.end());
  all.insert(all.end(), retired_.begin(), retired_.end());
  return all;
}

absl::StatusOr<ModelRef> ModelRegistry::Retire(const std::string& name) {
  const MutexLock lock(mutex_);
  const auto it = std::find_if(serving_.begin(), serving_.end(),
                               [&](const auto& model) { return model->info.name == name; });
  if (it == serving_.end()) return NotServed(name, serving_);
  ModelRef retired = *it;
  serving_.erase(it);
  retired_.push_back(retired);
  return retired;
}

// In this order: a call that holds the model has submitted before it lets go.
bool ModelRegistry::Unused(const ModelRef& retired) {
  return retired.use_count() <= 2 && retired->engine->idle();
}

void ModelRegistry::Remove(const ModelRef& retired) {
  const MutexLock lock(mutex_);
  std::erase(retired_, retired);
}

}  // namespace sluice
