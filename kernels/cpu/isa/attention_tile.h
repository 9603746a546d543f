// Attention of one tile of query vectors within one partition of positions: scores, exponentials,
// weighted values. For attention.cc only, which says what and in which order.
#pragma once

#include <cstdint>

#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/kv_layout.h"

namespace sluice::cpu::SLUICE_ISA {

inline constexpr int kSubBlocks = kAttentionPartition / kKvSubBlock;  // of a partition

// Query vectors scored together, and rows x 16-column groups of V accumulated together: as many
// accumulators as the registers hold beside the loaded values.
#if defined(SLUICE_ISA_AVX512)
inline constexpr int kMaxQueries = 12, kValueRows = 6, kValueGroups = 4;
#elif defined(SLUICE_ISA_AVX2)
inline constexpr int kMaxQueries = 6, kValueRows = 6, kValueGroups = 1;
#else
inline constexpr int kMaxQueries = 4, kValueRows = 2, kValueGroups = 1;
#endif

// What a query vector knows of the positions seen so far: maximum, sum and weighted V, each over 16
// lanes (the first two repeat one value). sum == 0: no position yet.
struct State {
  float* maximum;
  float* sum;
  float* values;
};
SLUICE_INLINE State StateAt(float* states, int query, int padded_dim) {
  float* base = states + query * (2 * kLanes + padded_dim);
  return {base, base + kLanes, base + 2 * kLanes};
}

// One tile within one partition. Positions are relative to the partition.
struct Partition {
  const uint16_t* sub_blocks[kSubBlocks + 3];  // from first_block; the last three only to prefetch
  int first_block;                             // the first sub-block that a query sees
  int num_positions;                           // the largest limit of the queries that see any
  int head_dim, padded_dim;
  float softcap;                     // 0: none
  int32_t position[kAttentionTile];  // of each query
  float* out[kAttentionTile];        // where its result goes
  // Query m sees positions [lower[m], limit[m]), 0 <= lower <= limit.
  int lower[kAttentionTile];
  int limit[kAttentionTile];
  alignas(64) float q[kAttentionTile][kMaxHeadDim];               // times scale
  alignas(64) float scores[kAttentionTile][kAttentionPartition];  // then their exponentials
};

// The positions [begin, end) that each of MR queries from `first` sees; end >= begin.
struct CommonRange {
  int begin, end;
};
template <int MR>
SLUICE_INLINE CommonRange CommonOf(const Partition& part, int first) {
  int begin = part.lower[first];
  int end = part.limit[first];
  for (int m = 1; m < MR; ++m) {
    begin = part.lower[first + m] > begin ? part.lower[first + m] : begin;
    end = part.limit[first + m] < end ? part.limit[first + m] : end;
  }
  return {begin, end < begin ? begin : end};
}

// e^x for x <= 0, within 3 units in the last place; 0 below -87, NaN for NaN. Half the
// multiplications of Exp: ln 2 in one part (an error of |x| 2^-28, for weights that shrink with
// e^x), a polynomial of degree 5 (minimax, 1.05e-7, exact at 0), and 2^n added to the exponent.
SLUICE_INLINE F32x16 ExpOfNegative(F32x16 x) {
  const F32x16 lowest = Broadcast(-87.0F);
  const F32x16 magic = Broadcast(12582912.0F);  // 1.5 * 2^23: rounds to an integer in the low bits
  const F32x16 clamped = Max(lowest, x);        // keeps NaN
  const F32x16 shifted = Fma(clamped, Broadcast(1.44269504F), magic);
  const F32x16 r = Fma(shifted - magic, Broadcast(-0.69314718F), clamped);
  F32x16 p = Broadcast(0.0083125242F);
  p = Fma(p, r, Broadcast(0.0418901215F));
  p = Fma(p, r, Broadcast(0.166671145F));
  p = Fma(p, r, Broadcast(0.499992317F));
  p = Fma(p, r, Broadcast(1.0F));
  p = Fma(p, r, Broadcast(1.0F));
  const F32x16 y = AsFloat(AsInt(p) + ShiftLeft<23>(AsInt(shifted)));
  return Select(Less(x, lowest), Zero(), y);
}

// scores[m][j] = q[m] . K[j] for MR queries from `first`, -infinity where the query does not see j;
// top[m]: lane maxima.
template <int MR>
static void Score(Partition& part, int first, F32x16* top) {
  // Two sub-blocks at once hide the fma latency while there are few queries.
  constexpr int kAtOnce = MR <= kMaxQueries / 2 ? 2 : 1;
  const F32x16 minus_infinity = Broadcast(-__builtin_inff());
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) top[m] = minus_infinity;
  const CommonRange common = CommonOf<MR>(part, first);
  const int head_dim = part.head_dim;
  for (int b = part.first_block; b * kLanes < part.num_positions; b += kAtOnce) {
    F32x16 acc[kAtOnce][MR];
#pragma GCC unroll 2
    for (int u = 0; u < kAtOnce; ++u) {
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) acc[u][m] = Zero();
    }
    const uint16_t* keys = part.sub_blocks[b];
    const uint16_t* keys2 = part.sub_blocks[b + kAtOnce - 1];
    const auto* ahead = reinterpret_cast<const char*>(part.sub_blocks[b + kAtOnce]);
    const auto* ahead2 = reinterpret_cast<const char*>(part.sub_blocks[b + 2 * kAtOnce - 1]);
    const float* q = part.q[first];
    for (int d = 0; d < head_dim; ++d, ++q, keys += kLanes, keys2 += kLanes) {
      const F32x16 k = LoadF16(keys);
      const F32x16 k2 = kAtOnce == 2 ? LoadF16(keys2) : k;
      if constexpr (kAtOnce == 2) {  // one line of the next sub-blocks' K and V
        __builtin_prefetch(ahead + d * 64, 0, 2);
        __builtin_prefetch(ahead2 + d * 64, 0, 2);
      }
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        const F32x16 value = Broadcast(q[m * kMaxHeadDim]);
        acc[0][m] = Fma(k, value, acc[0][m]);
        if constexpr (kAtOnce == 2) acc[1][m] = Fma(k2, value, acc[1][m]);
      }
    }
