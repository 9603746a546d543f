// The JSON header of a safetensors file, read token by token. Used by safetensors.cc only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/safetensors.h"

namespace sluice {

// A tensor as the header describes it; the range of its data is not yet checked.
struct SafetensorsEntry {
  SafetensorsTensor tensor;  // without data and num_bytes
  uint64_t begin = 0, end = 0;
};

// The tensors in the header's order. Errors: InvalidArgument or Unimplemented with one sentence
// that begins with `file`.
absl::StatusOr<std::vector<SafetensorsEntry>> ReadSafetensorsHeader(std::string_view json,
                                                                    std::string_view file);

}  // namespace sluice
