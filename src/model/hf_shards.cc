#include "model/hf_shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/string.hpp>
#include <filesystem>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/status_macros.h"
#include "model/hf_json.h"
#include "model/tensor_table.h"

namespace sluice {
namespace {

constexpr int64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxShards = 1024;

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

// A name that cannot lead out of the folder.
bool IsBelow(std::string_view name) {
  const std::filesystem::path path(name);
  return !name.empty() && name.find('\0') == std::string_view::npos && path.is_relative() &&
         std::ranges::find(path, "..") == path.end();
}

std::string Below(const std::string& folder, std::string_view name) {
  return (std::filesystem::path(folder) / name).string();
}

absl::StatusOr<std::vector<SafetensorsFile>> OpenShards(const std::string& folder,
                                                        const std::string& index_path) {
  std::vector<SafetensorsFile> files;
  ASSIGN_OR_RETURN(const HfJson index, HfJson::Open(index_path, kMaxIndexBytes));
  ASSIGN_OR_RETURN(const HfObject map, index.root().GetObject("weight_map"));
  std::map<std::string_view, std::vector<std::string_view>> by_file;  // tensors of each file
  for (const auto& entry : map.object()) {
    const std::string_view tensor(entry.key().data(), entry.key().size());
    ASSIGN_OR_RETURN(const std::string_view file, map.GetString(tensor));
    if (!IsBelow(file)) {
      return map.KeyError(tensor, fmt::format("names '{}', which is no file below the folder",
                                              QuoteForMessage(file)));
    }
    by_file[file].push_back(tensor);
    if (by_file.size() > kMaxShards) {
      return absl::InvalidArgumentError(
          fmt::format("{}: names more than {} files", index_path, kMaxShards));
    }
  }
  for (const auto& [name, tensors] : by_file) {
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(Below(folder, name)));
    for (const std::string_view tensor : tensors) {
      const auto held = file.tensors();
      if (std::ranges::binary_search(held, tensor, {}, [](const SafetensorsTensor& t) {
            return std::string_view(t.name);
          })) {
        continue;
      }
      return map.KeyError(tensor, fmt::format("names '{}', which does not hold that tensor",
                                              QuoteForMessage(name)));
    }
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsFile>> OpenTensorFiles(const std::string& folder) {
  const std::string index = Below(folder, "model.safetensors.index.json");
  if (Exists(index)) return OpenShards(folder, index);
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(Below(folder, "model.safetensors")));
  std::vector<SafetensorsFile> files;
  files.push_back(std::move(file));
  return files;
}

}  // namespace sluice
