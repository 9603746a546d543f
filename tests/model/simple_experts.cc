// The mixture-of-experts ops of SimpleOps.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "tests/model/simple_ops.h"

namespace sluice {

absl::StatusOr<Experts> SimpleOps::LoadExperts(std::span<const WeightView> parts,
                                               int32_t num_experts) {
  const size_t each = parts.size() / static_cast<size_t>(num_experts);
  std::vector<Linear>& experts = experts_.emplace_back();
  for (size_t e = 0; e < static_cast<size_t>(num_experts); ++e)
    experts.push_back(*LoadLinear(parts.subspan(e * each, each)));
  return Experts{num_experts, experts[0].rows, experts[0].cols, &experts};
}

void SimpleOps::RouteExperts(Tensor logits, bool renormalise, const Routing& r) {
  for (int32_t t = 0; t < logits.rows; ++t) {
    const float* row = logits.row(t);
    std::vector<int32_t> order(logits.cols);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    double sum = 0;
    for (int32_t i = 0; i < (renormalise ? r.num_used : logits.cols); ++i)
      sum += std::exp(double{row[order[i]]});
    for (int32_t c = 0; c < r.num_used; ++c) {
      r.experts[t * r.num_used + c] = order[c];
      r.weights[t * r.num_used + c] = static_cast<float>(std::exp(double{row[order[c]]}) / sum);
    }
  }
  std::vector<int32_t> choices(static_cast<size_t>(logits.rows) * r.num_used);
  std::iota(choices.begin(), choices.end(), 0);
  std::ranges::stable_sort(choices, {}, [&](int32_t choice) { return r.experts[choice]; });
  for (size_t p = 0; p < choices.size(); ++p) {
    r.choice[p] = choices[p];
    r.place[choices[p]] = static_cast<int32_t>(p);
  }
}

void SimpleOps::GatherPlaces(Tensor x, const Routing& r, Tensor out) {
  for (int32_t p = 0; p < out.rows; ++p)
    std::memcpy(out.row(p), x.row(r.choice[p] / r.num_used), x.cols * sizeof(float));
}

void SimpleOps::ExpertMatMul(Tensor x, const Experts& w, const Routing& r, Tensor out) {
  const auto& experts = *static_cast<const std::vector<Linear>*>(w.impl);
  for (int32_t p = 0; p < x.rows; ++p) {
    const Tensor in{x.row(p), 1, x.cols, x.stride}, to{out.row(p), 1, out.cols, out.stride};
    MatMul(in, experts[static_cast<size_t>(r.experts[r.choice[p]])], {}, to);
  }
}

void SimpleOps::CombineExperts(Tensor x, const Routing& r, Tensor residual, Tensor out) {
  for (int32_t t = 0; t < out.rows; ++t) {
    for (int32_t i = 0; i < out.cols; ++i) {
      double sum = residual.data == nullptr ? 0 : residual.row(t)[i];
      for (int32_t j = t * r.num_used; j < (t + 1) * r.num_used; ++j)
        sum += double{r.weights[j]} * x.row(r.place[j])[i];
      out.row(t)[i] = static_cast<float>(sum);
    }
  }
}

void SimpleOps::AddGated(Tensor x, Tensor gate, Tensor residual, Tensor out) {
  for (int32_t t = 0; t < x.rows; ++t) {
    const double factor = 1 / (1 + std::exp(-double{gate.row(t)[0]}));
    for (int32_t i = 0; i < x.cols; ++i)
      out.row(t)[i] = static_cast<float>(factor * x.row(t)[i] + residual.row(t)[i]);
  }
}

}  // namespace sluice
