// The ways a model's context is stretched beyond the one it was first trained for, as numbers of a
// RopeConfig whose theta and dim are set.
#pragma once

#include <cstdint>

#include "model/model_config.h"

namespace sluice {

// Linear: every position divided by `factor`.
void ScaleLinear(double factor, RopeConfig& rope);

// Llama 3.1: frequencies whose wavelength is above original_context / low_freq_factor are divided
// by `factor`, those below original_context / high_freq_factor stay, between them a linear blend.
struct Llama3Scaling {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  int32_t original_context = 8192;
};
void ScaleLlama3(const Llama3Scaling& scaling, RopeConfig& rope);

// YaRN: frequencies that turn less than beta_slow times within original_context are divided by
// `factor`, those that turn more than beta_fast times stay, between them a linear ramp.
// attention_factor multiplies cos and sin; 0: 0.1 ln(factor) + 1.
// Source: arXiv:2309.00071 sections 3.2 to 3.4.
struct YarnScaling {
  double factor = 1, beta_fast = 32, beta_slow = 1, attention_factor = 0;
  int32_t original_context = 0;
};
void ScaleYarn(const YarnScaling& scaling, RopeConfig& rope);

// LongRoPE's magnitude where the model does not state it: sqrt(1 + ln(s) / ln(original_context))
// with s = max_context / original_context, and 1 for s <= 1. The divisors are the model's own.
// Source: arXiv:2402.13753.
[[nodiscard]] double LongRopeMagnitude(int32_t max_context, int32_t original_context);

}  // namespace sluice
