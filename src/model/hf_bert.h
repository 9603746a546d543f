// A BERT encoder as a Hugging Face folder: config.json, its safetensors files, and what
// sentence-transformers leaves beside them (modules.json, 1_Pooling, sentence_bert_config.json).
// Immutable. Everything in the folder is hostile input.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/encoder_views.h"
#include "model/hf_json.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"
#include "sluice/model_info.h"

namespace sluice {

// Whether config.json names one of the classes that are opened here.
[[nodiscard]] bool IsBertFolder(const HfObject& root);

class BertFolder {
 public:
  // Errors: InvalidArgument for keys or tensors that are missing, of a wrong type, shape or range;
  // Unimplemented for an activation, position embedding or pooling that is not supported, by name.
  static absl::StatusOr<std::unique_ptr<BertFolder>> Open(const std::string& path);
  BertFolder(const BertFolder&) = delete;
  BertFolder& operator=(const BertFolder&) = delete;

  [[nodiscard]] const EncoderConfig& config() const { return config_; }
  // Under GGUF's names.
  [[nodiscard]] const TensorTable& tensors() const { return table_; }
  [[nodiscard]] int64_t num_bytes() const {
    int64_t bytes = 0;
    for (const SafetensorsFile& file : files_) bytes += file.num_bytes();
    return bytes;
  }
  void ReleasePages(std::span<const uint8_t> part) const {
    for (const SafetensorsFile& file : files_) file.ReleasePages(part);
  }
  // Errors: those of ReadHfTokenizer.
  [[nodiscard]] absl::StatusOr<ModelInfo> ReadInfo() const;

 private:
  explicit BertFolder(std::string path) : path_(std::move(path)) {}
  absl::Status ReadConfig(const HfObject& root);
  absl::Status ReadSentenceTransformers();
  absl::Status NameTensors();
  absl::Status NameTensorsOf(const SafetensorsFile& file);
  void Place(ModelTensor tensor);
  [[nodiscard]] std::string File(std::string_view name) const;

  const std::string path_;
  EncoderConfig config_;
  int32_t max_model_len_ = 0;
  std::vector<SafetensorsFile> files_;
  TensorTable table_;
  std::deque<std::string> names_;
  std::vector<std::unique_ptr<float[]>> floats_;       // what is a vector, where the file has halfs
  std::vector<std::unique_ptr<uint8_t[]>> realigned_;  // copies of what lies at odd addresses
};

}  // namespace sluice
