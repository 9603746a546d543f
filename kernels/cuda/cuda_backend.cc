// The ops of CudaBackend up to the logits: each checks its shapes and enqueues its launch.
#include "kernels/cuda/cuda_backend.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/kv_layout.h"

namespace sluice::cuda {
namespace {

// Rows of x from which on the tiled product does not waste most of its block.
constexpr int32_t kTiledRows = 64;

absl::Status CheckKv(const KvLayer& kv) {
  if (kv.head_dim < 1 || kv.head_dim > kMaxHeadDim) {
    return absl::InvalidArgumentError(
        fmt::format("head_dim is {}; the CUDA backend allows 1 to {}", kv.head_dim, kMaxHeadDim));
  }
  if (HasScales(kv.type) && kv.block_tokens % kScalesOfCopy != 0) {
    return absl::InvalidArgumentError(
        fmt::format("a KV block holds {} tokens; a KV cache of {} needs a multiple of {}",
                    kv.block_tokens, KvTypeName(kv.type), kScalesOfCopy));
  }
  return absl::OkStatus();
}

// Without x, residual and out.
LinearArgs ArgsOf(const DeviceMatrix& matrix, int32_t rows) {
  return {.format = matrix.format,
          .weights = matrix.weights,
          .row_scale = matrix.row_scale,
          .rows = matrix.rows,
          .columns = matrix.columns,
          .x = {},
          .num_x_rows = rows,
          .residual = nullptr,
          .residual_stride = 0,
          .out = nullptr,
          .out_stride = 0};
}

}  // namespace

Halves CudaBackend::NewHalvesOf(const Tensor& out) {
  if (HalvesColumns(out.cols) > max_columns_) return {};  // no matrix takes it
  const int64_t rows = BucketedRows(out.rows);
  if (rows * HalvesColumns(out.cols) > halves_memory_.size() || rows > halves_scale_.size()) {
    if (absl::Status status = ReserveHalves(rows); !status.ok()) {
      Fail(std::move(status));
      return {};
    }
  }
  halves_ = {halves_memory_.data(), halves_scale_.data(), HalvesColumns(out.cols)};
  halves_of_ = out.data;
  halves_rows_ = out.rows;
  if (fp8_of_ == out.data) fp8_of_ = nullptr;
  return halves_;
}

Halves CudaBackend::HalvesOf(const Tensor& x) {
  if (halves_of_ == x.data && halves_rows_ == x.rows && halves_.columns == HalvesColumns(x.cols))
    return halves_;
  const Halves halves = NewHalvesOf(x);
  Enqueue("to_halves", [&] { return ToHalves(Bucketed(x), halves, stream_); });
  return halves;
}

Fp8Rows CudaBackend::NewFp8Of(const Tensor& out) {
  if (absl::Status status = ReserveFp8(BucketedRows(out.rows)); !status.ok()) {
    Fail(std::move(status));
    return {};
  }
  fp8_ = {fp8_memory_.data(), fp8_scale_.data(), HalvesColumns(out.cols)};
  fp8_of_ = out.data;
  fp8_rows_ = out.rows;
  if (halves_of_ == out.data) halves_of_ = nullptr;
  return fp8_;
}

Fp8Rows CudaBackend::Fp8Of(const Tensor& x) {
  if (fp8_of_ == x.data && fp8_rows_ == x.rows && fp8_.columns == HalvesColumns(x.cols))
    return fp8_;
  const Fp8Rows fp8 = NewFp8Of(x);
  if (fp8.data == nullptr) return fp8;
  Enqueue("to_fp8", [&] { return ToFp8(Bucketed(x), fp8, stream_); });
  return fp8;
}

CudaBackend::ForProduct CudaBackend::NewForProductOf(const Tensor& out) {
  if (HalvesColumns(out.cols) <= max_fp8_columns_) return {.halves = {}, .fp8 = NewFp8Of(out)};
  return {.halves = NewHalvesOf(out), .fp8 = {}};
}

void CudaBackend::Wrote(const Tensor& out) {
  if (halves_of_ == out.data) halves_of_ = nullptr;
  if (fp8_of_ == out.data) fp8_of_ = nullptr;
}

void CudaBackend::Embed(const Table& table, float scale, Tensor out) {
  SLUICE_CHECK(
      table.impl != nullptr && table.file.cols == out.cols && out.rows == batch_.num_tokens,
      "{} {} {}", table.file.cols, out.cols, out.rows);
  for (int32_t t = 0; t < batch_.num_tokens; ++t) {
    if (batch_.tokens[t] >= table.file.rows) {
      return Fail(absl::InvalidArgumentError(fmt::format(
          "token id is {}; the embedding table has {} rows", batch_.tokens[t], table.file.rows)));
    }
  }
  const DeviceMatrix& matrix = static_cast<const DeviceLinear*>(table.impl)->parts[0];
  const EmbedArgs args{.table = ArgsOf(matrix, 0),
                       .batch = device_batch_,
                       .last_tokens = slots_.last_tokens,
                       .scale = scale,
                       .out = Bucketed(out)};
  Enqueue("embed", [&] { return cuda::Embed(args, stream_); });
  Wrote(out);
}

void CudaBackend::FlushHeadNorm() {
  if (head_norm_.weight == nullptr) return;
  const RmsNormArgs args{.x = Bucketed(head_norm_.x),
                         .weight = head_norm_.weight,
                         .eps = head_norm_.eps,
                         .group = head_norm_.group,
                         .residual = {},
                         .out = Bucketed(head_norm_.x),
                         .halves = {},
                         .fp8 = {}};
  head_norm_.weight = nullptr;
  Enqueue("rms_norm", [&] { return cuda::RmsNorm(args, stream_); });
}

void CudaBackend::RmsNorm(Tensor x, Vector weight, const NormParams& params, Tensor residual,
                          Tensor out) {
  const int32_t group = params.group > 0 ? params.group : x.cols;
  SLUICE_CHECK(
      x.cols == weight.size && x.cols == out.cols && x.rows == out.rows && x.cols % group == 0,
      "{} {} {} {}", x.cols, weight.size, out.cols, group);
  SLUICE_CHECK(residual.data == nullptr || (residual.rows == x.rows && residual.cols == x.cols),
               "{} x {}", residual.rows, residual.cols);
  FlushHeadNorm();
  Wrote(out);
  if (params.group > 0 && x.data == out.data && residual.data == nullptr) {
    head_norm_ = {x, weight.data, params.eps, group};  // until the rotation, or somebody else
    return;
  }
  const ForProduct also = group == x.cols ? NewForProductOf(out) : ForProduct{};
  const RmsNormArgs args{.x = Bucketed(x),
                         .weight = weight.data,
                         .eps = params.eps,
                         .group = group,
                         .residual = residual,
                         .out = Bucketed(out),
                         .halves = also.halves,
                         .fp8 = also.fp8};
  Enqueue("rms_norm", [&] { return cuda::RmsNorm(args, stream_); });
}

void CudaBackend::LayerNorm(Tensor x, Tensor residual, Vector weight, Vector bias, float eps,
                            Tensor out) {
  SLUICE_CHECK(
      x.cols == weight.size && x.cols == bias.size && x.cols == out.cols && x.rows == out.rows,
      "{} {} {} {}", x.cols, weight.size, bias.size, out.cols);
  const LayerNormArgs args{.x = Bucketed(x),
                           .residual = residual,
                           .weight = weight.data,
                           .bias = bias.data,
                           .eps = eps,
                           .out = Bucketed(out),
                           .halves = NewHalvesOf(out)};
  Enqueue("layer_norm", [&] { return cuda::LayerNorm(args, stream_); });
}

bool CudaBackend::MultiplyByBlas(const LinearArgs& args) {
  if (blas_ == nullptr || args.format != WeightFormat::kHalf || args.num_x_rows < kTiledRows ||
      mode_ != Mode::kPlain) {
    return false;
  }
  const BlasProduct product{.type = BlasType::kF16,
                            .m = args.num_x_rows,
                            .n = args.rows,
                            .k = args.columns,
                            .a = args.x.data,
                            .a_stride = args.columns,
                            .w = args.weights,
                            .w_stride = args.columns,
                            .d = args.out,
                            .d_stride = args.out_stride};
  // A residual in place would be overwritten before it is added.
  if (!Blas::Supports(product) || args.residual == args.out || !blas_->Prepare(product).ok())
    return false;
  if (!step().status.ok()) return true;
  if (absl::Status status = blas_->Enqueue(product, stream_); !status.ok()) {
    Fail(std::move(status));
    return true;
  }
  const ScaleProductArgs scale{{args.out, args.num_x_rows, args.rows, args.out_stride},
                               args.row_scale,
                               args.x.scale,
                               args.residual,
                               args.residual_stride};
  Enqueue("scale_product", [&] { return ScaleProduct(scale, stream_); });
  return true;
}

cudaError_t CudaBackend::MultiplyTiled(const LinearArgs& args) {
  TiledRanges ranges{.sums = tiled_sums_, .arrived = tiled_arrived_};
  if (tiled_sums_ != nullptr) ranges.count = TiledRangesFor(args, device_.multiprocessors);
  return LinearTiled(args, ranges, stream_);
}

void CudaBackend::Multiply(const DeviceMatrix& part, const Tensor& x, LinearArgs args) {
  if (part.fp8_inputs) {
    const Fp8Rows rows = Fp8Of(x);
    return Enqueue("linear_fp8", [&] { return LinearFp8(args, rows, stream_); });
  }
  args.x = HalvesOf(x);
  if (args.begin == nullptr && MultiplyByBlas(args)) return;
  const bool tiled =
      !options_.deterministic && args.num_x_rows >= kTiledRows && args.begin == nullptr;
  Enqueue("linear", [&] { return tiled ? MultiplyTiled(args) : LinearRows(args, stream_); });
}

void CudaBackend::MatMul(Tensor x, const Linear& w, Tensor residual, Tensor out) {
  const auto& linear = *static_cast<const DeviceLinear*>(w.impl);
  SLUICE_CHECK(x.cols == w.cols && out.cols == w.rows && out.rows == x.rows,
               "W {} x {}, x {} x {}, out {} x {}", w.rows, w.cols, x.rows, x.cols, out.rows,
               out.cols);
  SLUICE_CHECK(residual.data == nullptr || (residual.rows == out.rows && residual.cols == out.cols),
               "residual {} x {}, out {} x {}", residual.rows, residual.cols, out.rows, out.cols);
  if (x.rows == 0) return;
  FlushHeadNorm();
  for (const DeviceMatrix& part : linear.parts) {
    LinearArgs args = ArgsOf(part, BucketedRows(x.rows));
    args.out = out.data + part.first_column;
    args.out_stride = out.stride;
    if (residual.data != nullptr) args.residual = residual.data + part.first_column;
    args.residual_stride = residual.stride;
    Multiply(part, x, args);
  }
  Wrote(out);
}

void CudaBackend::AddAdapters(Tensor x, const Adapters& adapters, Tensor out) {
  SLUICE_CHECK(x.rows == batch_.num_tokens && out.rows == x.rows && x.cols == adapters.cols &&
                   out.cols == adapters.rows,
               "x {} x {}, adapters {} x {}, out {} x {}", x.rows, x.cols, adapters.rows,
               adapters.cols, out.rows, out.cols);
  for (int32_t r = 0; r < batch_.num_rows && batch_.adapters != nullptr; ++r) {
    if (batch_.adapters[r] >= adapters.count) {
      return Fail(absl::InvalidArgumentError(fmt::format("row {} has adapter {}; there are {}", r,
                                                         batch_.adapters[r], adapters.count)));
    }
  }
  // Also where no row has one: a graph stands for steps in which rows do.
  const auto& loaded = *static_cast<const DeviceAdapters*>(adapters.impl);
  if (loaded.max_rank == 0) return;
  FlushHeadNorm();
  const AdapterArgs args{.batch = device_batch_,
                         .adapters = loaded.adapters,
                         .max_rank = loaded.max_rank,
                         .halfs = loaded.halfs,
                         .x = Bucketed(x),
                         .shrunk = shrunk_.data(),
                         .out = Bucketed(out)};
  Enqueue("add_adapters", [&] { return cuda::AddAdapters(args, stream_); });
  Wrote(out);
}

void CudaBackend::RopeAndStoreKv(Tensor qkv, int32_t num_q_heads, const RopeParams& rope,
                                 const KvLayer& kv) {
  if (absl::Status status = CheckKv(kv); !status.ok()) return Fail(std::move(status));
  SLUICE_CHECK(qkv.cols == (num_q_heads + 2 * kv.num_kv_heads) * kv.head_dim &&
                   qkv.rows == batch_.num_tokens,
               "{} {}", qkv.cols, qkv.rows);
  SLUICE_CHECK(rope.rope_dim >= 0 && rope.rope_dim % 2 == 0 && rope.rope_dim <= kv.head_dim, "{}",
               rope.rope_dim);
  RopeArgs args{.batch = device_batch_,
                .qkv = Bucketed(qkv),
                .num_q_heads = num_q_heads,
                .rope = rope,
                .kv = kv,
                .qk_norm = nullptr,
                .eps = 0};
  if (head_norm_.weight != nullptr && head_norm_.x.data == qkv.data &&
      head_norm_.group == kv.head_dim &&
      head_norm_.x.cols == (num_q_heads + kv.num_kv_heads) * kv.head_dim) {
    args.qk_norm = head_norm_.weight;
    args.eps = head_norm_.eps;
    head_norm_.weight = nullptr;
  }
  FlushHeadNorm();
  Enqueue("rope_and_store_kv", [&] { return cuda::RopeAndStoreKv(args, stream_); });
  Wrote(qkv);
}

void CudaBackend::Attention(Tensor q, int32_t num_q_heads, const AttentionParams& params,
                            const KvLayer& kv, Tensor out) {
  if (absl::Status status = CheckKv(kv); !status.ok()) return Fail(std::move(status));
  SLUICE_CHECK(q.cols == num_q_heads * kv.head_dim && out.cols == q.cols &&
                   q.rows == batch_.num_tokens && num_q_heads % kv.num_kv_heads == 0,
               "{} {} {}", q.cols, out.cols, q.rows);
  const AttentionShape shape{num_q_heads, kv.num_kv_heads, kv.head_dim, params.window, kv.type};
  AttentionArgs args{.batch = device_batch_,
                     .plan = PlanOf(shape),
                     .q = q,
                     .num_q_heads = num_q_heads,
                     .params = params,
                     .kv = kv,
                     .partials = partials_.data(),
                     .ended = ended_.data(),
                     .out = out,
                     .halves = {}};
  Wrote(out);
  // Halves are whole tiles of 64 columns; what a row lacks, nobody would write.
  if (out.cols % kHalvesTile == 0) args.halves = NewHalvesOf(out);
  Enqueue("attention", [&] { return cuda::Attention(args, stream_); });
}

void CudaBackend::GateMul(Tensor gate_up, Activation activation, Tensor out) {
  SLUICE_CHECK(gate_up.cols == 2 * out.cols && gate_up.rows == out.rows, "{} {} {} {}",
               gate_up.cols, out.cols, gate_up.rows, out.rows);
  const auto [halves, fp8] = NewForProductOf(out);
  const GateMulArgs args{Bucketed(gate_up), activation, Bucketed(out), halves, fp8};
  Enqueue("gate_mul", [&] { return cuda::GateMul(args, stream_); });
}

void CudaBackend::SoftCap(Tensor x, float cap) {
  Wrote(x);
  Enqueue("soft_cap", [&] { return cuda::SoftCap(Bucketed(x), cap, stream_); });
}

void CudaBackend::RouteExperts(Tensor logits, bool renormalise, const Routing& routing) {
  SLUICE_CHECK(logits.cols == routing.num_experts && routing.num_experts <= kMaxExperts &&
                   routing.num_used >= 1 && routing.num_used <= routing.num_experts,
               "{} {} {}", logits.cols, routing.num_experts, routing.num_used);
  max_choices_ = std::max(max_choices_, routing.num_used);
  Enqueue("route_experts",
          [&] { return cuda::RouteExperts(Bucketed(logits), renormalise, routing, stream_); });
}

void CudaBackend::GatherPlaces(Tensor x, const Routing& routing, Tensor out) {
  SLUICE_CHECK(x.rows * routing.num_used == out.rows && x.cols == out.cols, "{} {} {} {}", x.rows,
               out.rows, x.cols, out.cols);
  Wrote(out);
  Enqueue("gather_places",
          [&] { return cuda::GatherPlaces(Bucketed(x), routing, Bucketed(out), stream_); });
}

void CudaBackend::ExpertMatMul(Tensor x, const Experts& w, const Routing& routing, Tensor out) {
  SLUICE_CHECK(x.cols == w.cols && out.cols == w.rows && out.rows == x.rows &&
                   w.num_experts == routing.num_experts && x.rows % routing.num_used == 0,
               "W {} x {}, x {} x {}, out {} x {}", w.rows, w.cols, x.rows, x.cols, out.rows,
               out.cols);
  if (x.rows == 0) return;
  for (const DeviceMatrix& part : static_cast<const DeviceLinear*>(w.impl)->parts) {
    LinearArgs args = ArgsOf(part, BucketedRows(x.rows));
    args.out = out.data + part.first_column;
    args.out_stride = out.stride;
    args.begin = routing.begin;
    args.active = routing.active;
    args.expert_bytes = part.expert_bytes;
    args.max_active = std::min(routing.num_experts, args.num_x_rows);
    Multiply(part, x, args);
  }
  Wrote(out);
}

void CudaBackend::CombineExperts(Tensor x, const Routing& routing, Tensor residual, Tensor out) {
  SLUICE_CHECK(
      out.rows * routing.num_used == x.rows && x.cols == out.cols &&
          (residual.data == nullptr || (residual.rows == out.rows && residual.cols == out.cols)),
      "{} {} {} {}", out.rows, x.rows, x.cols, out.cols);
  Wrote(out);
  Enqueue("combine_experts", [&] {
    return cuda::CombineExperts(Bucketed(x), routing, residual, Bucketed(out), stream_);
  });
}

void CudaBackend::AddGated(Tensor x, Tensor gate, Tensor residual, Tensor out) {
  SLUICE_CHECK(gate.cols == 1 && gate.rows == x.rows && residual.rows == x.rows &&
                   residual.cols == x.cols && out.rows == x.rows && out.cols == x.cols,
               "x {} x {}, gate {} x {}, out {} x {}", x.rows, x.cols, gate.rows, gate.cols,
               out.rows, out.cols);
  Wrote(out);
  Enqueue("add_gated",
          [&] { return cuda::AddGated(Bucketed(x), gate, residual, Bucketed(out), stream_); });
}

void CudaBackend::AddPositions(Vector positions, Vector types, std::span<const int32_t> token_types,
                               Tensor x) {
  SLUICE_CHECK(static_cast<int32_t>(token_types.size()) == x.rows && x.rows == batch_.num_tokens,
               "{} {}", token_types.size(), x.rows);
  const auto bytes = static_cast<int64_t>(token_types.size_bytes());
  if (!GrowUpdates(bytes)) return;
  UploadTo(update_memory_.data(), token_types.data(), bytes);
  const AddPositionsArgs args{positions.data, types.data,
                              reinterpret_cast<const int32_t*>(update_memory_.data()),
                              device_batch_, x};
  Wrote(x);
  Enqueue("add_positions", [&] { return cuda::AddPositions(args, stream_); });
}

void CudaBackend::Gelu(Tensor x) {
  Wrote(x);
  Enqueue("gelu", [&] { return cuda::Gelu(Bucketed(x), stream_); });
}

void CudaBackend::Pool(Tensor x, Pooling pooling, Tensor out) {
  SLUICE_CHECK(x.rows == batch_.num_tokens && out.rows == batch_.num_outputs && x.cols == out.cols,
               "{} {} {} {}", x.rows, out.rows, x.cols, out.cols);
  Wrote(out);
  Enqueue("pool", [&] { return cuda::Pool(x, pooling, device_batch_, Bucketed(out), stream_); });
}

void CudaBackend::GatherOutputs(Tensor x, Tensor out) {
  SLUICE_CHECK(x.rows == batch_.num_tokens && out.rows == batch_.num_outputs && x.cols == out.cols,
               "{} {} {} {}", x.rows, out.rows, x.cols, out.cols);
  Wrote(out);
  Enqueue("gather_outputs",
          [&] { return cuda::GatherOutputs(x, device_batch_, Bucketed(out), stream_); });
}

}  // namespace sluice::cuda
