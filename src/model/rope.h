// cos and sin of every rotation angle, by position.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"

namespace sluice {

struct RopeTable {
  std::vector<float> cos, sin;  // [num_positions][rope_dim/2]
};

// angle(p, i) = p * position_scale * theta^(-2i/rope_dim) / freq_divisors[i], in double; cos and
// sin rounded to f32. freq_divisors: [rope_dim/2], or nullptr for ones. Source: RoFormer,
// arXiv:2104.09864 eq. 15 and 34.
RopeTable MakeRopeTable(const ModelConfig& config, int32_t num_positions,
                        const float* freq_divisors);

}  // namespace sluice
