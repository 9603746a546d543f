// out[r,n] = sum_k W[n,k] x[r,k] (+ residual[r,n]) over packed weights, for few rows of x: the
// matrix is read once for every kTokens of them. Also rows of a matrix as an embedding.
//
// Work: a block takes kPanels panels of 16 outputs and kTokens rows of x; its 8 warps take every
// 8th tile of 64 columns, so that a product's tiles are read by 8 warps side by side. A tile's
// numbers go from memory to the registers of the matrix instruction's A operand; x is its B.
// Bytes: the matrix once (N K bits / 8 and its scales) for each kTokens rows, and 2 K min(rows,
// kTokens) of x for each block from L2. Bound by memory up to about 64 rows.
// Accumulation: f32; in a warp its tiles ascending, in the order of the matrix instruction within
// 16 columns (of kFp8 32 columns from zero, then scaled and added by one fma); then the 8 warps
// ascending; times the powers of two of both sides; residual last.
// The order depends on K alone: a row's bits do not depend on the other rows or on kTokens.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/weight_fragment.h"
#include "kernels/cuda/dispatch.h"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 8;
constexpr uint32_t kThreads = kWarps * 32;

template <int kTokens, int kPanels>
struct BlockShape {
  static constexpr int kStride = kPanels * kPanelRows + 4;  // spreads a lane's stores over banks
};

// The B fragments of 32 columns (two steps) of the row that the lane holds, zero past the last row.
SLUICE_DEVICE Words4 LoadX(const Halves& x, int32_t row, int32_t end, int32_t column) {
  if (row >= end) return {{0, 0, 0, 0}};
  return LoadWords4(x.data + int64_t{row} * x.columns + column);
}

template <WeightFormat kFormat, int kTokens, int kPanels>
SLUICE_DEVICE void Accumulate(const LinearArgs& args, const uint8_t* weights, int32_t first_panel,
                              int32_t row, int32_t end, float (&sums)[kPanels][kTokens / 8][4]) {
  constexpr int kColumns = kTokens / 8;
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  const int32_t num_tiles = args.columns / kTileColumns;
  const int32_t num_panels = (args.rows + kPanelRows - 1) / kPanelRows;
  const int64_t panel_bytes = InfoOf(kFormat).panel_bytes(num_tiles);
  for (auto tile = static_cast<int32_t>(ThreadIndex().x / 32); tile < num_tiles; tile += kWarps) {
    TileFragment<kFormat> fragments[kPanels];
    SLUICE_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      // A block's last panels may not be there; it reads the last one again.
      const int32_t panel = first_panel + p < num_panels ? first_panel + p : num_panels - 1;
      LoadTile<kFormat>(weights + panel * panel_bytes, num_tiles, tile, lane, fragments[p]);
    }
    SLUICE_UNROLL
    for (int b = 0; b < 2; ++b) {
      Words4 x[kColumns];
      SLUICE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        x[c] =
            LoadX(args.x, row + 8 * c + lane / 4, end, tile * kTileColumns + b * 32 + lane % 4 * 8);
      }
      float part[kPanels][kColumns][4] = {};  // where sums are scaled
      SLUICE_UNROLL
      for (int s = 0; s < 2; ++s) {
        SLUICE_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          uint32_t a[4];
          Expand<kFormat>(fragments[p], 2 * b + s, a);
          SLUICE_UNROLL
          for (int c = 0; c < kColumns; ++c) {
            const uint32_t column[2] = {x[c].word[2 * s], x[c].word[2 * s + 1]};
            MultiplyF16(a, column, kFormat == WeightFormat::kFp8 ? part[p][c] : sums[p][c]);
          }
        }
      }
      if constexpr (kFormat == WeightFormat::kFp8) {
        SLUICE_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          SLUICE_UNROLL
          for (int c = 0; c < kColumns; ++c)
            AddScaled(fragments[p], b, kShiftedUnit, part[p][c], sums[p][c]);
        }
      }
    }
  }
}

// Adds up the warps' sums and writes rows [row, end) of the block's outputs.
template <int kTokens, int kPanels>
SLUICE_DEVICE void Finish(const LinearArgs& args, const float* row_scale, int32_t first_panel,
                          int32_t row, int32_t end, const float (&sums)[kPanels][kTokens / 8][4],
                          float* shared) {
  constexpr int kStride = BlockShape<kTokens, kPanels>::kStride;
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  const int32_t lane = thread % 32;
  SLUICE_UNROLL
  for (int p = 0; p < kPanels; ++p) {
    SLUICE_UNROLL
    for (int c = 0; c < kTokens / 8; ++c) {
      SLUICE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int32_t token = 8 * c + lane % 4 * 2 + i % 2;
        const int32_t output = p * kPanelRows + lane / 4 + i / 2 * 8;
        shared[(thread / 32 * kTokens + token) * kStride + output] = sums[p][c][i];
      }
    }
  }
  SyncBlock();
  constexpr int kOutputs = kPanels * kPanelRows;
  const int32_t first = first_panel * kPanelRows;
  for (int32_t i = thread; i < kOutputs * kTokens; i += kThreads) {
    const int32_t token = i / kOutputs, output = i % kOutputs;
    if (row + token >= end || first + output >= args.rows) continue;
    float sum = 0;
    SLUICE_UNROLL
    for (int w = 0; w < kWarps; ++w) sum += shared[(w * kTokens + token) * kStride + output];
    sum = sum * row_scale[first + output] * args.x.scale[row + token];
    if (args.residual != nullptr)
      sum += args.residual[int64_t{row + token} * args.residual_stride + first + output];
    args.out[int64_t{row + token} * args.out_stride + first + output] = sum;
  }
}

