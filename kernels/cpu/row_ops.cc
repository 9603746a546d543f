// The ops of Backend other than the linear ones: each checks its shapes and appends its command.
#include <fmt/format.h>

#include "base/check.h"
#include "kernels/cpu/backend.h"

namespace sluice::cpu {

int64_t Backend::KvBlockBytes(int32_t block_tokens, int32_t num_kv_heads, int32_t head_dim) const {
  return int64_t{2} * block_tokens * num_kv_heads * head_dim * 2;  // K and V, f16
}

absl::Status Backend::AllocateSlots(int32_t /*max_rows*/, int32_t /*vocab_size*/) {
  return absl::UnimplementedError("slots");
}

void Backend::InitSlot(const SlotView& /*slot*/) { Fail(absl::UnimplementedError("InitSlot")); }

void Backend::Embed(const WeightView& /*table*/, Tensor /*out*/) {
  Fail(absl::UnimplementedError("Embed"));
}

void Backend::RmsNorm(Tensor x, Vector weight, float eps, Tensor out) {
  SLUICE_CHECK(x.cols == weight.size && x.cols == out.cols, "{} {} {}", x.cols, weight.size,
               out.cols);
  commands_.Add(kernels_.rms_norm,
                RmsNormArgs{x.data, x.stride, weight.data, eps, x.cols, out.data, out.stride},
                x.rows);
}

void Backend::RopeAndStoreKv(Tensor /*qkv*/, int32_t /*num_q_heads*/, const RopeParams& /*rope*/,
                             const KvLayer& /*kv*/) {
  Fail(absl::UnimplementedError("RopeAndStoreKv"));
}

void Backend::Attention(Tensor /*q*/, int32_t /*num_q_heads*/, float /*scale*/,
                        const KvLayer& /*kv*/, Tensor /*out*/) {
  Fail(absl::UnimplementedError("Attention"));
}

void Backend::SiluMul(Tensor gate_up, Tensor out) {
  SLUICE_CHECK(gate_up.cols == 2 * out.cols, "{} {}", gate_up.cols, out.cols);
  commands_.Add(kernels_.silu_mul,
                SiluMulArgs{gate_up.data, gate_up.stride, out.cols, out.data, out.stride},
                out.rows);
}

void Backend::GatherOutputs(Tensor /*x*/, Tensor /*out*/) {
  Fail(absl::UnimplementedError("GatherOutputs"));
}

void Backend::Sample(Tensor /*logits*/, std::span<const int32_t> /*num_output_tokens*/,
                     std::span<SampleOut> /*out*/) {
  Fail(absl::UnimplementedError("Sample"));
}

}  // namespace sluice::cpu
