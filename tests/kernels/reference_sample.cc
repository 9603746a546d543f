// The twin of Ops::Sample: a full sort and double sums.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/kernels/reference.h"

namespace sluice::reference {
namespace {

constexpr double kLowest = std::numeric_limits<float>::lowest();
constexpr double kMasked = -std::numeric_limits<double>::infinity();

double Clean(double logit) {
  return std::isnan(logit) ? kLowest : std::clamp(logit, kLowest, -kLowest);
}

// The logits after bias, penalties and the min_tokens mask.
std::vector<double> AdjustedLogits(std::span<const float> logits, const SlotView& slot,
                                   int32_t num_output_tokens) {
  std::vector<double> x(logits.begin(), logits.end());
  for (double& logit : x) logit = Clean(logit);
  for (int32_t i = 0; i < slot.num_bias; ++i) {
    double& logit = x[static_cast<size_t>(slot.bias[i].first)];
    logit = Clean(logit + slot.bias[i].second);
  }
  std::vector<int32_t> outputs(x.size());
  std::vector<bool> seen(x.size());
  for (int32_t i = 0; i < slot.num_prompt_tokens; ++i)
    seen[static_cast<size_t>(slot.prompt_tokens[i])] = true;
  for (int32_t i = 0; i < slot.num_output_tokens; ++i) {
    seen[static_cast<size_t>(slot.output_tokens[i])] = true;
    ++outputs[static_cast<size_t>(slot.output_tokens[i])];
  }
  for (size_t v = 0; v < x.size(); ++v) {
    if (!seen[v]) continue;
    x[v] = x[v] > 0 ? x[v] / slot.repetition_penalty : x[v] * slot.repetition_penalty;
    x[v] -= static_cast<double>(slot.frequency_penalty) * outputs[v] +
            (outputs[v] > 0 ? slot.presence_penalty : 0);
    x[v] = Clean(x[v]);
  }
  if (num_output_tokens < slot.min_tokens) {
    for (int32_t i = 0; i < slot.num_stop_tokens; ++i)
      x[static_cast<size_t>(slot.stop_tokens[i])] = kMasked;
  }
  return x;
}

}  // namespace

std::vector<double> LogSoftmax(std::span<const float> logits) {
  std::vector<double> x(logits.begin(), logits.end());
  for (double& logit : x) logit = Clean(logit);
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double logit : x) sum += std::exp(logit - top);
  for (double& logit : x) logit -= top + std::log(sum);
  return x;
}

std::vector<Candidate> Candidates(std::span<const float> logits, const SlotView& slot,
                                  int32_t num_output_tokens) {
  const std::vector<double> x = AdjustedLogits(logits, slot, num_output_tokens);
  std::vector<int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&x](int32_t a, int32_t b) {
    return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)];
  });
  if (slot.temperature == 0) return {{order[0], 1.0}};
  const double top = x[static_cast<size_t>(order[0])];
  std::vector<Candidate> candidates;
  for (const int32_t token : order) {
    const double logit = x[static_cast<size_t>(token)];
    candidates.push_back({token, logit == top ? 1 : std::exp((logit - top) / slot.temperature)});
  }
  if (slot.top_k > 0 && static_cast<size_t>(slot.top_k) < candidates.size()) {
    candidates.resize(static_cast<size_t>(slot.top_k));
  }
  const auto total = [&candidates] {
    return std::accumulate(candidates.begin(), candidates.end(), 0.0,
                           [](double sum, const Candidate& c) { return sum + c.probability; });
  };
  if (slot.top_p < 1) {
    const double enough = slot.top_p * total();
    double cumulative = 0;
    size_t keep = 0;
    do {
      cumulative += candidates[keep++].probability;
    } while (keep < candidates.size() && cumulative < enough);
    candidates.resize(keep);
  }
  std::erase_if(candidates, [&slot](const Candidate& c) { return c.probability < slot.min_p; });
  const double sum = total();
  for (Candidate& candidate : candidates) candidate.probability /= sum;
  return candidates;
}

int32_t InverseCdf(std::span<const Candidate> candidates, double draw) {
  double cumulative = 0;
  for (const Candidate& candidate : candidates) {
    cumulative += candidate.probability;
    if (cumulative > draw) return candidate.token;
  }
  return candidates.back().token;
}

}  // namespace sluice::reference
