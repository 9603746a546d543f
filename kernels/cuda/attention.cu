// Attention over paged keys and values; see ops.h for the formula and the partitions.
//
// Work: a block takes an item (up to 16 or 32 to 64 query vectors: tokens of one row times the
// heads that share a KV head) of one KV head and goes through its partitions, kTile positions at a
// time. Its 4 warps share the positions of the scores Q K^T, then the dimensions of the product P
// V; keys and values come by asynchronous copies, one tile ahead, of whatever type the cache has
// (kv_tile.h). Rows of few query vectors may be cut by partition: whichever block of a row ends
// last merges what all gave, as a block merges its own. Bytes: an item reads its positions' keys
// and values once, 2 H codes a position and their scales; a partial is 4 (H + 2) a head. Bound by
// memory for decode, by matrix instructions for long rows. Accumulation: f32. Scores: the order of
// the matrix instruction over H. In a partition, tiles ascending with a running maximum; weights
// rounded to f16, which both the sum of weights and the weighted values take; partitions ascending.
// An element's order depends on H and the positions alone, so that chunks, splits and neighbours do
// not show. Sources: arXiv:2309.06180 (pages), arXiv:2205.14135 and arXiv:2307.08691 (tiles,
// running maximum), arXiv:2310.06825 (window), arXiv:2408.00118 (cap).
#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/kv_tile.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/rows.h"

namespace sluice::cuda {
namespace {

constexpr int kWarps = kAttentionWarps, kThreads = kAttentionThreads;
constexpr int32_t kMaxGroup = 16;  // heads of one KV head that a block takes

// Sums of a lane's query vectors (rows g and g + 8 of each tile of 16) over some positions.
template <class S>
struct State {
  float top[S::kMTiles][2];
  float weight[S::kMTiles][4];  // columns of the sum of weights; all equal
  float values[S::kMTiles][S::kDimTiles][4];
};

template <class S>
SLUICE_DEVICE void Clear(State<S>& state) {
  SLUICE_UNROLL
  for (int m = 0; m < S::kMTiles; ++m) {
    state.top[m][0] = state.top[m][1] = kNone;
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) state.weight[m][i] = 0;
    SLUICE_UNROLL
    for (int d = 0; d < S::kDimTiles; ++d) {
      SLUICE_UNROLL
      for (int i = 0; i < 4; ++i) state.values[m][d][i] = 0;
    }
  }
}

template <class S>
SLUICE_DEVICE void MergeInto(State<S>& total, const State<S>& part) {
  SLUICE_UNROLL
  for (int m = 0; m < S::kMTiles; ++m) {
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const float top = Larger(total.top[m][r], part.top[m][r]);
      const float decay = Decay(total.top[m][r], top), share = Decay(part.top[m][r], top);
      total.top[m][r] = top;
      SLUICE_UNROLL
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        total.weight[m][i] = Merge(total.weight[m][i], decay, part.weight[m][i], share);
        SLUICE_UNROLL
        for (int d = 0; d < S::kDimTiles; ++d)
          total.values[m][d][i] = Merge(total.values[m][d][i], decay, part.values[m][d][i], share);
      }
    }
  }
}

// The block's first query head: its KV head's heads are dealt to blocks of kMaxGroup.
SLUICE_DEVICE int32_t FirstHead(const AttentionArgs& args) {
  const int32_t group = args.num_q_heads / args.kv.num_kv_heads;
  const int32_t parts = (group + kMaxGroup - 1) / kMaxGroup;
  const auto y = static_cast<int32_t>(BlockIndex().y);
  return y / parts * group + y % parts * kMaxGroup;
}

// Query vector v of the item is head v % group of its token v / group.
template <class S>
SLUICE_DEVICE void LoadQueries(const AttentionArgs& args, const Block<S>& block) {
  const int32_t head_dim = args.kv.head_dim;
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < S::kVectors * S::kDim; i += kThreads) {
    const int32_t v = i / S::kDim, d = i % S::kDim;
    float q = 0;
    if (v < block.num_vectors && d < head_dim) {
      const int32_t token = block.first_token + v / block.group;
      const int32_t head = FirstHead(args) + v % block.group;
      q = RowOf(args.q, token)[head * head_dim + d] * args.params.scale;
    }
    block.q[v * S::kRow + d] = FloatToHalf(WithinHalf(q));
  }
  // Dimensions that copies do not reach.
  const int32_t padded = PaddedHeadDim(head_dim), missing = S::kDim - padded;
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < missing * 4 * S::kTile; i += kThreads)
    block.kv[i / missing * S::kRow + padded + i % missing] = 0;
}

