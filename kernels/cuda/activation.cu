// Elementwise ops, and rows as Halves; see ops.h for the formulas.
//
// Work: a block a row, a thread every 256th column; for the soft cap a block 4096 columns of a row.
// Bytes: 12 F a row of GateMul, 8 N of ScaleProduct and 2 F for its Halves or F for its e4m3; 6 K
// of ToHalves; 8 V of SoftCap; 16 D of AddGated. Bound by memory for many rows, by latency for few.
// Accumulation: none; each element is one chain of f32 operations. Sources: arXiv:1702.03118
// (silu), arXiv:1606.08415 (gelu), arXiv:2002.05202 section 2, Abramowitz and Stegun 7.1.26 (erf).
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {
namespace {

constexpr int32_t kChunk = 4096;  // columns of a row that one block caps

// x / (1 + e^-x)
SLUICE_DEVICE float Silu(float x) { return Divide(x, 1.0F + Exp(-x)); }
// x/2 (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3)
SLUICE_DEVICE float GeluTanh(float x) {
  const float inner = Fma(x * x, 0.044715F, 1.0F);
  return Divide(x, 1.0F + Exp(x * -1.5957691216F * inner));
}

// x/2 (1 + erf(x / sqrt 2)) by the upper tail of the normal distribution, t P(t) e^(-x^2/2) / 2,
// within 8e-8, so that nothing cancels below zero.
SLUICE_DEVICE float GeluErf(float x) {
  const float t = Divide(1.0F, Fma(Magnitude(x), 0.3275911F * 0.70710678F, 1.0F));
  float p = 0.5F * 1.061405429F;
  p = Fma(p, t, 0.5F * -1.453152027F);
  p = Fma(p, t, 0.5F * 1.421413741F);
  p = Fma(p, t, 0.5F * -0.284496736F);
  p = Fma(p, t, 0.5F * 0.254829592F);
  const float tail = x * (p * t * Exp(x * x * -0.5F));
  return x < 0 ? tail : x - tail;
}

SLUICE_KERNEL(kRowThreads) GateMulKernel(GateMulArgs args) {
  SLUICE_SHARED(float, warps, [kRowThreads / 32]);
  const auto row = static_cast<int32_t>(BlockIndex().x);
  const int32_t columns = args.out.cols;
  const float* gate = RowOf(args.gate_up, row);
  float* out = RowOf(args.out, row);
  float top = 0;
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < columns; i += kRowThreads) {
    const float z = gate[i];
    const float y =
        (args.activation == Activation::kSilu ? Silu(z) : GeluTanh(z)) * gate[columns + i];
    out[i] = y;
    top = Larger(top, Magnitude(y));
  }
  WriteForProduct(args.halves, args.fp8, row, out, columns, top, warps);
}

SLUICE_KERNEL(kRowThreads) ToHalvesKernel(Tensor x, Halves halves) {
  SLUICE_SHARED(float, warps, [kRowThreads / 32]);
  const auto row = static_cast<int32_t>(BlockIndex().x);
  const float* in = RowOf(x, row);
  float top = 0;
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < x.cols; i += kRowThreads)
    top = Larger(top, Magnitude(in[i]));
  WriteHalves(halves, row, in, x.cols, BlockMax(top, warps));
}

SLUICE_KERNEL(kRowThreads) SoftCapKernel(Tensor x, float cap, float inverse) {
  float* row = RowOf(x, BlockIndex().x);
  const int32_t begin = static_cast<int32_t>(BlockIndex().y) * kChunk;
  const int32_t end = x.cols - begin < kChunk ? x.cols : begin + kChunk;
  for (int32_t i = begin + static_cast<int32_t>(ThreadIndex().x); i < end; i += kRowThreads)
    row[i] = cap * Tanh(row[i] * inverse);
}

SLUICE_KERNEL(kRowThreads) ScaleProductKernel(ScaleProductArgs args) {
  const int64_t row = BlockIndex().x;
  float* out = RowOf(args.out, row);
  const float* residual =
      args.residual == nullptr ? nullptr : args.residual + row * args.residual_stride;
  const float scale = args.x_scale[row];
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < args.out.cols; i += kRowThreads) {
    const float y = out[i] * args.row_scale[i] * scale;
    out[i] = residual == nullptr ? y : y + residual[i];
  }
}

SLUICE_KERNEL(kRowThreads) GeluKernel(Tensor x) {
  float* row = RowOf(x, BlockIndex().x);
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < x.cols; i += kRowThreads)
    row[i] = GeluErf(row[i]);
}

SLUICE_KERNEL(kRowThreads) AddGatedKernel(Tensor x, Tensor gate, Tensor residual, Tensor out) {
  const int64_t row = BlockIndex().x;
  const float weight = Divide(1.0F, 1.0F + Exp(-*RowOf(gate, row)));
  const float* in = RowOf(x, row);
  const float* rest = RowOf(residual, row);
  float* to = RowOf(out, row);
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < x.cols; i += kRowThreads)
    to[i] = Fma(in[i], weight, rest[i]);
}

LaunchShape Rows(const Tensor& x) {
  return {.grid_x = static_cast<uint32_t>(x.rows), .threads = kRowThreads};
}

}  // namespace

cudaError_t GateMul(const GateMulArgs& args, cudaStream_t stream) {
  return Launch("gate_mul", &GateMulKernel, Rows(args.out), stream, args);
}
cudaError_t ToHalves(Tensor x, const Halves& halves, cudaStream_t stream) {
  return Launch("to_halves", &ToHalvesKernel, Rows(x), stream, x, halves);
}
cudaError_t SoftCap(Tensor x, float cap, cudaStream_t stream) {
  LaunchShape shape = Rows(x);
  shape.grid_y = static_cast<uint32_t>((x.cols + kChunk - 1) / kChunk);
  return Launch("soft_cap", &SoftCapKernel, shape, stream, x, cap, 1.0F / cap);
}
cudaError_t ScaleProduct(const ScaleProductArgs& args, cudaStream_t stream) {
  return Launch("scale_product", &ScaleProductKernel, Rows(args.out), stream, args);
}
cudaError_t Gelu(Tensor x, cudaStream_t stream) {
  return Launch("gelu", &GeluKernel, Rows(x), stream, x);
}
cudaError_t AddGated(Tensor x, Tensor gate, Tensor residual, Tensor out, cudaStream_t stream) {
  return Launch("add_gated", &AddGatedKernel, Rows(x), stream, x, gate, residual, out);
}

}  // namespace sluice::cuda
