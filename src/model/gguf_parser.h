// Reads and checks a GGUF file's header: metadata, tensor table, data ranges. Used by gguf.cc only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "model/gguf.h"

namespace sluice {

// Bytes of one element; 0 for strings and arrays.
[[nodiscard]] uint64_t GgufScalarBytes(GgufType type);

class GgufParser {
 public:
  explicit GgufParser(GgufFile& file) : file_(file), bytes_(file.bytes_) {}
  absl::Status Run();

 private:
  absl::Status ReadCounts();
  absl::Status ReadMetadata();
  absl::Status ReadValue(std::string_view key, GgufValue& value);
  absl::Status ReadArray(std::string_view key, int depth, GgufValue& value);
  absl::Status SkipElements(std::string_view key, int depth, GgufType type, uint64_t count);
  absl::Status ReadTensors();
  absl::Status ReadTensor(ModelTensor& tensor, uint64_t& offset);
  absl::Status ReadDims(ModelTensor& tensor);
  absl::Status PlaceTensors();
  absl::Status CheckTensorsAreDistinct();  // sorts them by name

  [[nodiscard]] uint64_t left() const { return bytes_.size() - pos_; }
  template <typename T>
  [[nodiscard]] bool Read(T& value);
  // A length and that many bytes; false when the file ends first.
  [[nodiscard]] bool ReadString(std::string_view& value);
  [[nodiscard]] absl::Status Bad(std::string_view message) const;
  [[nodiscard]] absl::Status Ends(std::string_view inside) const;

  GgufFile& file_;
  std::span<const uint8_t> bytes_;
  uint64_t pos_ = 0;
  uint64_t num_tensors_ = 0, num_metadata_ = 0;
  std::vector<uint64_t> offsets_;  // [num_tensors_], in the file's order
  uint64_t alignment_ = GgufLimits::kDefaultAlignment;
};

}  // namespace sluice
