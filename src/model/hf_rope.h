// The rotary positions that a config.json asks for, under the key names of transformers 4 and 5.
#pragma once

#include "absl/status/status.h"
#include "model/hf_config.h"
#include "model/hf_json.h"

namespace sluice {

// Fills rope and, for window_theta > 0 and a model with windows, window_rope, whose base is
// window_theta unless the file says otherwise. Reads head_dim, max_context and windows, and raises
// max_context to what yarn stretches it to. Errors: as of ReadHfConfig.
absl::Status ReadHfRope(const HfObject& root, double window_theta, HfConfig& config);

}  // namespace sluice
