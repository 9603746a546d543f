// The tensors of a Hugging Face folder under the names of GGUF, so that FindWeights serves both.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/hf_config.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"
#include "model/weight_source.h"

namespace sluice {

// Pointers in `table` go into the files and into the rest of the struct.
struct HfTensors {
  TensorTable table;
  std::deque<std::string> names;
  std::vector<std::unique_ptr<float[]>> vectors;  // 1-D tensors, as F32
  std::vector<std::unique_ptr<const WeightSource>> quantised;
  std::vector<std::unique_ptr<uint8_t[]>> realigned;  // copies of what lies at odd addresses
};

// Renames, turns every vector into F32 (adding 1 to norms where the family asks for it) and takes
// experts that are stored together apart. `files` outlive the result. keep_fp8: see
// HfQuantisedMatrix. Errors: InvalidArgument for a
// tensor without a place in the architecture, a name that stands in two files, or an untied head
// that is missing; those of HfQuantisedMatrix::Create; Unimplemented for an element type that is
// not F32, F16 or BF16, and for anything quantised that is no linear layer.
absl::StatusOr<HfTensors> NameHfTensors(const HfConfig& config, const std::string& folder,
                                        std::span<const SafetensorsFile> files, bool keep_fp8);

}  // namespace sluice
