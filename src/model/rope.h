// cos and sin of every rotation angle, by position.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"

namespace sluice {

struct RopeTable {
  std::vector<float> cos, sin;  // [num_positions][dim/2]
};

// magnitude * cos and sin of angle(p, i) = p * position_scale * theta^(-2i/dim) / divisors[i], in
// double, rounded to f32. More positions than original_context take long_divisors, if there are
// any: the choice is made once for a model, so that a token's rotation never depends on how long
// its sequence becomes. Source: RoFormer, arXiv:2104.09864 eq. 15 and 34.
RopeTable MakeRopeTable(const RopeConfig& rope, int32_t num_positions);

}  // namespace sluice
