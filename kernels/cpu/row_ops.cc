// The ops of Backend other than the linear ones: each checks its shapes and appends its command.
#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/kv_layout.h"

namespace sluice::cpu {
namespace {

static_assert(Backend::kScratchBytes >= int64_t{kMaxVocab} * 16);

// Rows that one hand-out gives a thread where an item is a few microseconds of work.
constexpr int64_t kRowGrain = 4;

absl::Status CheckKv(const KvLayer& kv) {
  if (kv.head_dim < 1 || kv.head_dim > kMaxHeadDim) {
    return absl::InvalidArgumentError(
        fmt::format("head_dim is {}; the CPU backend allows 1 to {}", kv.head_dim, kMaxHeadDim));
  }
  if (kv.type != KvType::kF16) {
    return absl::InvalidArgumentError(
        fmt::format("a KV cache of {}; the CPU backend has f16", KvTypeName(kv.type)));
  }
  if (kv.block_tokens < 1 || kv.block_tokens % kKvSubBlock != 0) {
    return absl::InvalidArgumentError(
        fmt::format("a KV block holds {} tokens; the CPU backend needs a multiple of {}",
                    kv.block_tokens, kKvSubBlock));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t Backend::KvBlockBytes(const KvLayer& kv) const {
  const int64_t sub_blocks = (int64_t{kv.block_tokens} + kKvSubBlock - 1) / kKvSubBlock;
  return sub_blocks * kv.num_kv_heads * KvSubBlockSize(kv.head_dim) *
         static_cast<int64_t>(sizeof(uint16_t));
}

absl::Status Backend::AllocateSlots(int32_t max_rows, int32_t vocab_size) {
  return slots_.Allocate(max_rows, vocab_size);
}

// The previous step is over, so the slot is nobody's: no command is needed.
void Backend::InitSlot(const SlotView& slot) {
  if (const absl::Status status = slots_.Init(slot); !status.ok()) Fail(status);
}

void Backend::Embed(const Table& from, float scale, Tensor out) {
  const WeightView& table = from.file;
  SLUICE_CHECK(table.cols == out.cols && out.rows == batch_.num_tokens, "{} {} {}", table.cols,
               out.cols, out.rows);
  SLUICE_CHECK(table.source == nullptr, "an embedding of {} rows was not made", table.rows);
  for (int32_t t = 0; t < batch_.num_tokens; ++t) {
    if (batch_.tokens[t] >= table.rows) {
      return Fail(absl::InvalidArgumentError(fmt::format(
          "token id is {}; the embedding table has {} rows", batch_.tokens[t], table.rows)));
    }
  }
  commands_.Add(kernels_.embed,
                EmbedArgs{table, table.row_bytes(), &batch_, token_row_.data(),
                          slots_.last_tokens(), scale, out.data, out.stride},
                out.rows);
}

void Backend::RmsNorm(Tensor x, Vector weight, const NormParams& params, Tensor residual,
                      Tensor out) {
  const int32_t group = params.group > 0 ? params.group : x.cols;
  SLUICE_CHECK(
      x.cols == weight.size && x.cols == out.cols && x.rows == out.rows && x.cols % group == 0,
      "{} {} {} {}", x.cols, weight.size, out.cols, group);
  SLUICE_CHECK(residual.data == nullptr || (residual.rows == x.rows && residual.cols == x.cols),
               "{} x {}", residual.rows, residual.cols);
  commands_.Add(kernels_.rms_norm,
                RmsNormArgs{x.data, x.stride, weight.data, params.eps, x.cols, group, residual.data,
                            residual.stride, out.data, out.stride},
                x.rows, kRowGrain);
}

void Backend::RopeAndStoreKv(Tensor qkv, int32_t num_q_heads, const RopeParams& rope,
                             const KvLayer& kv) {
  if (const absl::Status status = CheckKv(kv); !status.ok()) return Fail(status);
  SLUICE_CHECK(qkv.cols == (num_q_heads + 2 * kv.num_kv_heads) * kv.head_dim &&
                   qkv.rows == batch_.num_tokens,
               "{} {}", qkv.cols, qkv.rows);
  SLUICE_CHECK(rope.rope_dim >= 0 && rope.rope_dim % 2 == 0 && rope.rope_dim <= kv.head_dim, "{}",
               rope.rope_dim);
  RopeStoreKvArgs args;
  args.batch = &batch_;
  args.token_row = token_row_.data();
  args.qkv = qkv.data;
  args.stride = qkv.stride;
  args.num_q_heads = num_q_heads;
  args.rope_dim = rope.rope_dim;
  args.interleaved = rope.interleaved;
  args.cos = rope.cos;
  args.sin = rope.sin;
  args.kv = kv;
  commands_.Add(kernels_.rope_store_kv, args, qkv.rows, kRowGrain);
}

void Backend::Attention(Tensor q, int32_t num_q_heads, const AttentionParams& params,
                        const KvLayer& kv, Tensor out) {
  if (const absl::Status status = CheckKv(kv); !status.ok()) return Fail(status);
  SLUICE_CHECK(q.cols == num_q_heads * kv.head_dim && out.cols == q.cols &&
                   q.rows == batch_.num_tokens && num_q_heads % kv.num_kv_heads == 0,
               "{} {} {}", q.cols, out.cols, q.rows);
  const AttentionPlan& plan = attention_plans_.Get(
      batch_,
      {num_q_heads / kv.num_kv_heads, kv.num_kv_heads, kv.head_dim, params.window, params.causal},
      pool_->num_threads());
  AttentionArgs args;
  args.batch = &batch_;
  args.tiles = plan.tiles.data();
  args.num_tiles = static_cast<int32_t>(plan.tiles.size());
  args.partials = plan.split ? attention_plans_.partials() : nullptr;
  args.q = q.data;
  args.q_stride = q.stride;
  args.num_q_heads = num_q_heads;
  args.params = params;
  args.kv = kv;
  args.out = out.data;
  args.out_stride = out.stride;
  const int64_t num_items = int64_t{args.num_tiles} * kv.num_kv_heads;
  commands_.Add(kernels_.attention, args, num_items);
  if (args.partials != nullptr) commands_.Add(kernels_.combine_partitions, args, num_items);
}

void Backend::GateMul(Tensor gate_up, Activation activation, Tensor out) {
  SLUICE_CHECK(gate_up.cols == 2 * out.cols && gate_up.rows == out.rows, "{} {}", gate_up.cols,
               out.cols);
  commands_.Add(
      kernels_.gate_mul,
      GateMulArgs{gate_up.data, gate_up.stride, out.cols, activation, out.data, out.stride},
      out.rows);
}

void Backend::SoftCap(Tensor x, float cap) {
  SLUICE_CHECK(cap > 0, "{}", cap);
  const int64_t chunks = (x.cols + kSoftCapChunk - 1) / kSoftCapChunk;
  commands_.Add(kernels_.soft_cap, SoftCapArgs{x.data, x.stride, x.cols, cap}, x.rows * chunks);
}

void Backend::GatherOutputs(Tensor x, Tensor out) {
  SLUICE_CHECK(x.cols == out.cols && out.rows == batch_.num_outputs, "{} {} {}", x.cols, out.cols,
               out.rows);
  commands_.Add(kernels_.gather,
                GatherArgs{&batch_, x.data, x.stride, x.cols, out.data, out.stride}, out.rows,
                kRowGrain);
}

void Backend::Sample(Tensor logits, std::span<const int32_t> num_output_tokens,
                     std::span<SampleOut> out) {
  const auto num_outputs = static_cast<size_t>(batch_.num_outputs);
  SLUICE_CHECK(logits.rows == batch_.num_outputs && num_output_tokens.size() == num_outputs &&
                   out.size() == num_outputs && logits.cols == slots_.vocab_size(),
               "{} {} {}", logits.rows, logits.cols, slots_.vocab_size());
  commands_.Add(kernels_.sample,
                SampleArgs{&batch_, logits.data, logits.stride, logits.cols,
                           num_output_tokens.data(), out.data(), slots_.slots()},
                logits.rows);
}

void Backend::Read(Tensor x, float* out) {
  struct Copy {
    Tensor x;
    float* out;
  };
  const auto copy = [](const Copy& args, int64_t begin, int64_t end, const Worker&) {
    for (int64_t r = begin; r < end; ++r)
      std::copy_n(args.x.row(r), args.x.cols, args.out + r * args.x.cols);
  };
  commands_.Add<Copy>(copy, {x, out}, x.rows, kRowGrain);
}

}  // namespace sluice::cpu
