// How the linear layers of a Hugging Face folder are quantised: quantization_config of config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/hf_json.h"

namespace sluice {

// How the codes of a matrix [N, K] lie in its tensor.
enum class HfPacking : uint8_t {
  kFp8,   // F8_E4M3 [N, K]
  kInt8,  // I8 [N, K]
  kRows,  // I32 [N, K * bits / 32]: codes along a row, the first in the lowest bits
  kAwq,   // I32 [K, N / 8]: eight rows' nibbles a word, in AWQ's order
  kGptq,  // I32 [K * bits / 32, N]: codes along a column, the first in the lowest bits
};

// One way a matrix is stored. W[n, k] = scale * (code - zero), scale and zero shared by
// `block_rows` x `group` elements.
struct HfScheme {
  HfPacking packing = HfPacking::kFp8;
  int32_t bits = 8;
  int64_t group = 0;           // columns; 0: all
  int64_t block_rows = 1;      // rows; 0: all
  bool symmetric = true;       // zero is the middle code
  bool zero_plus_one = false;  // what stands for zero in the file is zero - 1
  bool fp8_inputs = false;     // kFp8: inputs are meant to be rounded to fp8, too
};

struct HfQuantisation {
  std::string method;             // quant_method
  std::vector<HfScheme> schemes;  // of which each quantised matrix follows one
  std::string summary;            // "gptq: 4 bits in groups of 128"
};

// nullopt: the folder is not quantised. Which layers are is not read from here but seen from their
// tensors: `targets`, `ignore` and `modules_to_not_convert` say the same once more, partly in
// regular expressions, which a hostile file would not be let run. Of activations only that they are
// fp8 is read, where all schemes say so: how they are rounded is the backend's. Errors:
// Unimplemented for a method or an option that is not supported, by name with those that are;
// InvalidArgument for keys of the wrong type or range. Sources: the published configurations of
// AutoGPTQ, AutoAWQ, compressed-tensors and DeepSeek-V3.
absl::StatusOr<std::optional<HfQuantisation>> ReadHfQuantisation(const HfObject& root);

}  // namespace sluice