#pragma GCC unroll 2
    for (int u = 0; u < kAtOnce; ++u) {
      const int begin = (b + u) * kLanes;
      if (begin >= part.num_positions) break;
      if (begin < common.begin || begin + kLanes > common.end) {
#pragma GCC unroll 16
        for (int m = 0; m < MR; ++m) {
          acc[u][m] = Select(FirstLanes(part.limit[first + m] - begin), acc[u][m], minus_infinity);
          acc[u][m] = Select(FirstLanes(part.lower[first + m] - begin), minus_infinity, acc[u][m]);
        }
      }
#pragma GCC unroll 16
      for (int m = 0; m < MR; ++m) {
        top[m] = Max(top[m], acc[u][m]);
        Store(&part.scores[first + m][begin], acc[u][m]);
      }
    }
  }
}

// Caps the scores of query m; gives their lane maxima. Apart from Score, whose accumulators would
// otherwise leave their registers: 5 % of decode and 5 to 15 % of prefill, cap or not.
[[gnu::noinline]] static F32x16 CapScores(Partition& part, int m) {
  const F32x16 cap = Broadcast(part.softcap);
  const F32x16 inverse = Broadcast(1.0F / part.softcap);
  const F32x16 minus_infinity = Broadcast(-__builtin_inff());
  F32x16 top = minus_infinity;
  for (int j = part.lower[m] / kLanes * kLanes; j < part.limit[m]; j += kLanes) {
    F32x16 score = SoftCapped(Load(&part.scores[m][j]), cap, inverse);
    score = Select(FirstLanes(part.limit[m] - j), score, minus_infinity);
    score = Select(FirstLanes(part.lower[m] - j), minus_infinity, score);
    Store(&part.scores[m][j], score);
    top = Max(top, score);
  }
  return top;
}

// Turns scores into exponentials and fills the state's maximum and sum.
SLUICE_INLINE void Exponentials(Partition& part, int m, F32x16 lane_top, State state) {
  const F32x16 top = Broadcast(HorizontalMax(lane_top));
  F32x16 sum = Zero();
  for (int j = part.lower[m] / kLanes * kLanes; j < part.limit[m]; j += kLanes) {
    const F32x16 e = ExpOfNegative(Load(&part.scores[m][j]) - top);
    sum = sum + e;
    Store(&part.scores[m][j], e);
  }
  Store(state.maximum, top);
  Store(state.sum, Broadcast(HorizontalSum(sum)));
}