// scores[m][n]: query vectors by the warp's positions.
template <class S>
SLUICE_DEVICE void Score(const Block<S>& block, int stage,
                         float (&scores)[S::kMTiles][S::kScoreTiles][4]) {
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  const auto warp = static_cast<int32_t>(ThreadIndex().x / 32);
  const uint16_t* keys = block.keys(stage) + (warp * S::kScoreTiles * 8 + lane % 8) * S::kRow;
  SLUICE_UNROLL
  for (int k = 0; k < S::kDim / 32; ++k) {
    uint32_t b[S::kScoreTiles][4];
    SLUICE_UNROLL
    for (int n = 0; n < S::kScoreTiles; ++n)
      LoadMatrices(keys + n * 8 * S::kRow + k * 32 + lane / 8 * 8, b[n]);
    SLUICE_UNROLL
    for (int m = 0; m < S::kMTiles; ++m) {
      if (m * 16 >= block.num_vectors) break;
      SLUICE_UNROLL
      for (int s = 0; s < 2; ++s) {
        uint32_t a[4];
        LoadMatrices(block.q + (m * 16 + lane % 16) * S::kRow + k * 32 + s * 16 + lane / 16 * 8, a);
        SLUICE_UNROLL
        for (int n = 0; n < S::kScoreTiles; ++n) {
          const uint32_t column[2] = {b[n][2 * s], b[n][2 * s + 1]};
          MultiplyF16(a, column, scores[m][n]);
        }
      }
    }
  }
}

// The positions [begin, end) that query vector v sees.
struct Seen {
  int32_t begin, end;
};
template <class S>
SLUICE_DEVICE Seen SeenBy(const AttentionArgs& args, const Block<S>& block, int32_t v) {
  if (v >= block.num_vectors) return {0, 0};
  const int32_t position = args.batch.positions[block.first_token + v / block.group];
  Seen seen{0, block.context_len};
  if (args.params.causal) seen.end = position + 1;
  if (args.params.window > 0) {
    seen.begin = position + 1 - args.params.window;
    seen.end = position + 1;
  }
  return seen;
}

// Adds the tile at `position`, whose keys and values are in `stage`, to `part`.
template <class S>
SLUICE_DEVICE void AddTile(const AttentionArgs& args, const Block<S>& block, int32_t position,
                           int stage, State<S>& part) {
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  const auto warp = static_cast<int32_t>(ThreadIndex().x / 32);
  ExpandValues<S>(args, block, position, stage);
  float scores[S::kMTiles][S::kScoreTiles][4] = {};
  Score<S>(block, stage, scores);
  ScaleScores<S>(block, stage, scores);
  const float cap = args.params.softcap;
  SLUICE_UNROLL
  for (int m = 0; m < S::kMTiles; ++m) {
    if (m * 16 >= block.num_vectors) break;
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int32_t v = m * 16 + lane / 4 + 8 * r;
      const Seen seen = SeenBy<S>(args, block, v);
      float top = kNone;
      SLUICE_UNROLL
      for (int n = 0; n < S::kScoreTiles; ++n) {
        SLUICE_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int32_t p = position + (warp * S::kScoreTiles + n) * 8 + lane % 4 * 2 + e;
          float& score = scores[m][n][2 * r + e];
          if (cap > 0) score = cap * Tanh(Divide(score, cap));
          if (p < seen.begin || p >= seen.end) score = kNone;
          top = Larger(top, score);
        }
      }
      top = GroupMax<4>(top);
      if (lane % 4 == 0) block.tops[warp * S::kVectors + v] = top;
    }
  }
  SyncBlock();
  SLUICE_UNROLL
  for (int m = 0; m < S::kMTiles; ++m) {
    if (m * 16 >= block.num_vectors) break;
    SLUICE_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int32_t v = m * 16 + lane / 4 + 8 * r;
      float top = part.top[m][r];
      SLUICE_UNROLL
      for (int w = 0; w < kWarps; ++w) top = Larger(top, block.tops[w * S::kVectors + v]);
      const float decay = Decay(part.top[m][r], top);
      part.top[m][r] = top;
      const float base = top == kNone ? 0.0F : top;
      SLUICE_UNROLL
      for (int n = 0; n < S::kScoreTiles; ++n) {
        const uint32_t pair =
            PackHalves(Exp(scores[m][n][2 * r] - base), Exp(scores[m][n][2 * r + 1] - base));
        const int32_t column = (warp * S::kScoreTiles + n) * 8 + lane % 4 * 2;
        *reinterpret_cast<uint32_t*>(block.weights + v * S::kPRow + column) = pair;
      }
      SLUICE_UNROLL
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        part.weight[m][i] *= decay;
        SLUICE_UNROLL
        for (int d = 0; d < S::kDimTiles; ++d) part.values[m][d][i] *= decay;
      }
    }
  }
  SyncBlock();
  const uint16_t* values = block.values(stage) + warp * S::kDimTiles * 8;
  SLUICE_UNROLL
  for (int k = 0; k < S::kTile / 16; ++k) {
    uint32_t b[S::kDimTiles / 2][4];
    SLUICE_UNROLL
    for (int d = 0; d < S::kDimTiles / 2; ++d) {
      LoadMatricesTransposed(values + (k * 16 + lane % 16) * S::kRow + d * 16 + lane / 16 * 8,
                             b[d]);
    }
    SLUICE_UNROLL
    for (int m = 0; m < S::kMTiles; ++m) {
      if (m * 16 >= block.num_vectors) break;
      uint32_t a[4];
      LoadMatrices(block.weights + (m * 16 + lane % 16) * S::kPRow + k * 16 + lane / 16 * 8, a);
      const uint32_t ones[2] = {0x3c003c00, 0x3c003c00};
      MultiplyF16(a, ones, part.weight[m]);
      SLUICE_UNROLL
      for (int d = 0; d < S::kDimTiles; ++d) {
        const uint32_t column[2] = {b[d / 2][d % 2 * 2], b[d / 2][d % 2 * 2 + 1]};
        MultiplyF16(a, column, part.values[m][d]);
      }
    }
  }
}

