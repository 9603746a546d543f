// Experts: chosen by their logits, their choices sorted, products with their matrices, and the
// sums.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cuda/packed_weights.h"
#include "tests/cuda/device_fixture.h"
#include "tests/cuda/product_case.h"

namespace sluice::cuda {
namespace {

class ExpertKernels : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Seeds, ExpertKernels, ::testing::Values(0, 1, 2));

struct DeviceRouting {
  DeviceRouting(int num_experts, int num_used, int tokens)
      : num_experts(num_experts), num_used(num_used), num_choices(size_t(tokens) * num_used) {}
  [[nodiscard]] Routing routing() const {
    return {num_experts,  num_used,      experts.data(), weights.data(),
            place.data(), choice.data(), begin.data(),   active.data()};
  }
  int num_experts, num_used;
  size_t num_choices;
  DeviceArray<int32_t> experts{num_choices}, place{num_choices}, choice{num_choices};
  DeviceArray<int32_t> begin{size_t(num_experts) + 1}, active{size_t(num_experts) + 1};
  DeviceArray<float> weights{num_choices};
};

TEST_P(ExpertKernels, ExpertsAreChosenSortedAppliedAndSummed) {
  constexpr int kExperts = 40, kUsed = 3, kTokens = 45, kN = 24, kK = 64;
  const auto logit = [](int t, int e) {  // Some experts get more tokens than a block takes at once.
    return static_cast<float>((t % 5 * 17 + e * 23) % 41);
  };
  const DeviceTensor logits(kTokens, kExperts, logit);
  for (const bool renormalise : {true, false}) {
    const DeviceRouting device(kExperts, kUsed, kTokens);
    const Routing routing = device.routing();
    ASSERT_EQ(RouteExperts(logits.tensor(), renormalise, routing, nullptr), cudaSuccess);

    std::vector<std::pair<int, int>> by_expert;  // expert, choice
    std::vector<double> weights;
    for (int t = 0; t < kTokens; ++t) {
      std::vector<int> order(kExperts);
      for (int e = 0; e < kExperts; ++e) order[e] = e;
      std::ranges::stable_sort(order, [&](int a, int b) { return logit(t, a) > logit(t, b); });
      double sum = 0;
      for (int c = 0; c < (renormalise ? kUsed : kExperts); ++c)
        sum += std::exp(logit(t, order[c]));
      for (int c = 0; c < kUsed; ++c) {
        by_expert.emplace_back(order[c], t * kUsed + c);
        weights.push_back(std::exp(logit(t, order[c])) / sum);
      }
    }
    std::ranges::sort(by_expert);
    const std::vector<float> got_weights = device.weights.Read();
    for (size_t j = 0; j < weights.size(); ++j) ASSERT_NEAR(got_weights[j], weights[j], 1e-6) << j;
    const std::vector<int32_t> choice = device.choice.Read(), place = device.place.Read();
    for (size_t p = 0; p < by_expert.size(); ++p) {
      ASSERT_EQ(choice[p], by_expert[p].second);
      ASSERT_EQ(place[choice[p]], static_cast<int32_t>(p));
    }

    PackedWeights all;
    size_t expert_bytes = 0;
    for (int e = 0; e < kExperts; ++e) {  // expert e is the matrix times e + 1
      std::vector<float> values;
      for (int i = 0; i < kN * kK; ++i)
        values.push_back(static_cast<float>(Weight(i / kK, i % kK) * (e + 1)));
      PackedWeights packed =
          PackWeights({.dtype = DType::kF32, .rows = kN, .cols = kK, .data = values.data()});
      expert_bytes = packed.tiles.size();
      packed.tiles.insert(packed.tiles.begin(), all.tiles.begin(), all.tiles.end());
      packed.row_scale.insert(packed.row_scale.begin(), all.row_scale.begin(), all.row_scale.end());
      all = std::move(packed);
    }
    const DeviceMatrix matrix(all);
    const int places = kTokens * kUsed;
    const DeviceHalves x(places, kK, X);
    const DeviceTensor out(places, kN);
    LinearArgs args = matrix.Product(x, places, out.tensor().data, out.tensor().stride);
    args.begin = routing.begin;
    args.active = routing.active;
    args.expert_bytes = static_cast<int64_t>(expert_bytes);
    args.max_active = std::min(kExperts, places);
    ASSERT_EQ(LinearRows(args, nullptr), cudaSuccess);
    const std::vector<float> got = out.Read();
    for (int p = 0; p < places; ++p) {
      for (int n = 0; n < kN; ++n) {
        float sum = 0;
        for (int k = 0; k < kK; ++k) sum += static_cast<float>(Weight(n, k)) * X(p, k);
        ASSERT_EQ(got[static_cast<size_t>(p) * kN + n],
                  sum * static_cast<float>(by_expert[p].first + 1))
            << p << ", " << n;
      }
    }

    const DeviceTensor rest(kTokens, kN, Rest), combined(kTokens, kN);
    ASSERT_EQ(CombineExperts(out.tensor(), routing, rest.tensor(), combined.tensor(), nullptr),
              cudaSuccess);
    const std::vector<float> sums = combined.Read();
    for (int t = 0; t < kTokens; ++t) {
      for (int n = 0; n < kN; ++n) {
        double sum = Rest(t, n), magnitude = std::abs(sum);
        for (int c = 0; c < kUsed; ++c) {
          const double term =
              weights[t * kUsed + c] * got[static_cast<size_t>(place[t * kUsed + c]) * kN + n];
          sum += term;
          magnitude += std::abs(term);
        }
        ASSERT_NEAR(sums[static_cast<size_t>(t) * kN + n], sum, 2e-6 * magnitude) << t << ", " << n;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::cuda
