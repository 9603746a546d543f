// Elementwise ops: the gated product out[t,f] = act(gate_up[t,f]) * gate_up[t,F+f] with
// silu(z) = z / (1 + exp(-z)) or gelu(z) = z / (1 + exp(-2u)), u = sqrt(2/pi) (z + 0.044715 z^3);
// the soft cap x = cap * tanh(x / cap); out[t,i] = x[t,i] * sigmoid(gate[t]) + residual[t,i].
//
// Order: elementwise, f32, the functions of vec.h; the last one fma.
// Work: items are tokens, for the soft cap (row, chunk of columns) pairs: logits are few rows of
// many columns. Bytes: 12 * T * F, 8 * n * V, 12 * T * D.
// Bound by the exponential and the division: 22 cycles for 16 elements of silu measured on Zen 4
// while the tokens' 2F activations come from L2 or L3.
// Sources: arXiv:1702.03118 (silu), arXiv:1606.08415 (gelu), arXiv:2002.05202 section 2 (the gated
// product).
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

template <Activation kActivation>
SLUICE_INLINE F32x16 Activate(F32x16 x) {
  return kActivation == Activation::kSilu ? Silu(x) : GeluTanh(x);
}

template <Activation kActivation>
void GateMul(const GateMulArgs& args, int64_t begin, int64_t end) {
  const int32_t cols = args.cols;
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + cols;
    float* out = args.out + r * args.out_stride;
    int32_t i = 0;
    for (; i + kLanes <= cols; i += kLanes)
      Store(out + i, Activate<kActivation>(Load(gate + i)) * Load(up + i));
    if (i < cols) {
      const int n = cols - i;
      StoreFirst(out + i, Activate<kActivation>(LoadFirst(gate + i, n)) * LoadFirst(up + i, n), n);
    }
  }
}

}  // namespace

void GateMulRows(const GateMulArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  if (args.activation == Activation::kSilu) {
    GateMul<Activation::kSilu>(args, begin, end);
  } else {
    GateMul<Activation::kGeluTanh>(args, begin, end);
  }
}

void SoftCapChunks(const SoftCapArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  const F32x16 cap = Broadcast(args.cap);
  const F32x16 inverse = Broadcast(1.0F / args.cap);
  const int32_t chunks = (args.cols + kSoftCapChunk - 1) / kSoftCapChunk;
  for (int64_t item = begin; item < end; ++item) {
    const auto first = static_cast<int32_t>(item % chunks) * kSoftCapChunk;
    float* x = args.x + item / chunks * args.x_stride + first;
    const int32_t left = args.cols - first;
    const int32_t count = left < kSoftCapChunk ? left : kSoftCapChunk;
    int32_t i = 0;
    for (; i + kLanes <= count; i += kLanes) Store(x + i, SoftCapped(Load(x + i), cap, inverse));
    if (i < count)
      StoreFirst(x + i, SoftCapped(LoadFirst(x + i, count - i), cap, inverse), count - i);
  }
}

void AddGatedRows(const AddGatedArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t r = begin; r < end; ++r) {
    const F32x16 factor = Sigmoid(Broadcast(args.gate[r * args.gate_stride]));
    const float* x = args.x + r * args.x_stride;
    const float* residual = args.residual + r * args.residual_stride;
    float* out = args.out + r * args.out_stride;
    for (int32_t i = 0; i < args.cols; i += kLanes) {
      const int n = args.cols - i;
      StoreFirst(out + i, Fma(LoadFirst(x + i, n), factor, LoadFirst(residual + i, n)), n);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
