// Writes small Hugging Face folders, right or wrong in any file.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "tests/model/test_safetensors.h"

namespace sluice {

struct TestHfFolder {
  std::string config;                        // config.json
  TestSafetensors tensors;                   // model.safetensors
  std::map<std::string, std::string> files;  // others, by name; "" for a name: it is not written

  // The JSON value of a key of the config, replaced or added.
  void Set(std::string_view key, std::string_view json);
  void Remove(std::string_view key);
  // As the text part of a class for images and text: the config's keys go into text_config, each
  // tensor's "model." becomes `prefix` and its "lm_head." `head`; a few of the image part are
  // added.
  void Nest(std::string_view class_name, std::string_view prefix, std::string_view head);
  // Writes everything into `folder`, which is there.
  void Write(const std::filesystem::path& folder) const;
};

// A whole model of a class of transformers with weights drawn from a fixed seed: 2 layers, D 32,
// F 64, V 48, 4 query and 2 KV heads of 8, 4 experts where the class has experts.
TestHfFolder MakeTestHfFolder(std::string_view class_name, std::string_view dtype = "F32");

// A folder of the disk for as long as the object lives.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace sluice
