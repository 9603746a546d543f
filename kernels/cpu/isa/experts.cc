// Mixture of experts: choosing, grouping, each expert's product over its rows, the weighted sum.
//   choose: the k largest logits of a row (ties: lowest id), descending; weight = exp(l - l_max) /
//           sum of exp(l' - l_max) over the chosen ones (renormalised) or over all E;
//   group:  places = choices sorted by (expert, token, choice), a counting sort;
//   matmul: out[p] = W[expert of p] x[p];
//   combine: out[t] = sum_c weight[t,c] * x[place of (t,c)] + residual[t].
//
// Order: the exponentials of the chosen are summed by choice ascending, those of all E in 16 lanes
// (lane = e mod 16) and the tree of vec.h; products are those of the linear kernels, which depend
// on K alone; the sum is one chain of fma over c ascending (the first a product), residual last.
//
// Work: choose and combine by token, group by one thread (4 bytes read and 8 written a choice), the
// product by (panels, expert) pairs over the experts that were chosen, so that its time is that of
// reading their weights: bytes of `num_active` experts, not of E.
// Sources: arXiv:1701.06538 (routing), arXiv:2401.04088 section 2.1 (renormalised top k).
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/tiles.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

SLUICE_INLINE float ExpOf(float x) {
  float lanes[kLanes];
  Store(lanes, Exp(Broadcast(x)));
  return lanes[0];
}

// The sum of exp(logit - top) over all experts.
float SumOfExponentials(const float* logits, int32_t num_experts, float top) {
  F32x16 sum = Zero();
  for (int32_t e = 0; e < num_experts; e += kLanes) {
    const int n = num_experts - e;
    const F32x16 value = Exp(LoadFirst(logits + e, n) - Broadcast(top));
    sum = sum + Select(FirstLanes(n), value, Zero());
  }
  return HorizontalSum(sum);
}

// The untaken expert of the largest logit. A NaN is never larger, so ids stay in range.
int32_t Best(const float* logits, int32_t num_experts, const bool* taken) {
  int32_t best = -1;
  for (int32_t e = 0; e < num_experts; ++e) {
    if (!taken[e] && (best < 0 || logits[e] > logits[best])) best = e;
  }
  return best;
}

QuantisedRows RowsFrom(const QuantisedRows& rows, int64_t blocks) {
  QuantisedRows from = rows;
  auto& [q, scale, scaled_sum, sums] = from;
  q += blocks * kBlock;
  scale += blocks;
  scaled_sum += blocks;
  sums += blocks;
  return from;
}

}  // namespace

void ChooseExperts(const RouteArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  const Routing& r = args.routing;
  for (int64_t t = begin; t < end; ++t) {
    const float* logits = args.logits + t * args.logits_stride;
    int32_t* experts = r.experts + t * r.num_used;
    float* weights = r.weights + t * r.num_used;
    bool taken[kMaxExperts] = {};
    float sum = 0;
    for (int32_t c = 0; c < r.num_used; ++c) {
      experts[c] = Best(logits, r.num_experts, taken);
      taken[experts[c]] = true;
      weights[c] = ExpOf(logits[experts[c]] - logits[experts[0]]);
      sum += weights[c];
    }
    if (!args.renormalise) sum = SumOfExponentials(logits, r.num_experts, logits[experts[0]]);
    for (int32_t c = 0; c < r.num_used; ++c) weights[c] /= sum;
  }
}

void GroupByExpert(const RouteArgs& args, int64_t /*begin*/, int64_t /*end*/,
                   const Worker& /*worker*/) {
  const Routing& r = args.routing;
  const int32_t choices = args.rows * r.num_used;
  int32_t next[kMaxExperts] = {};
  for (int32_t j = 0; j < choices; ++j) ++next[r.experts[j]];
  int32_t place = 0;
  int32_t num_active = 0;
  for (int32_t e = 0; e < r.num_experts; ++e) {
    const int32_t count = next[e];
    r.begin[e] = next[e] = place;
    place += count;
    if (count > 0) r.active[++num_active] = e;
  }
  r.begin[r.num_experts] = place;
  r.active[0] = num_active;
  for (int32_t j = 0; j < choices; ++j) {
    const int32_t p = next[r.experts[j]]++;
    r.place[j] = p;
    r.choice[p] = j;
  }
}

