// PagedAttention over f16 KV blocks, positions p in (position - window, position]:
//   out[t,h] = softmax(cap(scale * q[t,h] . K[p])) V[p].
//
// Layout: kv_layout.h. The arithmetic of one tile in one partition: attention_tile.h.
//
// Order: a query vector's score is one fma chain over d ascending; a partition of 256 absolute
// positions gives its maximum, the sum of its exponentials (16 lanes = position mod 16, ascending,
// then the tree of vec.h) and the weighted V (one fma chain over positions ascending); partitions
// combine ascending; a window only narrows what a vector sees of a partition. A vector's chains
// depend on nothing but its own q, position and KV, so tiles, chunks, threads and splitting cannot
// change a bit.
//
// Work: a tile is up to kAttentionTile query vectors (token, head) of one row that share a KV head,
// so that each K and V value loaded serves all of them. Items are (KV head, tile), or with few rows
// (KV head, tile, partition) followed by a combining command: the same partial results, taken from
// memory instead of from cache.
//
// Bytes: a tile reads 4 * H * context of KV (the window's, if there is one, and only the sub-blocks
// that one of its vectors sees), so decode moves T * Hkv * 4 * H * context.
// FLOPs: 4 * Hq * H * context a token.
// Decode with few heads a KV head is bound by reading and converting KV (DRAM once the batch's KV
// leaves L3), prefill by the FMA pipes: 101 ms of CPU time for 512 causal tokens, 30 layers of 9/3
// heads of 64, on one Zen 4 core, against 79 ms for the fmas alone.
// Scores, exponentials and sums are f32.
// Sources: arXiv:2309.06180 (paging), arXiv:2205.14135 (combination).
#include "kernels/cpu/isa/attention_tile.h"
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"
#include "kernels/cpu/kv_layout.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

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
  const F32x16 scale = Broadcast(args.params.scale);
  int64_t token = args.batch->row_begin[tile.row] + tile.first_query / group;
  int32_t in_group = tile.first_query % group;
  for (int m = 0; m < tile.num_queries; ++m) {
    const int64_t column = int64_t{kv_head * group + in_group} * head_dim;
    part.position[m] =
        args.params.causal ? args.batch->positions[token] : args.batch->context_len[tile.row] - 1;
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

SLUICE_INLINE int Clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

// What each query sees of the partition that starts at position `begin`.
void FindRanges(int32_t begin, int32_t window, int num_queries, Partition& part) {
  part.first_block = kSubBlocks;
  part.num_positions = 0;
  for (int m = 0; m < num_queries; ++m) {
    const int limit = Clamp(part.position[m] + 1 - begin, 0, kAttentionPartition);
    const int lower = window > 0 ? Clamp(part.position[m] + 1 - window - begin, 0, limit) : 0;
    part.lower[m] = lower;
    part.limit[m] = limit;
    if (lower == limit) continue;
    part.num_positions = limit > part.num_positions ? limit : part.num_positions;
    part.first_block = lower / kLanes < part.first_block ? lower / kLanes : part.first_block;
  }
}

// The states of the tile's queries over partition number `index`.
void AttendPartition(const AttentionArgs& args, const AttentionTile& tile, int kv_head, int index,
                     Partition& part, float* states) {
  const int32_t begin = index * kAttentionPartition;
  FindRanges(begin, args.params.window, tile.num_queries, part);
  const int32_t* blocks = args.batch->blocks + args.batch->block_begin[tile.row];
  const int num_sub_blocks = (part.num_positions + kLanes - 1) / kLanes;
  for (int b = part.first_block; b < num_sub_blocks; ++b) {
    part.sub_blocks[b] = KvSubBlock(args.kv, blocks, kv_head, begin + b * kKvSubBlock);
  }
  // Reading two at a time past the end stays inside the last sub-block.
  for (int b = num_sub_blocks; b < num_sub_blocks + 3 && num_sub_blocks > 0; ++b) {
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
  const int64_t first = tile.first_partial + int64_t{partition - tile.first_partition} *
                                                 args.kv.num_kv_heads * tile.num_queries;
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
  part.softcap = args.params.softcap;
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
    for (int index = tile.first_partition; index < tile.num_partitions; ++index) {
      // The first partition needs no combining.
      const bool is_first = index == tile.first_partition;
      AttendPartition(args, tile, kv_head, index, part, is_first ? total : next);
      for (int m = 0; !is_first && m < tile.num_queries; ++m) {
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
    if (tile.partition != tile.first_partition)
      continue;  // the first partition's item does it for the whole tile
    const auto kv_head = static_cast<int>(item / args.num_tiles);
    LoadQueries(args, tile, kv_head, part);  // for where they go
    ClearStates(total, tile.num_queries, padded_dim);
    for (int index = tile.first_partition; index < tile.num_partitions; ++index) {
      float* next = Partials(args, tile, kv_head, index);
      for (int m = 0; m < tile.num_queries; ++m) {
        Combine(StateAt(total, m, padded_dim), StateAt(next, m, padded_dim), padded_dim);
      }
    }
    WriteOutput(part, tile.num_queries, total);
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
