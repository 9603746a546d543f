// A safetensors file, mapped and checked once; views into it after that. Immutable; thread-safe.
// Files are hostile input: the header is read without a document in memory, so that what is
// allocated stays within what the file holds, and every error is one sentence.
// Source: the format as published in the README of huggingface/safetensors.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/mapped_file.h"
#include "model/tensor_table.h"

namespace sluice {

enum class SafetensorsType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool
};
[[nodiscard]] std::string_view SafetensorsTypeName(SafetensorsType type);
[[nodiscard]] int64_t SafetensorsTypeBytes(SafetensorsType type);

struct SafetensorsLimits {
  static constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as in the format's own reader
  static constexpr uint64_t kMaxTensors = 1 << 18;
  static constexpr size_t kMaxNameBytes = 255;
};

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  int num_dims = 0;                             // 0: a single number
  int64_t dims[kMaxTensorDims] = {1, 1, 1, 1};  // in the file's order: the last is contiguous
  const uint8_t* data = nullptr;                // at any address
  int64_t num_bytes = 0;

  [[nodiscard]] int64_t num_elements() const { return num_bytes / SafetensorsTypeBytes(type); }
  [[nodiscard]] std::string ShapeString() const;  // "[1536, 576]", the file's order
};

class SafetensorsFile {
 public:
  // Errors: NotFound and the like for what the system says; InvalidArgument for a malformed file;
  // Unimplemented for an element type that is not known, by name.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);
  // The same over memory that outlives the file; `name` stands for the path in messages.
  static absl::StatusOr<SafetensorsFile> Parse(std::span<const uint8_t> bytes, std::string name);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] int64_t num_bytes() const { return static_cast<int64_t>(bytes_.size()); }
  // See MappedFile; nothing for a file from Parse.
  void ReleasePages(std::span<const uint8_t> part) const { mapping_.ReleasePages(part); }
  // The JSON text that describes the tensors.
  [[nodiscard]] std::string_view header() const { return header_; }
  [[nodiscard]] std::span<const SafetensorsTensor> tensors() const {
    return tensors_;
  }  // ascending by name

 private:
  absl::Status Read();
  absl::Status PlaceTensors(uint64_t data_begin);
  [[nodiscard]] absl::Status Bad(std::string_view message) const;

  std::string name_;
  MappedFile mapping_;  // of Open
  std::span<const uint8_t> bytes_;
  std::string_view header_;
  std::vector<SafetensorsTensor> tensors_;
};

}  // namespace sluice
