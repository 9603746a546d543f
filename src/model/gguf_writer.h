// Writes a GGUF file, version 3, piece by piece: nothing but the header is held in memory. The file
// appears under its name only when it is whole. Source: docs/gguf.md of the ggml project.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "kernels/view.h"
#include "model/gguf.h"
#include "model/tensor_table.h"

namespace sluice {

// Takes the next bytes of a tensor.
using GgufSink = std::function<absl::Status(std::span<const uint8_t>)>;

struct GgufTensorSource {
  std::string name;
  DType dtype = DType::kF32;
  int num_dims = 0;
  int64_t dims[kMaxTensorDims] = {1, 1, 1, 1};  // dims[0] is contiguous
  // Gives all bytes of the tensor to the sink, in order.
  std::function<absl::Status(const GgufSink&)> write;

  [[nodiscard]] int64_t num_bytes() const;
};

class GgufWriter {
 public:
  // Keys stand in the file in the order of these calls.
  void Set(std::string_view key, std::string_view text);
  void Set(std::string_view key, uint32_t value);
  void Set(std::string_view key, float value);
  void Set(std::string_view key, bool value);
  void Set(std::string_view key, std::span<const std::string> texts);
  void Set(std::string_view key, std::span<const uint8_t> values);
  void Set(std::string_view key, std::span<const int32_t> values);
  void Set(std::string_view key, std::span<const float> values);
  void Set(std::string_view key, const GgufValue& value);  // as it lies in another file
  void Add(GgufTensorSource tensor) { tensors_.push_back(std::move(tensor)); }

  // Writes to a new file beside `path`, asks `check` about it, and renames it to `path`, replacing
  // what is there. Errors: what the system, a source or `check` says; nothing is left behind then.
  absl::Status Write(const std::string& path,
                     const std::function<absl::Status(const std::string& file)>& check) const;

 private:
  void Key(std::string_view key, GgufType type);
  [[nodiscard]] std::string Header() const;

  std::string metadata_;
  uint64_t num_metadata_ = 0;
  std::vector<GgufTensorSource> tensors_;
};

}  // namespace sluice
