// The rotary positions that a GGUF file's metadata and divisor tensors describe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "model/gguf.h"
#include "model/model_config.h"

namespace sluice {

// What the file leaves to the reader's knowledge of a family.
struct GgufRopeFamily {
  bool interleaved = false;
  double window_theta = 0;  // of the layers with a window; 0: like the others
};

// Fills config.rope and config.window_rope; heads, context and windows are set. Errors:
// InvalidArgument for keys or tensors of a wrong type, shape or value; Unimplemented for a kind of
// scaling that is not supported.
absl::Status ReadGgufRope(const GgufFile& file, const std::string& prefix,
                          const GgufRopeFamily& family, ModelConfig& config);

}  // namespace sluice