void GatherPlaces(const GatherPlacesArgs& args, int64_t begin, int64_t end,
                  const Worker& /*worker*/) {
  for (int64_t p = begin; p < end; ++p) {
    const int64_t token = args.routing.choice[p] / args.routing.num_used;
    __builtin_memcpy(args.out + p * args.out_stride, args.x + token * args.x_stride,
                     static_cast<size_t>(args.cols) * sizeof(float));
  }
}

void QuantisePlaces(const QuantisePlacesArgs& args, int64_t begin, int64_t end,
                    const Worker& worker) {
  const Routing& r = args.routing;
  const int32_t blocks = args.cols / kBlock;
  for (int64_t p = begin; p < end;) {
    const int32_t expert = r.experts[r.choice[p]];
    const int64_t first = r.begin[expert];
    const int64_t last = r.begin[expert + 1] < end ? r.begin[expert + 1] : end;
    QuantiseArgs rows;
    rows.x = args.x + first * args.x_stride;
    rows.x_stride = args.x_stride;
    rows.rows = r.begin[expert + 1] - r.begin[expert];
    rows.cols = args.cols;
    rows.out = RowsFrom(args.out, first * blocks);
    QuantiseRows(rows, p - first, last - first, worker);
    p = last;
  }
}

void MatMulExperts(const ExpertMatMulArgs& args, int64_t begin, int64_t end, const Worker& worker) {
  const Routing& r = args.routing;
  const int32_t panels = (args.num_outputs + kPanelRows - 1) / kPanelRows;
  for (int64_t item = begin; item < end; ++item) {
    const auto index = static_cast<int32_t>(item % args.max_active);
    if (index >= r.active[0]) continue;
    const int32_t expert = r.active[1 + index];
    const int64_t first = r.begin[expert];
    MatMulArgs product;
    product.x = args.x + first * args.x_stride;
    product.x_stride = args.x_stride;
    if (args.is_quantised)
      product.quantised = RowsFrom(args.quantised, first * (args.cols / kBlock));
    product.panels = args.panels[expert];
    product.packing = args.packing;
    product.rows = r.begin[expert + 1] - r.begin[expert];
    product.cols = args.cols;
    product.num_outputs = args.num_outputs;
    product.out = args.out + first * args.out_stride;
    product.out_stride = args.out_stride;
    const int64_t panel = item / args.max_active * kExpertPanels;
    const int64_t panel_end = panel + kExpertPanels < panels ? panel + kExpertPanels : panels;
    const int32_t chunks = MakeSplit(product.rows, kChunkRows).parts;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      if (args.is_quantised) {
        MatMulQuantised(product, chunk * panels + panel, chunk * panels + panel_end, worker);
      } else {
        MatMulFloat(product, chunk * panels + panel, chunk * panels + panel_end, worker);
      }
    }
  }
}

void CombineExpertRows(const CombineExpertsArgs& args, int64_t begin, int64_t end,
                       const Worker& /*worker*/) {
  const Routing& r = args.routing;
  for (int64_t t = begin; t < end; ++t) {
    const int32_t* place = r.place + t * r.num_used;
    const float* weight = r.weights + t * r.num_used;
    const float* residual =
        args.residual == nullptr ? nullptr : args.residual + t * args.residual_stride;
    float* out = args.out + t * args.out_stride;
    for (int32_t i = 0; i < args.cols; i += kLanes) {
      const int n = args.cols - i;
      F32x16 sum = LoadFirst(args.x + place[0] * args.x_stride + i, n) * Broadcast(weight[0]);
      for (int32_t c = 1; c < r.num_used; ++c) {
        const F32x16 x = LoadFirst(args.x + place[c] * args.x_stride + i, n);
        sum = Fma(x, Broadcast(weight[c]), sum);
      }
      StoreFirst(out + i, residual == nullptr ? sum : sum + LoadFirst(residual + i, n), n);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
