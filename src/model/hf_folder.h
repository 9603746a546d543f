// A model as a Hugging Face folder: config.json and one or more safetensors files, mapped and
// checked. Immutable; thread-safe. Everything in the folder is hostile input.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/hf_config.h"
#include "model/hf_json.h"
#include "model/hf_tensors.h"
#include "model/safetensors.h"
#include "sluice/model_info.h"

namespace sluice {

class HfFolder {
 public:
  static constexpr int64_t kMaxConfigBytes = 1 << 20, kMaxTokenizerConfigBytes = 16 << 20;

  // Reads model.safetensors.index.json and the files that it names, or else model.safetensors.
  // Errors: those of ReadHfConfig, SafetensorsFile and NameHfTensors; InvalidArgument for an index
  // that names files outside the folder or tensors that its files do not hold. keep_fp8: for a
  // backend that takes DType::kFp8, whose matrices else become F16.
  static absl::StatusOr<std::unique_ptr<HfFolder>> Open(const std::string& path,
                                                        bool keep_fp8 = false);
  HfFolder(const HfFolder&) = delete;
  HfFolder& operator=(const HfFolder&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const HfConfig& config() const { return config_; }
  [[nodiscard]] const TensorTable& tensors() const { return tensors_.table; }
  [[nodiscard]] int64_t num_bytes() const;  // of all tensor files
  // See MappedFile.
  void ReleasePages(std::span<const uint8_t> part) const {
    for (const SafetensorsFile& file : files_) file.ReleasePages(part);
  }
  [[nodiscard]] size_t num_files() const { return files_.size(); }

  // Tokenizer, chat template, end tokens and sampling defaults: tokenizer.json,
  // tokenizer_config.json, chat_template.jinja, generation_config.json. Errors: those of
  // ReadHfTokenizer; InvalidArgument for keys of the wrong type or range.
  [[nodiscard]] absl::StatusOr<ModelInfo> ReadInfo() const;

 private:
  HfFolder(std::string path, HfJson json) : path_(std::move(path)), json_(std::move(json)) {}
  [[nodiscard]] std::string Hash() const;
  [[nodiscard]] std::string File(std::string_view name) const;

  std::string path_;
  HfJson json_;  // config.json
  HfConfig config_;
  std::vector<SafetensorsFile> files_;
  HfTensors tensors_;
};

}  // namespace sluice