// Calls f(token, head, dimension, m, d, i) for each element of a State that the lane holds.
template <class S, class F>
SLUICE_DEVICE void ForElements(const AttentionArgs& args, const Block<S>& block, const F& f) {
  const auto lane = static_cast<int32_t>(ThreadAnew() % 32);
  const auto warp = static_cast<int32_t>(ThreadAnew() / 32);
  SLUICE_UNROLL
  for (int m = 0; m < S::kMTiles; ++m) {
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int32_t v = m * 16 + lane / 4 + i / 2 * 8;
      if (v >= block.num_vectors) continue;
      const int32_t head = FirstHead(args) + v % block.group;
      SLUICE_UNROLL
      for (int d = 0; d < S::kDimTiles; ++d) {
        const int32_t dimension = (warp * S::kDimTiles + d) * 8 + lane % 4 * 2 + i % 2;
        if (dimension < args.kv.head_dim) f(v / block.group, head, dimension, m, d, i);
      }
    }
  }
}

template <class S>
SLUICE_DEVICE void WritePartial(const AttentionArgs& args, const Block<S>& block, int32_t partition,
                                const State<S>& part) {
  const int32_t head_dim = args.kv.head_dim;
  ForElements<S>(args, block,
                 [&](int32_t token, int32_t head, int32_t dimension, int m, int d, int i) {
                   float* to = PartialOf(args, ItemOf(args), token, partition, head);
                   to[dimension] = part.values[m][d][i];
                   if (dimension != 0) return;
                   to[head_dim] = part.top[m][i / 2];
                   to[head_dim + 1] = part.weight[m][i];
                 });
}

