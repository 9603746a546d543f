// The linear ops of Backend.
#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/adapter_factors.h"
#include "kernels/cpu/backend.h"

namespace sluice::cpu {
namespace {

// Panels that one hand-out gives a thread: about a microsecond of work, so that taking it (~50 ns)
// does not show. Float panels come in fours.
int64_t PanelGrain(Packing packing, int64_t cols, int64_t rows) {
  if (!IsQuantised(packing)) return 4;
  const int64_t memory_ns = cols * 16 / 30;               // up to a byte a weight at 30 GB/s
  const int64_t compute_ns = cols * 16 * 2 * rows / 340;  // at 340 GOP/s
  return std::clamp<int64_t>(1000 / std::max<int64_t>(std::max(memory_ns, compute_ns), 1), 1, 8);
}

}  // namespace

absl::StatusOr<Linear> Backend::LoadLinear(std::span<const WeightView> parts) {
  ASSIGN_OR_RETURN(PackedLinear packed, PackLinear(parts, arena_));
  linears_.push_back(std::make_unique<PackedLinear>(std::move(packed)));
  const PackedLinear& linear = *linears_.back();
  return Linear{linear.rows, linear.cols, &linear};
}

// Commands still in the list keep pointing at earlier, smaller buffers, so these stay in the arena;
// growing by half bounds what they take together.
bool Backend::ReserveQuantised(int64_t blocks) {
  if (blocks <= quantised_blocks_) return true;
  const int64_t wanted =
      (std::max(blocks, quantised_blocks_ + quantised_blocks_ / 2) + 63) / 64 * 64;
  absl::StatusOr<void*> memory = arena_.Allocate(wanted * (kBlock + 12));
  if (!memory.ok()) {
    Fail(memory.status());
    return false;
  }
  quantised_.q = static_cast<int8_t*>(*memory);
  quantised_.scale = reinterpret_cast<float*>(quantised_.q + wanted * kBlock);
  quantised_.scaled_sum = quantised_.scale + wanted;
  quantised_.half_sums = reinterpret_cast<int32_t*>(quantised_.scaled_sum + wanted);
  quantised_blocks_ = wanted;
  return true;
}

void Backend::MatMul(Tensor x, const Linear& w, Tensor residual, Tensor out) {
  const auto& linear = *static_cast<const PackedLinear*>(w.impl);
  SLUICE_CHECK(x.cols == linear.cols && out.cols == linear.rows && out.rows == x.rows,
               "W {} x {}, x {} x {}, out {} x {}", linear.rows, linear.cols, x.rows, x.cols,
               out.rows, out.cols);
  SLUICE_CHECK(residual.data == nullptr || (residual.rows == out.rows && residual.cols == out.cols),
               "residual {} x {}, out {} x {}", residual.rows, residual.cols, out.rows, out.cols);
  if (x.rows == 0) return;
  QuantisedRows rounded;
  if (std::ranges::any_of(linear.parts,
                          [](const PackedPart& part) { return IsQuantised(part.packing); })) {
    const int64_t blocks = int64_t{x.rows} * (x.cols / kBlock);
    const QuantiseArgs args{x.data, x.stride, x.rows, x.cols, {}};
    if (x.rows <= kPrivateRows && blocks * (kBlock + 12) <= kScratchBytes) {
      commands_.AddForEachThread(kernels_.quantise, args, x.rows);
    } else {
      if (!ReserveQuantised(blocks)) return;
      rounded = quantised_;
      QuantiseArgs shared = args;
      shared.out = rounded;
      commands_.Add(kernels_.quantise, shared, x.rows);
    }
  }
  for (const PackedPart& part : linear.parts) {
    MatMulArgs args{x.data,       x.stride, rounded, part.panels,
                    part.packing, x.rows,   x.cols,  part.rows};
    args.out = out.data + part.column;
    args.out_stride = out.stride;
    if (residual.data != nullptr) {
      args.residual = residual.data + part.column;
      args.residual_stride = residual.stride;
    }
    const int64_t panels = (part.rows + kPanelRows - 1) / kPanelRows;
    const int64_t chunks = (x.rows + kChunkRows - 1) / kChunkRows;
    commands_.Add(IsQuantised(part.packing) ? kernels_.matmul_quantised : kernels_.matmul_float,
                  args, panels * chunks,
                  PanelGrain(part.packing, x.cols, (x.rows + chunks - 1) / chunks));
  }
}

absl::StatusOr<Adapters> Backend::LoadAdapters(std::span<const AdapterView> adapters, int32_t rows,
                                               int32_t cols) {
  RETURN_IF_ERROR(CheckAdapters(adapters, rows, cols));
  auto loaded = std::make_unique<std::vector<AdapterFactors>>();
  for (const AdapterView& adapter : adapters) {
    AdapterFactors& factors = loaded->emplace_back();
    if (adapter.rank == 0) continue;
    factors.rank = adapter.rank;
    factors.scale = adapter.scale;
    for (const bool second : {false, true}) {
      const std::vector<float> values = AdapterFactor(second ? adapter.b : adapter.a, second);
      ASSIGN_OR_RETURN(void* memory, arena_.Allocate(static_cast<int64_t>(values.size()) * 4));
      std::copy(values.begin(), values.end(), static_cast<float*>(memory));
      (second ? factors.b : factors.a) = static_cast<const float*>(memory);
    }
  }
  adapters_.push_back(std::move(loaded));
  return Adapters{static_cast<int32_t>(adapters.size()), rows, cols, adapters_.back().get()};
}

void Backend::AddAdapters(Tensor x, const Adapters& adapters, Tensor out) {
  SLUICE_CHECK(x.rows == batch_.num_tokens && out.rows == x.rows && x.cols == adapters.cols &&
                   out.cols == adapters.rows,
               "x {} x {}, adapters {} x {}, out {} x {}", x.rows, x.cols, adapters.rows,
               adapters.cols, out.rows, out.cols);
  if (batch_.adapters == nullptr) return;
  for (int32_t r = 0; r < batch_.num_rows; ++r) {
    if (batch_.adapters[r] >= adapters.count) {
      return Fail(absl::InvalidArgumentError(fmt::format("row {} has adapter {}; there are {}", r,
                                                         batch_.adapters[r], adapters.count)));
    }
  }
  const auto& factors = *static_cast<const std::vector<AdapterFactors>*>(adapters.impl);
  commands_.Add(kernels_.add_adapters,
                AdapterArgs{&batch_, token_row_.data(), factors.data(), x.data, x.stride, x.cols,
                            out.cols, out.data, out.stride},
                x.rows);
}

}  // namespace sluice::cpu
