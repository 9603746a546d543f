// out[r,n] = sum_k W[n,k] x[r,k] (+ residual[r,n]) over packed weights, for many rows of x.
//
// Work: a block takes 128 outputs and 128 rows of x, a warp 32 outputs (2 panels) and 64 rows. Rows
// of x come in tiles of 64 columns by asynchronous copies, kStages deep, into shared memory whose
// 16-byte pieces are swizzled so that a fragment's loads meet no bank twice; a tile's weights go
// from global memory to registers one tile ahead and are expanded there, once for 8 matrix
// instructions. Bytes: the matrix once for each 128 rows, x once for each 128 outputs; 2 N K rows
// FLOP. Bound by matrix instructions from about 128 rows on.
//
// Where that makes fewer blocks than there are multiprocessors, K is cut in ranges, each a block's:
// it writes its sums to memory, and the last of a place's blocks to arrive adds them up, ranges
// ascending, whoever that is. A block's sums are 64 KiB, which the last one reads at some 64 bytes
// a clock, about what a tile takes: more ranges than the root of the tiles would cost more than
// they save (an estimate, not measured). Bytes: 128 KiB more for each block.
//
// Accumulation: f32, columns ascending in the order of the matrix instruction, then ranges
// ascending; times the powers of two of both sides; residual last. Not the order of linear.cu:
// which of the two runs, and in how many ranges, depends on the number of rows, unless the backend
// is deterministic. linear.cu is not cut: its order may depend on K alone, and its 8 warps share K
// already.
// Source of the last block: CUDA C++ Programming Guide, "Memory Fence Functions".
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/weight_fragment.h"
#include "kernels/cuda/dispatch.h"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockOutputs = 128, kBlockRows = 128;
constexpr int kWarpPanels = 2, kWarpRows = 64;
constexpr int kWarpColumns = kWarpRows / 8;  // of 8 rows of x
static_assert(kBlockOutputs * kBlockRows == kTiledSums);
constexpr int kStages = 3;
constexpr int kStageHalves = kBlockRows * kTileColumns;
constexpr size_t kSharedBytes = sizeof(uint16_t) * kStages * kStageHalves;

// Where piece `piece` (8 halves) of row `row` of a tile lies.
SLUICE_DEVICE int32_t PieceAt(int32_t row, int32_t piece) {
  return row * kTileColumns + (piece ^ (row & 1) << 2) * 8;
}

SLUICE_DEVICE void CopyX(const LinearArgs& args, int32_t first_row, int32_t tile, uint16_t* stage) {
  SLUICE_UNROLL
  for (int i = 0; i < kStageHalves / 8 / kThreads; ++i) {
    const int32_t index = i * kThreads + static_cast<int32_t>(ThreadIndex().x);
    const int32_t row = index / 8, piece = index % 8;
    const bool there = first_row + row < args.num_x_rows;
    const int64_t from = int64_t{there ? first_row + row : 0} * args.x.columns;
    CopyAsync16(stage + PieceAt(row, piece), args.x.data + from + tile * kTileColumns + piece * 8,
                there);
  }
}

template <WeightFormat kFormat>
SLUICE_DEVICE void MultiplyTile(const TileFragment<kFormat> (&weights)[kWarpPanels],
                                const uint16_t* stage, int32_t warp_row,
                                float (&sums)[kWarpPanels][kWarpColumns][4]) {
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  SLUICE_UNROLL
  for (int b = 0; b < 2; ++b) {
    uint32_t a[2][kWarpPanels][4];
    SLUICE_UNROLL
    for (int s = 0; s < 2; ++s) {
      SLUICE_UNROLL
      for (int p = 0; p < kWarpPanels; ++p) Expand<kFormat>(weights[p], 2 * b + s, a[s][p]);
    }
    SLUICE_UNROLL
    for (int c = 0; c < kWarpColumns; ++c) {
      const Words4 x = LoadWords4(stage + PieceAt(warp_row + 8 * c + lane / 4, b * 4 + lane % 4));
      float part[kWarpPanels][4] = {};  // where sums are scaled
      SLUICE_UNROLL
      for (int s = 0; s < 2; ++s) {
        const uint32_t column[2] = {x.word[2 * s], x.word[2 * s + 1]};
        SLUICE_UNROLL
        for (int p = 0; p < kWarpPanels; ++p) {
          MultiplyF16(a[s][p], column, kFormat == WeightFormat::kFp8 ? part[p] : sums[p][c]);
        }
      }
      if constexpr (kFormat == WeightFormat::kFp8) {
        SLUICE_UNROLL
        for (int p = 0; p < kWarpPanels; ++p)
          AddScaled(weights[p], b, kShiftedUnit, part[p], sums[p][c]);
      }
    }
  }
}

