// Which tensors of a folder make up a quantised linear layer, by the ends of their names.
#pragma once

#include <map>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/hf_quantised_matrix.h"
#include "model/safetensors.h"

namespace sluice {

// Views of names and tensors, which outlive it.
class HfQuantisedLayers {
 public:
  // Whether the tensor is a part of a quantised layer, which keeps it, or a number about
  // activations or the KV cache, which nobody uses. Errors: InvalidArgument for a part that is
  // there twice.
  absl::StatusOr<bool> Take(const SafetensorsFile& file, const SafetensorsTensor& tensor);

  // By "model.layers.0.mlp.up_proj". Errors: InvalidArgument for parts of a layer without codes.
  [[nodiscard]] absl::StatusOr<const std::map<std::string_view, HfQuantisedParts>*> All() const;

 private:
  std::map<std::string_view, HfQuantisedParts> layers_;
};

}  // namespace sluice
