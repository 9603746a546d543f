#include "model/rope.h"

#include <cmath>

namespace sluice {

RopeTable MakeRopeTable(const RopeConfig& rope, int32_t num_positions) {
  const bool is_long = num_positions > rope.original_context && !rope.long_divisors.empty();
  const std::vector<float>& divisors = is_long ? rope.long_divisors : rope.divisors;
  const auto half = static_cast<size_t>(rope.dim / 2);
  std::vector<double> frequency(half);
  for (size_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / rope.dim;
    const double divisor = divisors.empty() ? 1.0 : divisors[i];
    frequency[i] = rope.position_scale * std::pow(rope.theta, exponent) / divisor;
  }
  const size_t size = static_cast<size_t>(num_positions) * half;
  RopeTable table;
  table.cos.reserve(size);
  table.sin.reserve(size);
  for (int32_t position = 0; position < num_positions; ++position) {
    for (const double f : frequency) {
      const double angle = position * f;
      table.cos.push_back(static_cast<float>(rope.magnitude * std::cos(angle)));
      table.sin.push_back(static_cast<float>(rope.magnitude * std::sin(angle)));
    }
  }
  return table;
}

}  // namespace sluice