SLUICE_DEVICE void WriteSums(const LinearArgs& args, int32_t first_output, int32_t first_row,
                             const float (&sums)[kWarpPanels][kWarpColumns][4]) {
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  SLUICE_UNROLL
  for (int c = 0; c < kWarpColumns; ++c) {
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int32_t row = first_row + 8 * c + lane % 4 * 2 + i % 2;
      if (row >= args.num_x_rows) continue;
      SLUICE_UNROLL
      for (int p = 0; p < kWarpPanels; ++p) {
        const int32_t output = first_output + p * kPanelRows + lane / 4 + i / 2 * 8;
        if (output >= args.rows) continue;
        float sum = sums[p][c][i] * args.row_scale[output] * args.x.scale[row];
        if (args.residual != nullptr)
          sum += args.residual[int64_t{row} * args.residual_stride + output];
        args.out[int64_t{row} * args.out_stride + output] = sum;
      }
    }
  }
}

// Whether the block is its place's last to arrive; if so, sums become those of all ranges. `shared`
// is one word, which threads may still be reading when others come.
SLUICE_DEVICE bool AddRanges(const TiledRanges& ranges, uint32_t* shared,
                             float (&sums)[kWarpPanels][kWarpColumns][4]) {
  const uint32_t thread = ThreadIndex().x;
  const uint32_t place = BlockIndex().y * GridSize().x + BlockIndex().x;
  const auto count = static_cast<uint32_t>(ranges.count);
  // Four sums of a thread beside those of the next thread.
  float* const first = ranges.sums + int64_t{place} * count * kTiledSums + thread * 4;
  float* const mine = first + int64_t{BlockIndex().z} * kTiledSums;
  SLUICE_UNROLL
  for (int p = 0; p < kWarpPanels; ++p) {
    SLUICE_UNROLL
    for (int c = 0; c < kWarpColumns; ++c) {
      Words4 four;
      SLUICE_UNROLL
      for (int i = 0; i < 4; ++i) {
        four.word[i] = BitsOf(sums[p][c][i]);
        sums[p][c][i] = 0;
      }
      StoreWords4(mine + (p * kWarpColumns + c) * kThreads * 4, four);
    }
  }
  Fence();
  SyncBlock();
  if (thread == 0) {
    *shared = AtomicAdd(ranges.arrived + place, 1U);
    Fence();  // of the thread that counted: what others wrote before theirs is seen from here on
  }
  SyncBlock();
  if (*shared + 1 < count) return false;
  if (thread == 0) AtomicAdd(ranges.arrived + place, 0U - count);  // as the next launch finds it
  for (uint32_t r = 0; r < count; ++r) {
    SLUICE_UNROLL
    for (int p = 0; p < kWarpPanels; ++p) {
      SLUICE_UNROLL
      for (int c = 0; c < kWarpColumns; ++c) {
        const Words4 four =
            LoadWords4(first + int64_t{r} * kTiledSums + (p * kWarpColumns + c) * kThreads * 4);
        SLUICE_UNROLL
        for (int i = 0; i < 4; ++i) sums[p][c][i] += FloatOf(four.word[i]);
      }
    }
  }
  return true;
}

