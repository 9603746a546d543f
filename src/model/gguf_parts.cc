// GgufFile's part that opens a model stored in several files: NAME-00001-of-00003.gguf holds the
// metadata, each of the others some of the tensors. Source: the naming convention of docs/gguf.md
// of the ggml project, and the keys split.no, split.count and split.tensors.count.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "model/gguf.h"

namespace sluice {
namespace {

constexpr int64_t kMaxParts = 1024;

std::string Ending(int64_t part, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", part + 1, count);
}

}  // namespace

absl::Status GgufFile::OpenOtherParts() {
  ASSIGN_OR_RETURN(const int64_t count, GetIntOr("split.count", 0, kMaxParts, 1));
  if (count <= 1) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t part, GetInt("split.no", 0, count - 1));
  const std::string ending = Ending(part, count);
  if (!name().ends_with(ending)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: is part {} of {}, so that its name must end in '{}'", name(), part + 1,
                    count, ending));
  }
  const std::string stem = name().substr(0, name().size() - ending.size());
  if (part != 0) {
    return absl::InvalidArgumentError(fmt::format("{}: is part {} of {}; open the first, '{}'",
                                                  name(), part + 1, count,
                                                  stem + Ending(0, count)));
  }
  for (int64_t i = 1; i < count; ++i) RETURN_IF_ERROR(OpenPart(stem + Ending(i, count), i, count));
  std::ranges::sort(table_.tensors, {}, &ModelTensor::name);
  const auto twin = std::ranges::adjacent_find(table_.tensors, {}, &ModelTensor::name);
  if (twin != table_.tensors.end()) {
    return absl::InvalidArgumentError(fmt::format("{}: tensor '{}' stands in two of its parts",
                                                  name(), QuoteForMessage(twin->name)));
  }
  const auto held = static_cast<int64_t>(table_.tensors.size());
  ASSIGN_OR_RETURN(const int64_t tensors, GetIntOr("split.tensors.count", 0, INT32_MAX, held));
  if (tensors == held) return absl::OkStatus();
  return KeyError("split.tensors.count",
                  fmt::format("is {}; the {} parts hold {} tensors", tensors, count, held));
}

absl::Status GgufFile::OpenPart(const std::string& path, int64_t part, int64_t count) {
  ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, Parse(mapped.bytes(), path));
  file->mapping_ = std::move(mapped);
  ASSIGN_OR_RETURN(const int64_t its_count, file->GetInt("split.count", 1, kMaxParts));
  ASSIGN_OR_RETURN(const int64_t its_part, file->GetInt("split.no", 0, kMaxParts));
  if (its_count != count || its_part != part) {
    return absl::InvalidArgumentError(
        fmt::format("{}: says that it is part {} of {}; its name and the first part say {} of {}",
                    path, its_part + 1, its_count, part + 1, count));
  }
  const std::vector<ModelTensor>& tensors = file->table_.tensors;
  table_.tensors.insert(table_.tensors.end(), tensors.begin(), tensors.end());
  other_parts_.push_back(std::move(file));
  return absl::OkStatus();
}

}  // namespace sluice
