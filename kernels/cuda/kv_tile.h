// A tile of one head's keys and values: from KV blocks to shared memory, as f16; see attention.cu
// and kv_layout.h.
//
// Copies are asynchronous, one tile ahead, of bytes as they are stored. 16 of them land where the
// f16 they stand for begin: 8 codes of two bytes fill their place, 16 codes of one byte half of it.
// The thread that copied them expands them there, so that this needs no room and no barrier of its
// own. Bytes: what is stored, once. Values are multiplied by their scales there (one rounding);
// keys stay codes, and their scores are multiplied, so that K is exact.
#pragma once

#include <cstdint>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/kv_layout.h"
#include "kernels/cuda/number.h"

namespace sluice::cuda {

inline constexpr int kAttentionWarps = 4, kAttentionThreads = kAttentionWarps * 32;

// kHeadDim: of a head, rounded up; kTiles: of 16 query vectors.
template <KvType kKvType, int kHeadDim, int kTiles>
struct Shape {
  static constexpr KvType kType = kKvType;
  static constexpr int kDim = kHeadDim, kMTiles = kTiles;
  static constexpr int kTile = kDim > 128 ? 32 : 64;  // positions
  static constexpr int kVectors = kMTiles * 16;
  static constexpr int kRow = kDim + 8;    // halves of a row of Q, K or V: 8 spread rows over banks
  static constexpr int kPRow = kTile + 8;  // of a row of weights
  static constexpr int kScoreTiles = kTile / kAttentionWarps / 8;  // of 8 positions, of a warp
  static constexpr int kDimTiles = kDim / kAttentionWarps / 8;     // of 8 dimensions, of a warp
  static constexpr int kStage = 2 * kTile * kRow;                  // halves of a tile's K and V
  static constexpr int kScales = HasScales(kType) ? 2 * kTile : 0;
  static constexpr int kPiece = 16 / KvCodeBytes(kType);  // codes that are copied at once
  static constexpr size_t kSharedBytes =
      2 * (kVectors * kRow + 2 * kStage + 2 * kScales + kVectors * kPRow) +
      sizeof(float) * kAttentionWarps * kVectors;
};

// The block's item. Read again where little of it is needed: registers are scarce.
SLUICE_DEVICE const AttentionItem& ItemOf(const AttentionArgs& args) {
  return args.plan.items[BlockIndex().x];
}

// Where a block's parts lie in shared memory and what it has to know at every tile.
template <class S>
struct Block {
  int32_t row, first_token;
  int32_t kv_head, group, num_vectors, context_len;  // group: heads of the block
  uint16_t* q;
  uint16_t* kv;  // two stages of K, then V
  uint16_t* kv_scales;
  uint16_t* weights;
  float* tops;  // [kAttentionWarps][kVectors]

