// PagedAttention over f16 KV blocks: out[t,h] = softmax(scale * q[t,h] . K[0..position])
// V[0..position].
//
// KV layout (kv_layout.h): a KV block is [Hkv][block_tokens/16] sub-blocks of 16 positions, each K
// [H][16] (lane = position) then V [16][Hp], f16, Hp = H rounded up to 16. Order: a query vector's
// score is one fma chain over d ascending; a partition of 256 absolute positions gives its maximum,
// the sum of exponentials (16 lanes = position mod 16, ascending, then the tree) and the weighted V
// (one fma chain over positions ascending); partitions combine ascending. A vector's chains depend
// on nothing but its own q, position and KV, so tiles, chunking, threads and splitting cannot
// change a bit. Work: a tile is up to kAttentionTile query vectors (token, head) of one row that
// share a KV head, so each K and V value loaded serves all of them. Items are (KV head, tile), or
// with few rows (KV head, tile, partition) followed by a combining command: the same partial
// results, from memory instead of from cache. Bytes: a tile reads 2 * Hkv-head share = 4 * H *
// context bytes of KV once; decode moves T * Hkv * 4 * H * context in all. FLOPs: 4 * Hq * H *
// context a token. Decode with Hq/Hkv <= 4 is bound by loading and converting KV (DRAM once the
// batch's KV leaves L3), prefill by the two FMA pipes. Scores, exponentials and sums are f32.
// Sources: arXiv:2309.06180 (paging), arXiv:2205.14135 (combination).
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/kv_layout.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

constexpr int kSubBlocks = kAttentionPartition / kKvSubBlock;  // of a partition

// Query vectors scored together, and rows x 16-column groups of V accumulated together: as many
// accumulators as the registers hold beside the loaded values.
#if defined(SLUICE_ISA_AVX512)
constexpr int kMaxQueries = 12, kValueRows = 6, kValueGroups = 4;
#elif defined(SLUICE_ISA_AVX2)
constexpr int kMaxQueries = 6, kValueRows = 6, kValueGroups = 1;
#else
constexpr int kMaxQueries = 4, kValueRows = 2, kValueGroups = 1;
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
  const uint16_t* sub_blocks[kSubBlocks + 2];  // the last two only to prefetch
  int num_positions;                           // the longest limit of the tile's queries here
  int head_dim, padded_dim;
  int32_t position[kAttentionTile];  // of each query
  float* out[kAttentionTile];        // where its result goes
  int limit[kAttentionTile];         // query m sees positions [0, limit[m]); may be <= 0
  alignas(64) float q[kAttentionTile][kMaxHeadDim];               // times scale
  alignas(64) float scores[kAttentionTile][kAttentionPartition];  // then their exponentials
};