// acc += scores[m][j] V[j] for j in [begin, end), ascending; nothing if end <= begin.
template <int C>
SLUICE_INLINE void AddValues(const Partition& part, int m, int begin, int end, int64_t values_begin,
                             F32x16* acc) {
  for (int j = begin; j < end; ++j) {
    const uint16_t* v =
        part.sub_blocks[j / kLanes] + values_begin + int64_t{j % kLanes} * part.padded_dim;
    const F32x16 weight = Broadcast(part.scores[m][j]);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[c] = Fma(LoadF16(v + c * kLanes), weight, acc[c]);
  }
}

// values[m][column..] = sum_j scores[m][j] V[j][column..] for W queries and C groups of 16 columns.
template <int W, int C>
static void WeightValues(const Partition& part, int first, int column, float* states) {
  F32x16 acc[W][C];
#pragma GCC unroll 8
  for (int m = 0; m < W; ++m) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[m][c] = Zero();
  }
  const CommonRange common = CommonOf<W>(part, first);
  const int64_t values_begin = int64_t{part.head_dim} * kLanes + column;
  const float* p = &part.scores[first][0];
  if (common.begin > part.first_block * kLanes) {
#pragma GCC unroll 8
    for (int m = 0; m < W; ++m) {
      const int limit = part.limit[first + m];
      AddValues<C>(part, first + m, part.lower[first + m],
                   limit < common.begin ? limit : common.begin, values_begin, acc[m]);
    }
  }
  for (int b = common.begin / kLanes; b * kLanes < common.end; ++b) {
    const int begin = common.begin > b * kLanes ? common.begin : b * kLanes;
    const int end = common.end < (b + 1) * kLanes ? common.end : (b + 1) * kLanes;
    const uint16_t* v =
        part.sub_blocks[b] + values_begin + int64_t{begin - b * kLanes} * part.padded_dim;
    for (int j = begin; j < end; ++j, v += part.padded_dim) {
      F32x16 row[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) row[c] = LoadF16(v + c * kLanes);
#pragma GCC unroll 8
      for (int m = 0; m < W; ++m) {
        const F32x16 weight = Broadcast(p[m * kAttentionPartition + j]);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) acc[m][c] = Fma(row[c], weight, acc[m][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < W; ++m) {
    AddValues<C>(part, first + m, common.end, part.limit[first + m], values_begin, acc[m]);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      Store(StateAt(states, first + m, part.padded_dim).values + column + c * kLanes, acc[m][c]);
    }
  }
}

template <int W>
static void WeightAllValues(const Partition& part, int first, float* states) {
  int column = 0;
  for (; column + kValueGroups * kLanes <= part.padded_dim; column += kValueGroups * kLanes) {
    WeightValues<W, kValueGroups>(part, first, column, states);
  }
  for (; column < part.padded_dim; column += kLanes)
    WeightValues<W, 1>(part, first, column, states);
}

// The states of MR queries from `first` after this partition alone.
template <int MR>
static void AttendQueries(Partition& part, int first, float* states) {
  F32x16 top[MR];
  Score<MR>(part, first, top);
  for (int m = 0; m < MR; ++m) {
    const State state = StateAt(states, first + m, part.padded_dim);
    if (part.limit[first + m] > part.lower[first + m]) {
      if (part.softcap > 0) top[m] = CapScores(part, first + m);
      Exponentials(part, first + m, top[m], state);
    } else {
      Store(state.sum, Zero());
    }
  }
  constexpr int kWhole = MR / kValueRows * kValueRows;
  for (int m = 0; m < kWhole; m += kValueRows) WeightAllValues<kValueRows>(part, first + m, states);
  if constexpr (kWhole < MR) WeightAllValues<MR - kWhole>(part, first + kWhole, states);
}

static void AttendUpTo(int count, Partition& part, int first, float* states) {
  switch (count) {
    case 1:
      return AttendQueries<1>(part, first, states);
    case 2:
      return AttendQueries<2>(part, first, states);
    case 3:
      return AttendQueries<3>(part, first, states);
    case 4:
      return AttendQueries<4>(part, first, states);
#if !defined(SLUICE_ISA_SCALAR)
    case 5:
      return AttendQueries<5>(part, first, states);
    case 6:
      return AttendQueries<6>(part, first, states);
#endif
#if defined(SLUICE_ISA_AVX512)
    case 7:
      return AttendQueries<7>(part, first, states);
    case 8:
      return AttendQueries<8>(part, first, states);
    case 9:
      return AttendQueries<9>(part, first, states);
    case 10:
      return AttendQueries<10>(part, first, states);
    case 11:
      return AttendQueries<11>(part, first, states);
    case 12:
      return AttendQueries<12>(part, first, states);
#endif
    default:
      return;
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