template <WeightFormat kFormat>
SLUICE_KERNEL(kThreads)
LinearTiledKernel(LinearArgs args, TiledRanges ranges) {
  SLUICE_DYNAMIC_SHARED(shared);
  auto* stages = reinterpret_cast<uint16_t*>(shared);
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  const auto warp = static_cast<int32_t>(ThreadIndex().x / 32);
  // Blocks that are near each other in time share rows of x and panels.
  const int32_t first_row = static_cast<int32_t>(BlockIndex().x) * kBlockRows;
  const int32_t warp_row = warp % 2 * kWarpRows;
  const int32_t first_output =
      static_cast<int32_t>(BlockIndex().y) * kBlockOutputs + warp / 2 * kWarpPanels * kPanelRows;
  const int32_t num_tiles = args.columns / kTileColumns;
  const int32_t num_panels = (args.rows + kPanelRows - 1) / kPanelRows;
  const int64_t panel_bytes = InfoOf(kFormat).panel_bytes(num_tiles);
  const uint8_t* panels[kWarpPanels];
  SLUICE_UNROLL
  for (int p = 0; p < kWarpPanels; ++p) {
    // Panels that are not there: the last one again.
    const int32_t panel = first_output / kPanelRows + p;
    panels[p] = args.weights + (panel < num_panels ? panel : num_panels - 1) * panel_bytes;
  }
  const auto begin = static_cast<int32_t>(int64_t{num_tiles} * BlockIndex().z / ranges.count);
  const auto end = static_cast<int32_t>(int64_t{num_tiles} * (BlockIndex().z + 1) / ranges.count);
  SLUICE_UNROLL
  for (int s = 0; s < kStages - 1; ++s) {
    if (begin + s < end) CopyX(args, first_row, begin + s, stages + s * kStageHalves);
    EndCopies();
  }
  float sums[kWarpPanels][kWarpColumns][4] = {};
  TileFragment<kFormat> next[kWarpPanels];
  SLUICE_UNROLL
  for (int p = 0; p < kWarpPanels; ++p)
    LoadTile<kFormat>(panels[p], num_tiles, begin, lane, next[p]);
  for (int32_t tile = begin; tile < end; ++tile) {
    TileFragment<kFormat> weights[kWarpPanels];
    SLUICE_UNROLL
    for (int p = 0; p < kWarpPanels; ++p) {
      weights[p] = next[p];
      if (tile + 1 < end) LoadTile<kFormat>(panels[p], num_tiles, tile + 1, lane, next[p]);
    }
    WaitForCopies<kStages - 2>();
    SyncBlock();  // the tile is there for all, and all are done with the one before
    const int32_t ahead = tile + kStages - 1;
    if (ahead < end)
      CopyX(args, first_row, ahead, stages + (ahead - begin) % kStages * kStageHalves);
    EndCopies();
    MultiplyTile<kFormat>(weights, stages + (tile - begin) % kStages * kStageHalves, warp_row,
                          sums);
  }
  if (ranges.count > 1 && !AddRanges(ranges, reinterpret_cast<uint32_t*>(shared), sums)) return;
  WriteSums(args, first_output, first_row + warp_row, sums);
}

}  // namespace

int32_t TiledRangesFor(const LinearArgs& args, int32_t multiprocessors) {
  const int64_t places = int64_t{(args.num_x_rows + kBlockRows - 1) / kBlockRows} *
                         ((args.rows + kBlockOutputs - 1) / kBlockOutputs);
  const int64_t tiles = args.columns / kTileColumns;
  int32_t ranges = 1;
  while (int64_t{ranges + 1} * (ranges + 1) <= tiles && places * (ranges + 1) <= multiprocessors)
    ++ranges;
  return ranges;
}

cudaError_t LinearTiled(const LinearArgs& args, const TiledRanges& ranges, cudaStream_t stream) {
  const LaunchShape shape{
      .grid_x = static_cast<uint32_t>((args.num_x_rows + kBlockRows - 1) / kBlockRows),
      .grid_y = static_cast<uint32_t>((args.rows + kBlockOutputs - 1) / kBlockOutputs),
      .grid_z = static_cast<uint32_t>(ranges.count),
      .threads = kThreads,
      .shared_bytes = kSharedBytes};
  return WithFormat(args.format, [&]<WeightFormat kFormat>() {
    return Launch("linear_tiled", &LinearTiledKernel<kFormat>, shape, stream, args, ranges);
  });
}

}  // namespace sluice::cuda
