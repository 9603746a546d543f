// What only encoders and models of vectors use of SimpleOps.
#include <cmath>

#include "tests/model/simple_ops.h"

namespace sluice {

void SimpleOps::AddPositions(Vector positions, Vector types, std::span<const int32_t> token_types,
                             Tensor x) {
  for (int32_t t = 0; t < x.rows; ++t) {
    for (int32_t i = 0; i < x.cols; ++i) {
      x.row(t)[i] += positions.data[batch_.positions[t] * x.cols + i] +
                     types.data[token_types[static_cast<size_t>(t)] * x.cols + i];
    }
  }
}

void SimpleOps::LayerNorm(Tensor x, Tensor residual, Vector weight, Vector bias, float eps,
                          Tensor out) {
  for (int32_t r = 0; r < x.rows; ++r) {
    std::vector<double> y;
    double sum = 0, squares = 0;
    for (int32_t i = 0; i < x.cols; ++i) {
      y.push_back(double{x.row(r)[i]} + (residual.data != nullptr ? residual.row(r)[i] : 0));
      sum += y.back();
    }
    const double mean = sum / x.cols;
    for (const double v : y) squares += (v - mean) * (v - mean);
    for (int32_t i = 0; i < x.cols; ++i) {
      const double unit = (y[static_cast<size_t>(i)] - mean) / std::sqrt(squares / x.cols + eps);
      out.row(r)[i] = static_cast<float>(unit * weight.data[i] + bias.data[i]);
    }
  }
}

void SimpleOps::Gelu(Tensor x) {
  for (int32_t r = 0; r < x.rows; ++r) {
    for (int32_t i = 0; i < x.cols; ++i) {
      const double z = x.row(r)[i];
      x.row(r)[i] = static_cast<float>(z / 2 * (1 + std::erf(z / std::sqrt(2.0))));
    }
  }
}

void SimpleOps::Pool(Tensor x, Pooling pooling, Tensor out) {
  for (int32_t i = 0; i < batch_.num_outputs; ++i) {
    const int32_t row = batch_.output_rows[i];
    const int32_t begin = batch_.row_begin[row], end = batch_.row_begin[row + 1];
    for (int32_t c = 0; c < x.cols; ++c) {
      double sum = 0;
      for (int32_t t = begin; t < end; ++t) sum += x.row(t)[c];
      out.row(i)[c] = pooling == Pooling::kFirst  ? x.row(begin)[c]
                      : pooling == Pooling::kLast ? x.row(end - 1)[c]
                                                  : static_cast<float>(sum / (end - begin));
    }
  }
}

}  // namespace sluice
