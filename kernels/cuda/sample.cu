// One token for each output row; the definition is that of kernels/cpu/isa/sample.cc, whose draws
// these are bit for bit: weights are integers, so every sum is exact in any order.
//
// A filter keeps a prefix of the candidates in (logit descending, id ascending) order. Nothing is
// sorted: where the prefix ends is found by radix selection, 8 bits of the logit's key and then of
// the id at a time, each a histogram of what the prefix is measured in.
//
// Work: a block a row, a thread every 512th logit. Bytes: 4 V for each look at the row, from L2: 2
// for a greedy row, 8 for each of top_k, top_p and the draw besides. Bound by those looks.
// Accumulation: integers; the normaliser of logprobs is one logarithm of an integer.
// Sources: arXiv:1904.09751 (top_p), Salmon et al., SC 2011 (Philox).
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows.h"
#include "kernels/log.h"
#include "kernels/philox.h"

namespace sluice::cuda {
namespace {

constexpr int32_t kThreads = 512;
constexpr float kLargest = 3.40282347e38F;
constexpr float kLowestLogprob = -9999;

// A place in candidate order: keys ascend with logits.
struct Place {
  uint32_t key;
  int32_t token;
};
SLUICE_DEVICE bool IsBefore(const Place& a, const Place& b) {
  return a.key > b.key || (a.key == b.key && a.token < b.token);
}
SLUICE_DEVICE uint32_t KeyOf(float logit) {
  const uint32_t bits = BitsOf(logit);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

struct Shared {
  uint64_t histogram[256];
  uint64_t sum;

  Place best[kThreads / 32];
};

// One row and its slot. `penalised`: penalties count; raw logits have none.
struct RowView {
  float* logits;
  int32_t vocab;
  const DeviceSlot* slot;
  const uint32_t* counts;
  bool penalised;
};

SLUICE_DEVICE float Finite(float x) {
  if (!(x > -kLargest)) return -kLargest;
  return x < kLargest ? x : kLargest;
}

// A logit as it is sampled from; bias and the mask of stop tokens are in the row already.
SLUICE_DEVICE float LogitOf(const RowView& row, int32_t token) {
  const float raw = row.logits[token];
  const float x = Finite(raw);
  if (!row.penalised || !(raw > -kLargest)) return x;
  const uint32_t count = row.counts[token];
  if (count == 0) return x;
  const float repetition = row.slot->repetition_penalty;
  const float repeated = x > 0 ? Divide(x, repetition) : x * repetition;
  const auto times = static_cast<float>(count >> 1);
  const float presence = times > 0 ? row.slot->presence_penalty : 0.0F;
  return Finite(repeated - (row.slot->frequency_penalty * times + presence));
}

// The first of the row in candidate order that comes after `after`; token -1 if there is none.
SLUICE_DEVICE Place FirstAfter(const RowView& row, const Place* after, Shared& shared) {
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  Place best{0, -1};
  for (int32_t v = thread; v < row.vocab; v += kThreads) {
    const Place place{KeyOf(LogitOf(row, v)), v};
    if (after != nullptr && !IsBefore(*after, place)) continue;
    if (best.token < 0 || IsBefore(place, best)) best = place;
  }
  for (uint32_t bits = 16; bits > 0; bits /= 2) {
    const Place other{ShuffleXor(best.key, bits), ShuffleXor(best.token, bits)};
    if (other.token >= 0 && (best.token < 0 || IsBefore(other, best))) best = other;
  }
  if (thread % 32 == 0) shared.best[thread / 32] = best;
  SyncBlock();
  best = shared.best[0];
  for (int32_t w = 1; w < kThreads / 32; ++w) {
    const Place other = shared.best[w];
    if (other.token >= 0 && (best.token < 0 || IsBefore(other, best))) best = other;
  }
  SyncBlock();
  return best;
}

// Candidates of one draw: weight w[v] = round(2^30 exp((x[v] - top) scale)) of at least `least`, up
// to and including `last` in candidate order.
struct Candidates {
  float top, scale;
  uint32_t least;
  Place last;
};
SLUICE_DEVICE uint32_t WeightOf(const Candidates& c, float logit) {
  return static_cast<uint32_t>(RoundToInt(Exp((logit - c.top) * c.scale) * 0x1p30F));
}
// What `token` weighs in the prefix; 0: it is not in it.
SLUICE_DEVICE uint32_t WeightIn(const RowView& row, const Candidates& c, int32_t token,
                                uint32_t* key) {
  const float logit = LogitOf(row, token);
  *key = KeyOf(logit);
  if (IsBefore(c.last, {*key, token})) return 0;
  const uint32_t weight = WeightOf(c, logit);
  return weight >= c.least ? weight : 0;
}

SLUICE_DEVICE uint64_t TotalWeight(const RowView& row, const Candidates& c, Shared& shared) {
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  if (thread == 0) shared.sum = 0;
  SyncBlock();
  uint64_t sum = 0;
  for (int32_t v = thread; v < row.vocab; v += kThreads) {
    uint32_t key = 0;
    sum += WeightIn(row, c, v, &key);
  }
  AtomicAdd(&shared.sum, sum);
  SyncBlock();
  return shared.sum;  // until the next one, which comes after other barriers
}

// The digit at which `enough` is reached, from 255 down or from 0 up; what is left of `enough` for
// it; -1 if it is not reached. All threads get it.
SLUICE_DEVICE int32_t FindDigit(bool down, uint64_t* enough, Shared& shared) {
  SyncBlock();
  int32_t found = -1;
  uint64_t left = *enough;
  for (int32_t i = 0; i < 256 && found < 0; ++i) {
    const int32_t digit = down ? 255 - i : i;
    const uint64_t here = shared.histogram[digit];
    if (here >= left) {
      found = digit;
    } else {
      left -= here;
    }
  }
  *enough = left;
  SyncBlock();
  return found;
}

SLUICE_DEVICE void ClearHistogram(Shared& shared) {
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < 256; i += kThreads)
    shared.histogram[i] = 0;
  SyncBlock();
}

// Shortens the candidates to the shortest prefix whose weight, or number if `counted`, is at least
// `enough` > 0. All of them stay if that is not enough.
SLUICE_DEVICE void KeepPrefix(const RowView& row, bool counted, uint64_t enough, Candidates& c,
                              Shared& shared) {
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  uint32_t key = 0;
  for (int32_t shift = 24; shift >= 0; shift -= 8) {
    ClearHistogram(shared);
    for (int32_t v = thread; v < row.vocab; v += kThreads) {
      uint32_t own = 0;
      const uint32_t weight = WeightIn(row, c, v, &own);
      if (weight == 0 || (shift < 24 && own >> (shift + 8) != key >> (shift + 8))) continue;
      AtomicAdd(&shared.histogram[own >> shift & 255], counted ? 1 : uint64_t{weight});
    }
    const int32_t digit = FindDigit(true, &enough, shared);
    if (digit < 0) return;
    key |= static_cast<uint32_t>(digit) << shift;
  }
  // Among equals each weighs the same: which of them, by id.
  if (!counted) {
    const float logit = FloatOf((key & 0x80000000U) != 0 ? key & 0x7fffffffU : ~key);
    const uint64_t weight = WeightOf(c, logit);
    enough = (enough + weight - 1) / weight;
  }
  int32_t token = 0;
  for (int32_t shift = 16; shift >= 0; shift -= 8) {
    ClearHistogram(shared);
    for (int32_t v = thread; v < row.vocab; v += kThreads) {
      uint32_t own = 0;
      if (WeightIn(row, c, v, &own) == 0 || own != key) continue;
      if (shift < 16 && v >> (shift + 8) != token >> (shift + 8)) continue;
      AtomicAdd(&shared.histogram[v >> shift & 255], uint64_t{1});
    }
    token |= FindDigit(false, &enough, shared) << shift;
  }
  c.last = {key, token};
}

// The weight that a top_p prefix needs, and the cumulative weight that a drawn token reaches first.
SLUICE_DEVICE uint64_t EnoughForTopP(float top_p, uint64_t total) {
  const double exact = static_cast<double>(top_p) * static_cast<double>(total);
  const auto floor = static_cast<uint64_t>(exact);
  const uint64_t ceiling = static_cast<double>(floor) < exact ? floor + 1 : floor;
  return ceiling > 0 ? ceiling : 1;
}
SLUICE_DEVICE uint64_t EnoughForDraw(double draw, uint64_t total) {
  const auto below = static_cast<uint64_t>(draw * static_cast<double>(total));
  return below < total ? below + 1 : total;
}

SLUICE_DEVICE int32_t Draw(const RowView& row, float top, int32_t num_output_tokens,
                           Shared& shared) {
  const DeviceSlot& slot = *row.slot;
  const float inverse = Divide(1.0F, slot.temperature);
  Candidates c{top, inverse < kLargest ? inverse : kLargest, 1, {0, row.vocab}};
  if (slot.top_k > 0 && slot.top_k < row.vocab)
    KeepPrefix(row, true, static_cast<uint64_t>(slot.top_k), c, shared);
  if (slot.top_p < 1)
    KeepPrefix(row, false, EnoughForTopP(slot.top_p, TotalWeight(row, c, shared)), c, shared);
  if (slot.min_p > 0) {
    const double least = static_cast<double>(slot.min_p < 1 ? slot.min_p : 1.0F) * 0x1p30;
    const auto floor = static_cast<uint32_t>(least);
    c.least = static_cast<double>(floor) < least ? floor + 1 : floor;
    if (c.least < 1) c.least = 1;
  }
  const double draw = SampleDraw(slot.seed, slot.choice, static_cast<uint32_t>(num_output_tokens));
  KeepPrefix(row, false, EnoughForDraw(draw, TotalWeight(row, c, shared)), c, shared);
  return c.last.token;
}

SLUICE_DEVICE float Logprob(float logit, double normaliser) {
  const double logprob = static_cast<double>(Finite(logit)) - normaliser;
  return logprob > static_cast<double>(kLowestLogprob) ? static_cast<float>(logprob)
                                                       : kLowestLogprob;
}

// max + log sum exp(x - max) of the raw row, and its best tokens into `out`.
SLUICE_DEVICE double RawLogprobs(const RowView& row, SampleOut& out, Shared& shared) {
  Place best = FirstAfter(row, nullptr, shared);
  const Candidates all{Finite(row.logits[best.token]), 1, 1, {0, row.vocab}};
  const uint64_t total = TotalWeight(row, all, shared);
  const double normaliser =
      static_cast<double>(all.top) + Log(static_cast<double>(total) * 0x1p-30);
  int32_t k = row.slot->num_logprobs < kMaxLogprobs ? row.slot->num_logprobs : kMaxLogprobs;
  if (k > row.vocab) k = row.vocab;
  for (int32_t i = 0; i < k; ++i) {
    if (i > 0) best = FirstAfter(row, &best, shared);
    if (ThreadIndex().x != 0) continue;
    out.top_tokens[i] = best.token;
    out.top_logprobs[i] = Logprob(row.logits[best.token], normaliser);
  }
  if (ThreadIndex().x == 0) out.num_top = k;
  return normaliser;
}

// The lowest id that the mask allows, 0 if it allows none.
SLUICE_DEVICE int32_t FirstAllowed(const RowView& row, const int32_t* stops, bool masked) {
  for (int32_t token = 0; masked && token < row.vocab; ++token) {
    bool stop = false;
    for (int32_t i = 0; i < row.slot->num_stop_tokens; ++i) stop = stop || stops[i] == token;
    if (!stop) return token;
  }
  return 0;
}

SLUICE_KERNEL(kThreads, 2)
SampleKernel(SlotTable table, DeviceBatch batch, Tensor logits, float* scratch, SampleOut* outs) {
  SLUICE_SHARED(Shared, shared, [1]);
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  const uint32_t index = BlockIndex().x;
  const int32_t slot_index = batch.slots[batch.output_rows[index]];
  const DeviceSlot& slot = table.slots[slot_index];
  const int32_t num_output_tokens = batch.num_output_tokens[index];
  uint32_t* counts = table.counts + int64_t{slot_index} * table.vocab;
  const TokenBias* bias = table.bias + int64_t{slot_index} * kMaxSlotBias;
  const int32_t* stops = table.stop_tokens + int64_t{slot_index} * kMaxSlotStops;
  RowView row{RowOf(logits, index), table.vocab, &slot, counts, false};
  SampleOut& out = outs[index];
  if (thread == 0) {
    out.num_top = 0;
    out.logprob = 0;
  }
  double normaliser = 0;
  if (slot.num_logprobs >= 0) normaliser = RawLogprobs(row, out, shared[0]);

  // Bias and mask, which are few, go into the row; the raw logits of the biased are kept.
  float* raw = scratch + int64_t{index} * kMaxSlotBias;
  for (int32_t i = thread; i < slot.num_bias; i += kThreads) {
    float& logit = row.logits[bias[i].token];
    raw[i] = logit;
    logit = Finite(Finite(logit) + bias[i].bias);
  }
  SyncBlock();
  const bool masked = num_output_tokens < slot.min_tokens;
  if (thread == 0) {
    for (int32_t i = 0; masked && i < slot.num_stop_tokens; ++i) row.logits[stops[i]] = -INFINITY;
  }
  row.penalised = slot.penalties != 0;
  SyncBlock();

  const Place best = FirstAfter(row, nullptr, shared[0]);
  const float top = LogitOf(row, best.token);
  int32_t token = best.token;
  if (!(top > -kLargest)) {
    token = FirstAllowed(row, stops, masked);
  } else if (slot.temperature > 0) {
    token = Draw(row, top, num_output_tokens, shared[0]);
  }
  SyncBlock();
  if (thread != 0) return;
  out.token = token;
  if (slot.num_logprobs >= 0) {
    float logit = row.logits[token];
    for (int32_t i = 0; i < slot.num_bias; ++i) {
      if (bias[i].token == token) logit = raw[i];
    }
    out.logprob = Logprob(logit, normaliser);
  }
  table.last_tokens[slot_index] = token;
  if (slot.penalties != 0) counts[token] = (counts[token] | 1) + 2;
}

SLUICE_KERNEL(kThreads)
UpdateSlotsKernel(SlotTable table, const SlotUpdate* updates, const TokenBias* bias,
                  const int32_t* stop_tokens, const int32_t* history) {
  const SlotUpdate& update = updates[BlockIndex().x];
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  const int64_t slot = update.slot;
  for (int32_t i = thread; i < update.values.num_bias; i += kThreads)
    table.bias[slot * kMaxSlotBias + i] = bias[update.bias_begin + i];
  for (int32_t i = thread; i < update.values.num_stop_tokens; i += kThreads)
    table.stop_tokens[slot * kMaxSlotStops + i] = stop_tokens[update.stop_begin + i];
  if (thread == 0) {
    table.slots[slot] = update.values;
    if (update.last_token >= 0) table.last_tokens[slot] = update.last_token;
  }
  if (update.values.penalties == 0) return;
  uint32_t* counts = table.counts + slot * table.vocab;
  for (int32_t v = thread; v < table.vocab; v += kThreads) counts[v] = 0;
  SyncBlock();
  const int32_t* tokens = history + update.history_begin;
  const int32_t first_output = update.num_history - update.num_output;
  for (int32_t i = thread; i < update.num_history; i += kThreads) {
    // An output token adds 2; the lowest bit says that there was any.
    if (i >= first_output) AtomicAdd(&counts[tokens[i]], 2U);
    AtomicOr(&counts[tokens[i]], 1U);
  }
}

}  // namespace

cudaError_t UpdateSlots(const SlotTable& table, const SlotUpdate* updates, int32_t num_updates,
                        const TokenBias* bias, const int32_t* stop_tokens, const int32_t* history,
                        cudaStream_t stream) {
  return Launch("update_slots", &UpdateSlotsKernel,
                {.grid_x = static_cast<uint32_t>(num_updates), .threads = kThreads}, stream, table,
                updates, bias, stop_tokens, history);
}

cudaError_t Sample(const SlotTable& table, const DeviceBatch& batch, Tensor logits, float* scratch,
                   SampleOut* out, cudaStream_t stream) {
  return Launch("sample", &SampleKernel,
                {.grid_x = static_cast<uint32_t>(logits.rows), .threads = kThreads}, stream, table,
                batch, logits, scratch, out);
}

}  // namespace sluice::cuda
