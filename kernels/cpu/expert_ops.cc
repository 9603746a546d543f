// The mixture-of-experts ops of Backend. Which experts are chosen is known only while the commands
// run, so these are made for the most there can be: places for every choice, and items for as many
// experts as there are choices.
#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/cpu/backend.h"

namespace sluice::cpu {
namespace {

constexpr int64_t kRowGrain = 4;

bool SameParts(const PackedLinear& a, const PackedLinear& b) {
  return a.cols == b.cols && std::ranges::equal(a.parts, b.parts, [](const auto& x, const auto& y) {
           return x.packing == y.packing && x.rows == y.rows;
         });
}

void CheckPlaces(const Tensor& x, const Routing& routing, const Tensor& places) {
  SLUICE_CHECK(x.rows * routing.num_used == places.rows, "{} rows choose {} each; {} places",
               x.rows, routing.num_used, places.rows);
}

}  // namespace

absl::StatusOr<Experts> Backend::LoadExperts(std::span<const WeightView> parts,
                                             int32_t num_experts) {
  if (num_experts < 1 || num_experts > kMaxExperts || parts.empty() ||
      parts.size() % static_cast<size_t>(num_experts) != 0) {
    return absl::InvalidArgumentError(
        fmt::format("{} weights for {} experts; the CPU backend allows 1 to {} experts of equally "
                    "many weights",
                    parts.size(), num_experts, kMaxExperts));
  }
  const size_t parts_each = parts.size() / static_cast<size_t>(num_experts);
  auto experts = std::make_unique<PackedExperts>();
  PackedLinear first;
  for (int32_t e = 0; e < num_experts; ++e) {
    ASSIGN_OR_RETURN(
        PackedLinear packed,
        PackLinear(parts.subspan(static_cast<size_t>(e) * parts_each, parts_each), arena_));
    if (e == 0) {
      for (const PackedPart& part : packed.parts)
        experts->parts.push_back({part.packing, part.rows, part.column, {}});
      first = packed;
    }
    if (!SameParts(first, packed)) {
      return absl::InvalidArgumentError(
          fmt::format("expert {} differs from expert 0 in shape or type", e));
    }
    for (size_t i = 0; i < packed.parts.size(); ++i)
      experts->parts[i].panels.push_back(packed.parts[i].panels);
  }
  experts_.push_back(std::move(experts));
  return Experts{num_experts, first.rows, first.cols, experts_.back().get()};
}

void Backend::RouteExperts(Tensor logits, bool renormalise, const Routing& routing) {
  SLUICE_CHECK(logits.cols == routing.num_experts && routing.num_experts <= kMaxExperts &&
                   routing.num_used >= 1 && routing.num_used <= routing.num_experts,
               "{} {} {}", logits.cols, routing.num_experts, routing.num_used);
  const RouteArgs args{logits.data, logits.stride, logits.rows, renormalise, routing};
  commands_.Add(kernels_.choose_experts, args, logits.rows, kRowGrain);
  commands_.Add(kernels_.group_by_expert, args, 1);
}

void Backend::GatherPlaces(Tensor x, const Routing& routing, Tensor out) {
  CheckPlaces(x, routing, out);
  SLUICE_CHECK(x.cols == out.cols, "{} {}", x.cols, out.cols);
  commands_.Add(kernels_.gather_places,
                GatherPlacesArgs{x.data, x.stride, x.cols, routing, out.data, out.stride}, out.rows,
                kRowGrain);
}

void Backend::ExpertMatMul(Tensor x, const Experts& w, const Routing& routing, Tensor out) {
  SLUICE_CHECK(x.cols == w.cols && out.cols == w.rows && out.rows == x.rows &&
                   w.num_experts == routing.num_experts && x.rows % routing.num_used == 0,
               "W {} x {}, x {} x {}, out {} x {}", w.rows, w.cols, x.rows, x.cols, out.rows,
               out.cols);
  if (x.rows == 0) return;
  const auto& experts = *static_cast<const PackedExperts*>(w.impl);
  QuantisedRows rounded;
  if (std::ranges::any_of(experts.parts,
                          [](const auto& part) { return IsQuantised(part.packing); })) {
    if (!ReserveQuantised(int64_t{x.rows} * (x.cols / kBlock))) return;
    rounded = quantised_;
    commands_.Add(kernels_.quantise_places,
                  QuantisePlacesArgs{x.data, x.stride, x.cols, routing, rounded}, x.rows);
  }
  for (const PackedExpertsPart& part : experts.parts) {
    ExpertMatMulArgs args;
    args.x = x.data;
    args.x_stride = x.stride;
    args.quantised = rounded;
    args.panels = part.panels.data();
    args.packing = part.packing;
    args.is_quantised = IsQuantised(part.packing);
    args.cols = x.cols;
    args.num_outputs = part.rows;
    args.max_active = std::min(routing.num_experts, x.rows);
    args.routing = routing;
    args.out = out.data + part.column;
    args.out_stride = out.stride;
    constexpr int32_t kItemRows = kPanelRows * kExpertPanels;
    const int64_t groups = (part.rows + kItemRows - 1) / kItemRows;
    commands_.Add(kernels_.expert_matmul, args, groups * args.max_active);
  }
}

void Backend::CombineExperts(Tensor x, const Routing& routing, Tensor residual, Tensor out) {
  CheckPlaces(out, routing, x);
  SLUICE_CHECK(x.cols == out.cols && (residual.data == nullptr ||
                                      (residual.rows == out.rows && residual.cols == out.cols)),
               "{} {} {}", x.cols, out.cols, residual.cols);
  commands_.Add(kernels_.combine_experts,
                CombineExpertsArgs{x.data, x.stride, x.cols, routing, residual.data,
                                   residual.stride, out.data, out.stride},
                out.rows, kRowGrain);
}

void Backend::AddGated(Tensor x, Tensor gate, Tensor residual, Tensor out) {
  SLUICE_CHECK(gate.cols == 1 && gate.rows == x.rows && residual.rows == x.rows &&
                   residual.cols == x.cols && out.rows == x.rows && out.cols == x.cols,
               "x {} x {}, gate {} x {}, out {} x {}", x.rows, x.cols, gate.rows, gate.cols,
               out.rows, out.cols);
  commands_.Add(kernels_.add_gated,
                AddGatedArgs{x.data, x.stride, gate.data, gate.stride, residual.data,
                             residual.stride, x.cols, out.data, out.stride},
                x.rows, kRowGrain);
}

}  // namespace sluice::cpu
