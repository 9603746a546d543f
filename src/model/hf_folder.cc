#include "model/hf_folder.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <utility>

#include "base/status_macros.h"
#include "model/hf_shards.h"

namespace sluice {

std::string HfFolder::File(std::string_view name) const {
  return (std::filesystem::path(path_) / name).string();
}

absl::StatusOr<std::unique_ptr<HfFolder>> HfFolder::Open(const std::string& path, bool keep_fp8) {
  const std::string config_path = (std::filesystem::path(path) / "config.json").string();
  ASSIGN_OR_RETURN(HfJson json, HfJson::Open(config_path, kMaxConfigBytes));
  auto folder = std::unique_ptr<HfFolder>(new HfFolder(path, std::move(json)));
  ASSIGN_OR_RETURN(folder->config_, ReadHfConfig(folder->json_.root()));
  ASSIGN_OR_RETURN(folder->files_, OpenTensorFiles(path));
  ASSIGN_OR_RETURN(folder->tensors_,
                   NameHfTensors(folder->config_, path, folder->files_, keep_fp8));
  return folder;
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
