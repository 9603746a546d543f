// The ops of Backend that only encoders and models of vectors use.
#include "base/check.h"
#include "kernels/cpu/backend.h"

namespace sluice::cpu {
namespace {

// Rows that one hand-out gives a thread where an item is a few microseconds of work.
constexpr int64_t kRowGrain = 4;

}  // namespace

void Backend::AddPositions(Vector positions, Vector types, std::span<const int32_t> token_types,
                           Tensor x) {
  SLUICE_CHECK(x.rows == batch_.num_tokens && token_types.size() == static_cast<size_t>(x.rows),
               "{} {}", x.rows, token_types.size());
  for (int32_t t = 0; t < x.rows; ++t) {
    const int64_t position = batch_.positions[t], type = token_types[static_cast<size_t>(t)];
    SLUICE_CHECK(
        (position + 1) * x.cols <= positions.size && type >= 0 && (type + 1) * x.cols <= types.size,
        "token {} of type {} at {}", t, type, position);
  }
  commands_.Add(kernels_.add_positions,
                AddPositionsArgs{&batch_, token_types.data(), positions.data, types.data, x.data,
                                 x.stride, x.cols},
                x.rows, kRowGrain);
}

void Backend::LayerNorm(Tensor x, Tensor residual, Vector weight, Vector bias, float eps,
                        Tensor out) {
  SLUICE_CHECK(
      x.cols == weight.size && x.cols == bias.size && x.cols == out.cols && x.rows == out.rows,
      "{} {} {}", x.cols, weight.size, out.cols);
  SLUICE_CHECK(residual.data == nullptr || (residual.rows == x.rows && residual.cols == x.cols),
               "{} x {}", residual.rows, residual.cols);
  commands_.Add(kernels_.layer_norm,
                LayerNormArgs{x.data, x.stride, residual.data, residual.stride, weight.data,
                              bias.data, eps, x.cols, out.data, out.stride},
                x.rows, kRowGrain);
}

void Backend::Gelu(Tensor x) {
  commands_.Add(kernels_.gelu, GeluArgs{x.data, x.stride, x.cols}, x.rows, kRowGrain);
}

void Backend::Pool(Tensor x, Pooling pooling, Tensor out) {
  SLUICE_CHECK(x.cols == out.cols && x.rows == batch_.num_tokens && out.rows == batch_.num_outputs,
               "{} {} {}", x.cols, x.rows, out.rows);
  commands_.Add(kernels_.pool,
                PoolArgs{&batch_, x.data, x.stride, x.cols, pooling, out.data, out.stride},
                out.rows);
}

}  // namespace sluice::cpu
