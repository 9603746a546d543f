#include "model/hf_folder.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "base/status_macros.h"

namespace sluice {
namespace {

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

}  // namespace

std::string HfFolder::File(std::string_view name) const {
  return (std::filesystem::path(path_) / name).string();
}

absl::StatusOr<std::unique_ptr<HfFolder>> HfFolder::Open(const std::string& path) {
  const std::string config_path = (std::filesystem::path(path) / "config.json").string();
  ASSIGN_OR_RETURN(HfJson json, HfJson::Open(config_path, kMaxConfigBytes));
  auto folder = std::unique_ptr<HfFolder>(new HfFolder(path, std::move(json)));
  ASSIGN_OR_RETURN(folder->config_, ReadHfConfig(folder->json_.root()));
  RETURN_IF_ERROR(folder->OpenFiles());
  ASSIGN_OR_RETURN(folder->tensors_, NameHfTensors(folder->config_, path, folder->files_));
  return folder;
}

absl::Status HfFolder::OpenFiles() {
  const std::string index = File("model.safetensors.index.json");
  if (Exists(index)) return OpenShards(index);
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(File("model.safetensors")));
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status HfFolder::OpenShards(const std::string& index_path) {
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
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(File(name)));
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
    files_.push_back(std::move(file));
  }
  return absl::OkStatus();
}

int64_t HfFolder::num_bytes() const {
  int64_t bytes = 0;
  for (const SafetensorsFile& file : files_) bytes += file.num_bytes();
  return bytes;
}

// XXH3-128 of config.json's content and of every tensor file's header and size.
std::string HfFolder::Hash() const {
  const std::string text = boost::json::serialize(json_.root().object());
  std::vector<uint64_t> parts;
  const auto add = [&](std::string_view bytes, uint64_t number) {
    const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
    parts.insert(parts.end(), {hash.low64, hash.high64, number});
  };
  add(text, 0);
  for (const SafetensorsFile& file : files_) {
    add(file.header(), static_cast<uint64_t>(file.num_bytes()));
  }
  const XXH128_hash_t hash = XXH3_128bits(parts.data(), parts.size() * sizeof(uint64_t));
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace sluice
