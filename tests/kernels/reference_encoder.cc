// Twins of the ops that only encoders and models of vectors use.
#include <cmath>

#include "tests/kernels/reference.h"

namespace sluice::reference {

std::vector<double> LayerNorm(const Tensor& x, const Tensor& residual,
                              std::span<const float> weight, std::span<const float> bias,
                              double eps) {
  std::vector<double> out;
  for (int32_t r = 0; r < x.rows; ++r) {
    std::vector<double> y;
    double mean = 0, variance = 0;
    for (int32_t i = 0; i < x.cols; ++i) {
      y.push_back(double{x.row(r)[i]} + (residual.data != nullptr ? residual.row(r)[i] : 0));
      mean += y.back() / x.cols;
    }
    for (const double v : y) variance += (v - mean) * (v - mean) / x.cols;
    for (size_t i = 0; i < y.size(); ++i)
      out.push_back((y[i] - mean) / std::sqrt(variance + eps) * weight[i] + bias[i]);
  }
  return out;
}

double Gelu(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }

std::vector<double> Pool(const Tensor& x, Pooling pooling) {
  std::vector<double> out;
  for (int32_t c = 0; c < x.cols; ++c) {
    double sum = 0;
    for (int32_t r = 0; r < x.rows; ++r) sum += x.row(r)[c];
    out.push_back(pooling == Pooling::kFirst  ? x.row(0)[c]
                  : pooling == Pooling::kLast ? x.row(x.rows - 1)[c]
                                              : sum / x.rows);
  }
  return out;
}

}  // namespace sluice::reference