template <WeightFormat kFormat, int kTokens, int kPanels>
SLUICE_KERNEL(kThreads, 2)
LinearKernel(LinearArgs args) {
  constexpr int kStride = BlockShape<kTokens, kPanels>::kStride;
  SLUICE_SHARED(float, shared, [kWarps * kTokens * kStride]);
  const int32_t first_panel = static_cast<int32_t>(BlockIndex().x) * kPanels;
  const uint8_t* weights = args.weights;
  const float* row_scale = args.row_scale;
  int32_t row = static_cast<int32_t>(BlockIndex().y) * kTokens;
  int32_t end = args.num_x_rows < row + kTokens ? args.num_x_rows : row + kTokens;
  if (args.begin != nullptr) {  // all rows of the y-th expert that has any
    if (static_cast<int32_t>(BlockIndex().y) >= args.active[0]) return;
    const int32_t expert = args.active[1 + BlockIndex().y];
    weights += expert * args.expert_bytes;
    row_scale += int64_t{expert} * ((args.rows + kPanelRows - 1) / kPanelRows * kPanelRows);
    row = args.begin[expert];
    end = args.begin[expert + 1];
  }
  for (; row < end; row += kTokens) {
    float sums[kPanels][kTokens / 8][4] = {};
    Accumulate<kFormat, kTokens, kPanels>(args, weights, first_panel, row, end, sums);
    Finish<kTokens, kPanels>(args, row_scale, first_panel, row, end, sums, shared);
    SyncBlock();
  }
}

template <WeightFormat kFormat, int kTokens, int kPanels>
cudaError_t LaunchShaped(const LinearArgs& args, cudaStream_t stream) {
  const int32_t panels = (args.rows + kPanelRows - 1) / kPanelRows;
  const int32_t row_blocks =
      args.begin != nullptr ? args.max_active : (args.num_x_rows + kTokens - 1) / kTokens;
  const LaunchShape shape{.grid_x = static_cast<uint32_t>((panels + kPanels - 1) / kPanels),
                          .grid_y = static_cast<uint32_t>(row_blocks),
                          .threads = kThreads};
  return Launch("linear", &LinearKernel<kFormat, kTokens, kPanels>, shape, stream, args);
}

template <WeightFormat kFormat>
cudaError_t LaunchFormat(const LinearArgs& args, cudaStream_t stream) {
  const int32_t rows = args.begin == nullptr ? args.num_x_rows
                                             : (args.num_x_rows + args.max_active - 1) /
                                                   (args.max_active > 0 ? args.max_active : 1);
  // Two panels halve the reads of x where there are blocks enough to fill a card.
  if (rows <= 8) {
    return args.rows >= 4096 ? LaunchShaped<kFormat, 8, 2>(args, stream)
                             : LaunchShaped<kFormat, 8, 1>(args, stream);
  }
  if (rows <= 16) return LaunchShaped<kFormat, 16, 2>(args, stream);
  return LaunchShaped<kFormat, 32, 1>(args, stream);
}

// A warp takes 8 tiles of the row at a time, each group of four lanes the part of one tile that the
// row's lanes of a product hold.
template <WeightFormat kFormat>
SLUICE_KERNEL(kRowThreads)
EmbedKernel(EmbedArgs args) {
  const uint32_t t = BlockIndex().x;
  int32_t token = args.batch.tokens[t];
  if (token < 0) token = args.last_tokens[args.batch.slots[args.batch.token_row[t]]];
  const int32_t num_tiles = args.table.columns / kTileColumns;
  const int32_t row = token % kPanelRows, panel = token / kPanelRows;
  const uint8_t* weights = args.table.weights + panel * InfoOf(kFormat).panel_bytes(num_tiles);
  const float factor = args.table.row_scale[token] * args.scale;
  float* out = RowOf(args.out, t);
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  const int32_t part = thread % 4, lane = row % 8 * 4 + part;
  for (int32_t tile = thread / 4; tile < num_tiles; tile += static_cast<int32_t>(kRowThreads / 4)) {
    TileFragment<kFormat> fragment;
    LoadTile<kFormat>(weights, num_tiles, tile, lane, fragment);
    SLUICE_UNROLL
    for (int s = 0; s < 4; ++s) {
      uint32_t a[4];
      Expand<kFormat>(fragment, s, a);
      SLUICE_UNROLL
      for (int h = 0; h < 2; ++h) {
        const uint32_t pair = row < 8 ? a[2 * h] : a[2 * h + 1];
        const int32_t column = tile * kTileColumns + 16 * s + 8 * h + 2 * part;
        float numbers[2] = {LowHalf(pair), HighHalf(pair)};
        if constexpr (kFormat == WeightFormat::kFp8) {
          const float scale = FloatOf(fragment.scale.word[row / 8 * 2 + s / 2]) * kShiftedUnit;
          numbers[0] *= scale;
          numbers[1] *= scale;
        }
        if (column < args.out.cols) out[column] = numbers[0] * factor;
        if (column + 1 < args.out.cols) out[column + 1] = numbers[1] * factor;
      }
    }
  }
}

}  // namespace

cudaError_t LinearRows(const LinearArgs& args, cudaStream_t stream) {
  return WithFormat(args.format,
                    [&]<WeightFormat kFormat>() { return LaunchFormat<kFormat>(args, stream); });
}

cudaError_t Embed(const EmbedArgs& args, cudaStream_t stream) {
  return WithFormat(args.table.format, [&]<WeightFormat kFormat>() {
    return Launch("embed", &EmbedKernel<kFormat>,
                  {.grid_x = static_cast<uint32_t>(args.out.rows), .threads = kRowThreads}, stream,
                  args);
  });
}

}  // namespace sluice::cuda
