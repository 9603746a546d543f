// A GGUF file (versions 2 and 3, little-endian), mapped and checked once; views into it after that.
// Immutable after Open; thread-safe. Files are hostile input: every count is bounded by the bytes
// that are left before anything is allocated for it, and every error is one sentence with file, key
// and limit. Source: the GGUF specification, docs/gguf.md of the ggml project.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/mapped_file.h"
#include "model/tensor_table.h"

namespace sluice {

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
[[nodiscard]] std::string_view GgufTypeName(GgufType type);

struct GgufLimits {
  static constexpr uint64_t kMaxMetadata = 16384;  // real files hold about 50
  static constexpr uint64_t kMaxTensors = 65536;
  static constexpr uint64_t kMaxNameBytes = 255;  // of a tensor; the specification says 64
  static constexpr uint64_t kMaxKeyBytes = 65535;
  static constexpr int kMaxArrayDepth = 4;
  static constexpr uint64_t kMinAlignment = 8, kMaxAlignment = 65536, kDefaultAlignment = 32;
};

// A metadata value as it lies in the file.
struct GgufValue {
  GgufType type = GgufType::kUint8;
  GgufType element_type = GgufType::kUint8;  // of an array
  uint64_t count = 0;                        // elements of an array
  std::string_view bytes;  // a scalar's, a string's characters, an array's elements
};

struct GgufMetadata {
  std::string_view key;
  GgufValue value;
};

class GgufFile {
 public:
  // Errors: NotFound and the like for what the system says; InvalidArgument for a malformed file;
  // Unimplemented for a version or tensor type that is not supported, by name.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path);
  // The same over memory that outlives the file; `name` stands for the path in messages. bytes is
  // 8-byte aligned.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Parse(std::span<const uint8_t> bytes,
                                                         std::string_view name);
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  [[nodiscard]] const std::string& name() const { return table_.source; }
  [[nodiscard]] uint32_t version() const { return version_; }
  [[nodiscard]] int64_t num_bytes() const {  // of all parts
    int64_t bytes = static_cast<int64_t>(bytes_.size());
    for (const auto& part : other_parts_) bytes += part->num_bytes();
    return bytes;
  }
  [[nodiscard]] int64_t num_parts() const { return static_cast<int64_t>(other_parts_.size()) + 1; }
  [[nodiscard]] std::span<const uint8_t> header() const {
    return bytes_.first(header_bytes_);
  }  // all before the data
  [[nodiscard]] std::span<const GgufMetadata> metadata() const {
    return metadata_;
  }  // ascending by key
  [[nodiscard]] const TensorTable& tensors() const { return table_; }
  // See MappedFile; nothing for a file from Parse.
  void ReleasePages(std::span<const uint8_t> bytes) const {
    mapping_.ReleasePages(bytes);
    for (const auto& part : other_parts_) part->ReleasePages(bytes);
  }

  // nullptr: not there.
  [[nodiscard]] const GgufValue* Find(std::string_view key) const;

  // Values by key. Errors: NotFound if missing, InvalidArgument for another type or a value outside
  // [min, max]. The *Or forms return `otherwise` for a missing key, and the same errors for a wrong
  // one. Integers of every width count as int; f32 and f64 as float.
  [[nodiscard]] absl::StatusOr<int64_t> GetInt(std::string_view key, int64_t min,
                                               int64_t max) const;
  [[nodiscard]] absl::StatusOr<int64_t> GetIntOr(std::string_view key, int64_t min, int64_t max,
                                                 int64_t otherwise) const;
  [[nodiscard]] absl::StatusOr<double> GetFloat(std::string_view key, double min, double max) const;
  [[nodiscard]] absl::StatusOr<double> GetFloatOr(std::string_view key, double min, double max,
                                                  double otherwise) const;
  [[nodiscard]] absl::StatusOr<bool> GetBoolOr(std::string_view key, bool otherwise) const;
  [[nodiscard]] absl::StatusOr<std::string_view> GetString(std::string_view key) const;
  [[nodiscard]] absl::StatusOr<std::string_view> GetStringOr(std::string_view key,
                                                             std::string_view otherwise) const;
  // Arrays of at most max_count elements. A missing key is NotFound.
  [[nodiscard]] absl::StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key,
                                                                         uint64_t max_count) const;
  [[nodiscard]] absl::StatusOr<std::vector<int64_t>> GetInts(std::string_view key,
                                                             uint64_t max_count) const;
  [[nodiscard]] absl::StatusOr<std::vector<float>> GetFloats(std::string_view key,
                                                             uint64_t max_count) const;

  // InvalidArgument "FILE: key 'KEY' MESSAGE".
  [[nodiscard]] absl::Status KeyError(std::string_view key, std::string_view message) const;

 private:
  friend class GgufParser;
  GgufFile(std::span<const uint8_t> bytes, std::string name)
      : bytes_(bytes), table_{std::move(name), {}} {}
  absl::Status OpenOtherParts();  // if there are any
  absl::Status OpenPart(const std::string& path, int64_t part, int64_t count);
  [[nodiscard]] absl::StatusOr<const GgufValue*> Need(std::string_view key) const;
  [[nodiscard]] absl::StatusOr<const GgufValue*> NeedArray(std::string_view key,
                                                           uint64_t max_count) const;

  std::span<const uint8_t> bytes_;
  MappedFile mapping_;  // of Open
  uint32_t version_ = 0;
  size_t header_bytes_ = 0;
  std::vector<GgufMetadata> metadata_;
  TensorTable table_;  // of all parts
  std::vector<std::unique_ptr<GgufFile>> other_parts_;
};

}  // namespace sluice
