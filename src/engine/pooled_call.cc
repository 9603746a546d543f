#include "engine/pooled_call.h"

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

// In double and ascending, so that the result does not depend on the form of the kernels.
double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void Normalise(std::vector<float>& vector) {
  const double length = std::sqrt(Dot(vector, vector));
  if (length == 0) return;
  for (float& value : vector) value = static_cast<float>(value / length);
}

}  // namespace

int64_t PooledWork::num_tokens() const {
  int64_t sum = 0;
  for (const PooledInput& input : inputs) sum += static_cast<int64_t>(input.tokens.size());
  return sum;
}

void PooledCall::Started(SequenceId sequence) {
  live_.emplace(sequence, next_);
  num_backlog_tokens_ -= static_cast<int64_t>(work_.inputs[next_].tokens.size());
  work_.inputs[next_++].tokens = {};
}

void PooledCall::Finish(std::vector<float>& vector) const {
  if (work_.dimensions > 0) vector.resize(static_cast<size_t>(work_.dimensions));
  if (work_.normalise) Normalise(vector);
  if (!work_.sigmoid) return;
  for (float& value : vector)
    value = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(value))));
}

std::vector<VectorEvent> PooledCall::Take(SequenceId sequence, std::vector<float> vector) {
  const auto it = live_.find(sequence);
  const auto input = static_cast<int32_t>(it->second);
  live_.erase(it);
  Finish(vector);
  std::vector<VectorEvent> events;
  if (work_.pairs.empty()) {
    events.push_back({input, std::move(vector)});
    return events;
  }
  vectors_[static_cast<size_t>(input)] = std::move(vector);
  for (size_t i = 0; i < work_.pairs.size(); ++i) {
    const auto [first, second] = work_.pairs[i];
    if (first != input && second != input) continue;
    const std::vector<float>& a = vectors_[static_cast<size_t>(first)];
    const std::vector<float>& b = vectors_[static_cast<size_t>(second)];
    if (!a.empty() && !b.empty())
      events.push_back({static_cast<int32_t>(i), {static_cast<float>(Dot(a, b))}});
  }
  return events;
}

}  // namespace sluice
