// Mixture of experts: which experts a token goes to, the choices sorted by expert, and the weighted
// sum of what the experts gave; see ops.h.
//
// Work: choosing is a warp a token, a lane every 32nd expert; sorting is one block that counts,
// then places each choice by looking at those before it (choices are few: T k); the sum is a block
// a token. Bytes: 4 E a token, 12 a choice, 4 (k + 2) D a token. Bound by latency for few tokens.
// Accumulation: the exponentials of the chosen by choice ascending; those of all experts in a lane
// (lane = e mod 32) ascending, then a butterfly; the sum of outputs is one chain of fma by choice.
// Sources: arXiv:1701.06538 (routing), arXiv:2401.04088 section 2.1.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {
namespace {

constexpr int32_t kPerLane = 32;  // experts that a lane of the choosing warp holds at most

// Larger logit first, then the lower id; a NaN is never larger.
struct Best {
  float logit;
  int32_t expert;  // -1: none
};
SLUICE_DEVICE Best Better(const Best& a, const Best& b) {
  if (a.expert < 0) return b;
  if (b.expert < 0) return a;
  if (b.logit > a.logit) return b;
  if (a.logit > b.logit) return a;
  return a.expert < b.expert ? a : b;
}

SLUICE_KERNEL(32) ChooseExpertsKernel(Tensor logits, int32_t renormalise, Routing routing) {
  const auto lane = static_cast<int32_t>(ThreadIndex().x);
  const int32_t token = static_cast<int32_t>(BlockIndex().x);
  const float* row = RowOf(logits, token);
  const int32_t num_experts = routing.num_experts, num_used = routing.num_used;
  uint32_t taken = 0;  // of the lane's own, by place
  float top = 0, sum = 0, own_sum = 0;
  for (int32_t c = 0; c < num_used; ++c) {
    Best best{0, -1};
    for (int32_t i = 0, e = lane; e < num_experts; ++i, e += 32) {
      if ((taken >> i & 1) == 0) best = Better(best, {row[e], e});
    }
    for (uint32_t bits = 16; bits > 0; bits /= 2) {
      const Best other{ShuffleXor(best.logit, bits), ShuffleXor(best.expert, bits)};
      best = Better(best, other);
    }
    if (c == 0) top = best.logit;
    if (best.expert % 32 == lane) taken |= 1U << (best.expert / 32);
    const float weight = Exp(best.logit - top);
    sum += weight;
    if (lane == 0) {
      routing.experts[token * num_used + c] = best.expert;
      routing.weights[token * num_used + c] = weight;
    }
  }
  if (renormalise == 0) {
    for (int32_t e = lane; e < num_experts; e += 32) own_sum += Exp(row[e] - top);
    sum = GroupSum<32>(own_sum);
  }
  if (lane != 0) return;
  for (int32_t c = 0; c < num_used; ++c) {
    float& weight = routing.weights[token * num_used + c];
    weight = Divide(weight, sum);
  }
}

// One block: a thread counts one expert's choices and later places them, in ascending order.
SLUICE_KERNEL(kRowThreads) GroupByExpertKernel(Routing routing, int32_t choices) {
  SLUICE_SHARED(int32_t, counts, [kPerLane * 32]);
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  for (int32_t e = thread; e < routing.num_experts; e += kRowThreads) {
    int32_t count = 0;
    for (int32_t j = 0; j < choices; ++j) count += routing.experts[j] == e ? 1 : 0;
    counts[e] = count;
  }
  SyncBlock();
  if (thread == 0) {
    int32_t place = 0, num_active = 0;
    for (int32_t e = 0; e < routing.num_experts; ++e) {
      routing.begin[e] = place;
      if (counts[e] > 0) routing.active[++num_active] = e;
      const int32_t count = counts[e];
      counts[e] = place;
      place += count;
    }
    routing.begin[routing.num_experts] = place;
    routing.active[0] = num_active;
  }
  SyncBlock();
  for (int32_t e = thread; e < routing.num_experts; e += kRowThreads) {
    int32_t place = counts[e];
    for (int32_t j = 0; j < choices; ++j) {
      if (routing.experts[j] != e) continue;
      routing.place[j] = place;
      routing.choice[place++] = j;
    }
  }
}

SLUICE_KERNEL(kRowThreads)
CombineExpertsKernel(Tensor x, Routing routing, Tensor residual, Tensor out) {
  const uint32_t token = BlockIndex().x;
  const int32_t num_used = routing.num_used;
  const int32_t* places = routing.place + token * num_used;
  const float* weights = routing.weights + token * num_used;
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < out.cols; i += kRowThreads) {
    float sum = weights[0] * RowOf(x, places[0])[i];
    for (int32_t c = 1; c < num_used; ++c) sum = Fma(weights[c], RowOf(x, places[c])[i], sum);
    RowOf(out, token)[i] = residual.data == nullptr ? sum : sum + RowOf(residual, token)[i];
  }
}

}  // namespace

static_assert(kPerLane * 32 >= kMaxExperts);

cudaError_t RouteExperts(Tensor logits, bool renormalise, const Routing& routing,
                         cudaStream_t stream) {
  const cudaError_t error = Launch("choose_experts", &ChooseExpertsKernel,
                                   {.grid_x = static_cast<uint32_t>(logits.rows), .threads = 32},
                                   stream, logits, renormalise ? 1 : 0, routing);
  if (error != cudaSuccess) return error;
  return Launch("group_by_expert", &GroupByExpertKernel, {.threads = kRowThreads}, stream, routing,
                logits.rows * routing.num_used);
}

cudaError_t CombineExperts(Tensor x, const Routing& routing, Tensor residual, Tensor out,
                           cudaStream_t stream) {
  return Launch("combine_experts", &CombineExpertsKernel,
                {.grid_x = static_cast<uint32_t>(out.rows), .threads = kRowThreads}, stream, x,
                routing, residual, out);
}

}  // namespace sluice::cuda
