// A model's tensors by name, whatever file they came from. Names are GGUF's
// ("blk.0.attn_q.weight"): the readers of other formats translate. Plain values; the data is the
// reader's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.h"

namespace sluice {

inline constexpr int kMaxTensorDims = 4;

struct ModelTensor {
  std::string_view name;
  DType dtype = DType::kF32;
  int num_dims = 0;
  int64_t dims[kMaxTensorDims] = {1, 1, 1, 1};  // dims[0] is contiguous
  const uint8_t* data = nullptr;
  int64_t num_bytes = 0;                 // of all rows in blocks of dtype
  const WeightSource* source = nullptr;  // as in WeightView

  [[nodiscard]] std::string ShapeString() const;  // "[576, 1536]", dims[0] first
};

struct TensorTable {
  std::string source;                // the file or folder, for messages
  std::vector<ModelTensor> tensors;  // ascending by name

  // nullptr: not there.
  [[nodiscard]] const ModelTensor* Find(std::string_view name) const;
};

// A key or name for a message: control and non-ASCII bytes escaped, cut at 64 bytes.
[[nodiscard]] std::string QuoteForMessage(std::string_view name);

}  // namespace sluice