template <class S>
SLUICE_KERNEL(kThreads, 2)
AttentionKernel(AttentionArgs args) {
  SLUICE_DYNAMIC_SHARED(shared);
  if (static_cast<int32_t>(BlockIndex().x) >= args.plan.num_items[0]) return;
  Block<S> block;
  block.row = ItemOf(args).row;
  block.first_token = ItemOf(args).first_token;
  const int32_t group = args.num_q_heads / args.kv.num_kv_heads;
  const int32_t parts = (group + kMaxGroup - 1) / kMaxGroup;
  const auto y = static_cast<int32_t>(BlockIndex().y);
  block.kv_head = y / parts;
  block.group = group - y % parts * kMaxGroup;
  if (block.group > kMaxGroup) block.group = kMaxGroup;
  block.num_vectors = ItemOf(args).num_tokens * block.group;
  block.context_len = args.batch.context_len[block.row];
  block.q = reinterpret_cast<uint16_t*>(shared);
  block.kv = block.q + S::kVectors * S::kRow;
  block.kv_scales = block.kv + 2 * S::kStage;
  block.weights = block.kv_scales + 2 * S::kScales;
  block.tops = reinterpret_cast<float*>(block.weights + S::kVectors * S::kPRow);

  // The tiles that any query vector sees.
  const int32_t last = block.num_vectors - 1;
  int32_t begin = SeenBy<S>(args, block, 0).begin;
  int32_t end = SeenBy<S>(args, block, last).end;
  const int32_t from = ItemOf(args).first_partition * kAttentionPartition;
  const int32_t to = from + ItemOf(args).num_partitions * kAttentionPartition;
  begin = (begin > from ? begin : from) / S::kTile * S::kTile;
  end = end < to ? end : to;
  if (begin >= end) begin = end = from;

  LoadQueries<S>(args, block);
  if (begin < end) CopyTile<S>(args, block, begin, begin / S::kTile % 2);
  EndCopies();
  State<S> total, part;
  Clear<S>(total);
  Clear<S>(part);
  // Partitions before the first seen one are empty, and those behind the last.
  for (int32_t p = from; p + kAttentionPartition <= begin && IsCut(ItemOf(args));
       p += kAttentionPartition) {
    WritePartial<S>(args, block, p / kAttentionPartition, part);
  }
  // What follows from p takes no register: stages in turn, from position 0, and partitions.
  for (int32_t p = begin; p < end; p += S::kTile) {
    const int stage = p / S::kTile % 2;
    if (p + S::kTile < end) CopyTile<S>(args, block, p + S::kTile, 1 - stage);
    EndCopies();
    WaitForCopies<1>();
    ExpandKeys<S>(args, block, stage);
    SyncBlock();
    AddTile<S>(args, block, p, stage, part);
    SyncBlock();
    if ((p + S::kTile) % kAttentionPartition != 0 && p + S::kTile < end) continue;
    if (IsCut(ItemOf(args))) {
      WritePartial<S>(args, block, p / kAttentionPartition, part);
    } else {
      MergeInto<S>(total, part);
    }
    Clear<S>(part);
  }
  if (!IsCut(ItemOf(args))) {
    ForElements<S>(args, block,
                   [&](int32_t token, int32_t head, int32_t dimension, int m, int d, int i) {
                     WriteElement(args, block.first_token + token, head, dimension,
                                  total.values[m][d][i], total.weight[m][i]);
                   });
    return;
  }
  const int32_t last_partition = ItemOf(args).first_partition + ItemOf(args).num_partitions;
  for (int32_t p = (end + kAttentionPartition - 1) / kAttentionPartition; p < last_partition; ++p)
    WritePartial<S>(args, block, p, part);
  if (!EndsLast(args, ItemOf(args))) return;
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < block.num_vectors * args.kv.head_dim;
       i += kThreads) {
    const int32_t v = i / args.kv.head_dim;
    MergePartials(args, ItemOf(args), v / block.group, FirstHead(args) + v % block.group,
                  i % args.kv.head_dim);
  }
}

template <class S>
cudaError_t LaunchShaped(const AttentionArgs& args, cudaStream_t stream) {
  const int32_t group = args.num_q_heads / args.kv.num_kv_heads;
  const int32_t parts = (group + kMaxGroup - 1) / kMaxGroup;
  return Launch("attention", &AttentionKernel<S>,
                {.grid_x = static_cast<uint32_t>(args.plan.max_items),
                 .grid_y = static_cast<uint32_t>(args.kv.num_kv_heads * parts),
                 .threads = kThreads,
                 .shared_bytes = S::kSharedBytes},
                stream, args);
}

// Of 16 query vectors for heads of up to 128: registers for four would spill where codes are
// expanded.
constexpr int TilesOf128(KvType type) { return type == KvType::kF16 ? 4 : 3; }

template <KvType kType>
cudaError_t LaunchTyped(const AttentionArgs& args, cudaStream_t stream) {
  const bool many = args.plan.long_rows;
  if (args.kv.head_dim <= 64) {
    return many ? LaunchShaped<Shape<kType, 64, 4>>(args, stream)
                : LaunchShaped<Shape<kType, 64, 1>>(args, stream);
  }
  if (args.kv.head_dim <= 128) {
    return many ? LaunchShaped<Shape<kType, 128, TilesOf128(kType)>>(args, stream)
                : LaunchShaped<Shape<kType, 128, 1>>(args, stream);
  }
  return many ? LaunchShaped<Shape<kType, 256, 2>>(args, stream)
              : LaunchShaped<Shape<kType, 256, 1>>(args, stream);
}

}  // namespace

int32_t MaxItemTokens(bool long_rows, int32_t group, int32_t head_dim, KvType type) {
  const int32_t tiles = head_dim <= 64 ? 4 : head_dim <= 128 ? TilesOf128(type) : 2;
  const int32_t vectors = long_rows ? 16 * tiles : 16;
  return vectors / (group < kMaxGroup ? group : kMaxGroup);
}

cudaError_t Attention(const AttentionArgs& args, cudaStream_t stream) {
  return WithKvType(args.kv.type, [&]<KvType kType>() { return LaunchTyped<kType>(args, stream); });
}

}  // namespace sluice::cuda
