#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sluice {
namespace {

double Frequency(const RopeConfig& rope, int32_t i) {
  return std::pow(rope.theta, -2.0 * i / rope.dim);
}

// The (fractional) index of the frequency that turns `turns` times within `context` positions.
double IndexOfTurns(const RopeConfig& rope, double turns, double context) {
  return rope.dim * std::log(context / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
}

}  // namespace

void ScaleLinear(double factor, RopeConfig& rope) { rope.position_scale = 1 / factor; }

void ScaleLlama3(const Llama3Scaling& s, RopeConfig& rope) {
  const double longest = s.original_context / s.low_freq_factor;
  const double shortest = s.original_context / s.high_freq_factor;
  rope.divisors.clear();
  for (int32_t i = 0; i < rope.dim / 2; ++i) {
    const double wavelength = 2 * std::numbers::pi / Frequency(rope, i);
    double divisor = 1;
    if (wavelength > longest) {
      divisor = s.factor;
    } else if (wavelength >= shortest) {
      const double kept = (s.original_context / wavelength - s.low_freq_factor) /
                          (s.high_freq_factor - s.low_freq_factor);
      divisor = 1 / ((1 - kept) / s.factor + kept);
    }
    rope.divisors.push_back(static_cast<float>(divisor));
  }
}

void ScaleYarn(const YarnScaling& s, RopeConfig& rope) {
  const double first =
      std::max(std::floor(IndexOfTurns(rope, s.beta_fast, s.original_context)), 0.0);
  const double last = std::min(std::ceil(IndexOfTurns(rope, s.beta_slow, s.original_context)),
                               static_cast<double>(rope.dim - 1));
  rope.divisors.clear();
  for (int32_t i = 0; i < rope.dim / 2; ++i) {
    const double ramp = std::clamp((i - first) / std::max(last - first, 1e-3), 0.0, 1.0);
    rope.divisors.push_back(static_cast<float>(1 / (ramp / s.factor + (1 - ramp))));
  }
  rope.magnitude = s.attention_factor > 0 ? s.attention_factor
                   : s.factor > 1         ? 0.1 * std::log(s.factor) + 1
                                          : 1;
}

double LongRopeMagnitude(int32_t max_context, int32_t original_context) {
  const double stretch = static_cast<double>(max_context) / original_context;
  return stretch <= 1 ? 1 : std::sqrt(1 + std::log(stretch) / std::log(original_context));
}

}  // namespace sluice