  SLUICE_DEVICE uint16_t* keys(int stage) const { return kv + stage * S::kStage; }
  SLUICE_DEVICE uint16_t* values(int stage) const { return keys(stage) + S::kTile * S::kRow; }
  SLUICE_DEVICE uint16_t* key_scales(int stage) const { return kv_scales + stage * S::kScales; }
  SLUICE_DEVICE uint16_t* value_scales(int stage) const { return key_scales(stage) + S::kTile; }
};

// The KV layer, of a type that the compiler knows.
template <class S>
SLUICE_DEVICE KvLayer LayerOf(const AttentionArgs& args) {
  KvLayer kv = args.kv;
  kv.type = S::kType;
  return kv;
}

// Begins the copies of kTile keys and values from `position` on, zeros past the context.
template <class S>
SLUICE_DEVICE void CopyTile(const AttentionArgs& args, const Block<S>& block, int32_t position,
                            int stage) {
  const KvLayer kv = LayerOf<S>(args);
  const int32_t padded = PaddedHeadDim(kv.head_dim), pieces = padded / S::kPiece;
  const int32_t* blocks = args.batch.blocks + args.batch.block_begin[block.row];
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  for (int32_t i = thread; i < S::kTile * pieces; i += kAttentionThreads) {
    const int32_t p = position + i / pieces, code = i % pieces * S::kPiece;
    const bool there = p < block.context_len;
    const KvPlace place{there ? blocks[p / kv.block_tokens] : 0, block.kv_head, false};
    const uint8_t* from = KvCodes(kv, place, there ? p % kv.block_tokens : 0);
    const int32_t values = kv.block_tokens * padded * KvCodeBytes(S::kType);
    const int32_t to = i / pieces * S::kRow + code;
    from += code * KvCodeBytes(S::kType);
    CopyAsync16(block.keys(stage) + to, from, there);
    CopyAsync16(block.values(stage) + to, from + values, there);
  }
  // None for types without.
  for (int32_t i = thread; i < S::kScales / kScalesOfCopy; i += kAttentionThreads) {
    const int32_t first = i * kScalesOfCopy, p = position + first % S::kTile;
    const bool there = p < block.context_len;
    const KvPlace place{there ? blocks[p / kv.block_tokens] : 0, block.kv_head, first >= S::kTile};
    CopyAsync16(block.key_scales(stage) + first,
                KvScale(kv, place, there ? p % kv.block_tokens : 0), there);
  }
}

// Four codes of a byte each as f16: words[0] gets the first two.
template <KvType kType>
SLUICE_DEVICE void ExpandCodes(uint32_t codes, uint32_t* words) {
  if constexpr (kType == KvType::kInt8) {
    // 128 more than the code, in the fraction of 1024.
    const uint32_t biased = codes ^ 0x80808080U;
    words[0] = SubtractHalves(SelectBytes<0x4140>(biased, 0x64646464U), 0x64806480U);
    words[1] = SubtractHalves(SelectBytes<0x4342>(biased, 0x64646464U), 0x64806480U);
  } else {
    const uint32_t low = SelectBytes<0x1404>(codes, 0), high = SelectBytes<0x3424>(codes, 0);
    words[0] = (low & 0x80008000U) | (low & 0x7fff7fffU) >> 1;
    words[1] = (high & 0x80008000U) | (high & 0x7fff7fffU) >> 1;
  }
}

// What the calling thread has copied of `rows`, keys or values, becomes f16; scale(row, halves)
// multiplies them by the row's scale.
template <class S, class F>
SLUICE_DEVICE void Expand(const AttentionArgs& args, uint16_t* rows, const F& scale) {
  const int32_t pieces = PaddedHeadDim(args.kv.head_dim) / S::kPiece;
  SLUICE_ROLLED
  for (auto i = static_cast<int32_t>(ThreadAnew()); i < S::kTile * pieces; i += kAttentionThreads) {
    const int32_t row = i / pieces;
    uint16_t* place = rows + row * S::kRow + i % pieces * S::kPiece;
    const Words4 codes = LoadWords4(place);
    Words4 halves[2];
    SLUICE_UNROLL
    for (int w = 0; w < 4; ++w) {
      if constexpr (S::kType == KvType::kBf16) {
        halves[0].word[w] = Bf16ToHalves(codes.word[w]);
      } else {
        ExpandCodes<S::kType>(codes.word[w], &halves[w / 2].word[w % 2 * 2]);
      }
    }
    if constexpr (HasScales(S::kType)) {
      scale(row, halves);
      StoreWords4(place + 8, halves[1]);
    }
    StoreWords4(place, halves[0]);
  }
}

// The keys of `stage` that the calling thread has waited for; values, too, if they have no scales.
template <class S>
SLUICE_DEVICE void ExpandKeys(const AttentionArgs& args, const Block<S>& block, int stage) {
  const auto as_it_is = [](int32_t, Words4(&)[2]) {};
  if constexpr (S::kType != KvType::kF16) Expand<S>(args, block.keys(stage), as_it_is);
  if constexpr (S::kType == KvType::kBf16) Expand<S>(args, block.values(stage), as_it_is);
}

// The values of `stage`, behind a barrier after the wait: others have copied their scales.
template <class S>
SLUICE_DEVICE void ExpandValues(const AttentionArgs& args, const Block<S>& block, int32_t position,
                                int stage) {
  if constexpr (HasScales(S::kType)) {
    Expand<S>(args, block.values(stage), [&](int32_t row, Words4(&halves)[2]) {
      // Past the context lie scales of whoever had the block before, NaN maybe.
      const bool there = position + row < block.context_len;
      const uint32_t scale = there ? block.value_scales(stage)[row] : 0;
      SLUICE_UNROLL
      for (int w = 0; w < 8; ++w) {
        uint32_t& word = halves[w / 4].word[w % 4];
        word = MultiplyHalves(word, scale | scale << 16);
      }
    });
  }
}

// Scores of keys that were codes.
template <class S>
SLUICE_DEVICE void ScaleScores(const Block<S>& block, int stage,
                               float (&scores)[S::kMTiles][S::kScoreTiles][4]) {
  if constexpr (HasScales(S::kType)) {
    const uint32_t lane = ThreadAnew() % 32, warp = ThreadAnew() / 32;
    SLUICE_UNROLL
    for (uint32_t n = 0; n < S::kScoreTiles; ++n) {
      const uint32_t column = (warp * S::kScoreTiles + n) * 8 + lane % 4 * 2;
      const auto pair = *reinterpret_cast<const uint32_t*>(block.key_scales(stage) + column);
      SLUICE_UNROLL
      for (int i = 0; i < S::kMTiles * 4; ++i)
        scores[i / 4][n][i % 4] *= i % 2 == 0 ? LowHalf(pair) : HighHalf(pair);
    }
  }
}

}  // namespace sluice::cuda