// The positions, at least 0, that each of MR queries from `first` sees.
template <int MR>
SLUICE_INLINE int CommonLimit(const Partition& part, int first) {
  int common = part.limit[first];
  for (int m = 1; m < MR; ++m)
    common = part.limit[first + m] < common ? part.limit[first + m] : common;
  return common < 0 ? 0 : common;
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

// scores[m][j] = q[m] . K[j] for MR queries from `first`, -infinity from the query's limit on;
// top[m]: lane maxima.
template <int MR>
void Score(Partition& part, int first, F32x16* top) {
  // Two sub-blocks at once hide the fma latency while there are few queries.
  constexpr int kAtOnce = MR <= kMaxQueries / 2 ? 2 : 1;
  const F32x16 minus_infinity = Broadcast(-__builtin_inff());
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) top[m] = minus_infinity;
  const int common = CommonLimit<MR>(part, first);
  const int head_dim = part.head_dim;
  for (int b = 0; b * kLanes < part.num_positions; b += kAtOnce) {
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
      if (begin + kLanes > common) {
#pragma GCC unroll 16
        for (int m = 0; m < MR; ++m) {
          acc[u][m] = Select(FirstLanes(part.limit[first + m] - begin), acc[u][m], minus_infinity);
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

// Turns scores into exponentials and fills the state's maximum and sum.
SLUICE_INLINE void Exponentials(Partition& part, int m, F32x16 lane_top, State state) {
  const F32x16 top = Broadcast(HorizontalMax(lane_top));
  F32x16 sum = Zero();
  for (int j = 0; j < part.limit[m]; j += kLanes) {
    const F32x16 e = ExpOfNegative(Load(&part.scores[m][j]) - top);
    sum = sum + e;
    Store(&part.scores[m][j], e);
  }
  Store(state.maximum, top);
  Store(state.sum, Broadcast(HorizontalSum(sum)));
}

// values[m][column..] = sum_j scores[m][j] V[j][column..] for W queries and C groups of 16 columns.
template <int W, int C>
void WeightValues(const Partition& part, int first, int column, float* states) {
  F32x16 acc[W][C];
#pragma GCC unroll 8
  for (int m = 0; m < W; ++m) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[m][c] = Zero();
  }
  const int common = CommonLimit<W>(part, first);
  const int64_t values_begin = int64_t{part.head_dim} * kLanes + column;
  const float* p = &part.scores[first][0];
  for (int b = 0; b * kLanes < common; ++b) {
    const uint16_t* v = part.sub_blocks[b] + values_begin;
    const int end = common < (b + 1) * kLanes ? common : (b + 1) * kLanes;
    for (int j = b * kLanes; j < end; ++j, v += part.padded_dim) {
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
    for (int j = common; j < part.limit[first + m]; ++j) {
      const uint16_t* v =
          part.sub_blocks[j / kLanes] + values_begin + int64_t{j % kLanes} * part.padded_dim;
      const F32x16 weight = Broadcast(p[m * kAttentionPartition + j]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[m][c] = Fma(LoadF16(v + c * kLanes), weight, acc[m][c]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      Store(StateAt(states, first + m, part.padded_dim).values + column + c * kLanes, acc[m][c]);
    }
  }
}

template <int W>
void WeightAllValues(const Partition& part, int first, float* states) {
  int column = 0;
  for (; column + kValueGroups * kLanes <= part.padded_dim; column += kValueGroups * kLanes) {
    WeightValues<W, kValueGroups>(part, first, column, states);
  }
  for (; column < part.padded_dim; column += kLanes)
    WeightValues<W, 1>(part, first, column, states);
}

// The states of MR queries from `first` after this partition alone.
template <int MR>
void AttendQueries(Partition& part, int first, float* states) {
  F32x16 top[MR];
  Score<MR>(part, first, top);
  for (int m = 0; m < MR; ++m) {
    const State state = StateAt(states, first + m, part.padded_dim);
    if (part.limit[first + m] > 0) {
      Exponentials(part, first + m, top[m], state);
    } else {
      Store(state.sum, Zero());
    }
  }
  constexpr int kWhole = MR / kValueRows * kValueRows;
  for (int m = 0; m < kWhole; m += kValueRows) WeightAllValues<kValueRows>(part, first + m, states);
  if constexpr (kWhole < MR) WeightAllValues<MR - kWhole>(part, first + kWhole, states);
}

void AttendUpTo(int count, Partition& part, int first, float* states) {
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

// total = total combined with the later positions of `next`.
void Combine(State total, State next, int padded_dim) {
  if (next.sum[0] == 0) return;
  if (total.sum[0] == 0) {
    Store(total.maximum, Load(next.maximum));
    Store(total.sum, Load(next.sum));
    for (int c = 0; c < padded_dim; c += kLanes) Store(total.values + c, Load(next.values + c));
    return;
  }
  const F32x16 top = Max(Load(total.maximum), Load(next.maximum));
  const F32x16 a = ExpOfNegative(Load(total.maximum) - top);
  const F32x16 b = ExpOfNegative(Load(next.maximum) - top);
  Store(total.maximum, top);
  Store(total.sum, Fma(Load(total.sum), a, Load(next.sum) * b));
  for (int c = 0; c < padded_dim; c += kLanes) {
    Store(total.values + c, Fma(Load(total.values + c), a, Load(next.values + c) * b));
  }
}

// Finds the tile's query vectors (token-major, then head of the group) and loads them.
void LoadQueries(const AttentionArgs& args, const AttentionTile& tile, int kv_head,
                 Partition& part) {
  const int32_t group = args.num_q_heads / args.kv.num_kv_heads;
  const int head_dim = part.head_dim;
  const F32x16 scale = Broadcast(args.scale);
  int64_t token = args.batch->row_begin[tile.row] + tile.first_query / group;
  int32_t in_group = tile.first_query % group;
  for (int m = 0; m < tile.num_queries; ++m) {
    const int64_t column = int64_t{kv_head * group + in_group} * head_dim;
    part.position[m] = args.batch->positions[token];
    part.out[m] = args.out + token * args.out_stride + column;
    const float* q = args.q + token * args.q_stride + column;
    int d = 0;
    for (; d + kLanes <= head_dim; d += kLanes) Store(&part.q[m][d], Load(q + d) * scale);
    if (d < head_dim) Store(&part.q[m][d], LoadFirst(q + d, head_dim - d) * scale);
    if (++in_group == group) {
      in_group = 0;
      ++token;
    }
  }
}

// The states of the tile's queries over partition number `index`.
void AttendPartition(const AttentionArgs& args, const AttentionTile& tile, int kv_head, int index,
                     Partition& part, float* states) {
  const int32_t begin = index * kAttentionPartition;
  part.num_positions = 0;
  for (int m = 0; m < tile.num_queries; ++m) {
    int limit = part.position[m] + 1 - begin;
    limit = limit < kAttentionPartition ? limit : kAttentionPartition;
    part.limit[m] = limit;
    part.num_positions = limit > part.num_positions ? limit : part.num_positions;
  }
  const int32_t* blocks = args.batch->blocks + args.batch->block_begin[tile.row];
  const int num_sub_blocks = (part.num_positions + kLanes - 1) / kLanes;
  for (int b = 0; b < num_sub_blocks; ++b) {
    part.sub_blocks[b] = KvSubBlock(args.kv, blocks, kv_head, begin + b * kKvSubBlock);
  }
  // Reading two at a time past the end stays inside the last sub-block.
  for (int b = num_sub_blocks; b < num_sub_blocks + 2 && num_sub_blocks > 0; ++b) {
    part.sub_blocks[b] = part.sub_blocks[num_sub_blocks - 1];
  }
  for (int first = 0; first < tile.num_queries; first += kMaxQueries) {
    const int left = tile.num_queries - first;
    AttendUpTo(left < kMaxQueries ? left : kMaxQueries, part, first, states);
  }
}

void WriteOutput(const Partition& part, int num_queries, float* states) {
  for (int m = 0; m < num_queries; ++m) {
    const State state = StateAt(states, m, part.padded_dim);
    const F32x16 inverse = Broadcast(1.0F) / Load(state.sum);
    int c = 0;
    for (; c + kLanes <= part.head_dim; c += kLanes)
      Store(part.out[m] + c, Load(state.values + c) * inverse);
    if (c < part.head_dim)
      StoreFirst(part.out[m] + c, Load(state.values + c) * inverse, part.head_dim - c);
  }
}

// The tile's states in the partial results, for a tile that is one partition.
SLUICE_INLINE float* Partials(const AttentionArgs& args, const AttentionTile& tile, int kv_head,
                              int partition) {
  const int64_t state_floats = 2 * kLanes + KvPaddedDim(args.kv.head_dim);
  const int64_t first =
      tile.first_partial + int64_t{partition} * args.kv.num_kv_heads * tile.num_queries;
  return args.partials + (first + int64_t{kv_head} * tile.num_queries) * state_floats;
}

void ClearStates(float* states, int num_queries, int padded_dim) {
  for (int m = 0; m < num_queries; ++m) Store(StateAt(states, m, padded_dim).sum, Zero());
}

}  // namespace

void AttendTiles(const AttentionArgs& args, int64_t begin, int64_t end, const Worker& worker) {
  const int padded_dim = KvPaddedDim(args.kv.head_dim);
  auto* total = reinterpret_cast<float*>(worker.scratch);
  float* next = total + kAttentionTile * (2 * kLanes + padded_dim);
  Partition part;
  part.head_dim = args.kv.head_dim;
  part.padded_dim = padded_dim;
  for (int64_t item = begin; item < end; ++item) {
    const AttentionTile& tile = args.tiles[item % args.num_tiles];
    const auto kv_head = static_cast<int>(item / args.num_tiles);
    LoadQueries(args, tile, kv_head, part);
    if (args.partials != nullptr) {
      AttendPartition(args, tile, kv_head, tile.partition, part,
                      Partials(args, tile, kv_head, tile.partition));
      continue;
    }
    ClearStates(total, tile.num_queries, padded_dim);
    for (int index = 0; index < tile.num_partitions; ++index) {
      // The first partition needs no combining.
      float* states = index == 0 ? total : next;
      AttendPartition(args, tile, kv_head, index, part, states);
      for (int m = 0; index > 0 && m < tile.num_queries; ++m) {
        Combine(StateAt(total, m, padded_dim), StateAt(next, m, padded_dim), padded_dim);
      }
    }
    WriteOutput(part, tile.num_queries, total);
  }
}

void CombinePartitions(const AttentionArgs& args, int64_t begin, int64_t end,
                       const Worker& worker) {
  const int padded_dim = KvPaddedDim(args.kv.head_dim);
  auto* total = reinterpret_cast<float*>(worker.scratch);
  Partition part;
  part.head_dim = args.kv.head_dim;
  part.padded_dim = padded_dim;
  for (int64_t item = begin; item < end; ++item) {
    const AttentionTile& tile = args.tiles[item % args.num_tiles];
    if (tile.partition != 0) continue;  // the first partition's item does it for the whole tile
    const auto kv_head = static_cast<int>(item / args.num_tiles);
    LoadQueries(args, tile, kv_head, part);  // for where they go
    ClearStates(total, tile.num_queries, padded_dim);
    for (int index = 0; index < tile.num_partitions; ++index) {
      float* next = Partials(args, tile, kv_head, index);
      for (int m = 0; m < tile.num_queries; ++m) {
        Combine(StateAt(total, m, padded_dim), StateAt(next, m, padded_dim), padded_dim);
      }
    }
    WriteOutput(part, tile.num_queries, total);
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
