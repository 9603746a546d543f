#include "model/rope.h"

#include <cmath>

namespace sluice {

RopeTable MakeRopeTable(const ModelConfig& config, int32_t num_positions,
                        const float* freq_divisors) {
  const int32_t half = config.rope_dim / 2;
  std::vector<double> frequency(half);
  for (int32_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * i / config.rope_dim;
    const double divisor = freq_divisors != nullptr ? freq_divisors[i] : 1.0;
    frequency[i] = config.rope_position_scale * std::pow(config.rope_theta, exponent) / divisor;
  }
  const size_t size = static_cast<size_t>(num_positions) * half;
  RopeTable table;
  table.cos.reserve(size);
  table.sin.reserve(size);
  for (int32_t position = 0; position < num_positions; ++position) {
    for (int32_t i = 0; i < half; ++i) {
      const double angle = position * frequency[i];
      table.cos.push_back(static_cast<float>(std::cos(angle)));
      table.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

}  // namespace sluice
