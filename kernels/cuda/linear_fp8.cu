// out[r,n] = sum_k W[n,k] x[r,k] (+ residual[r,n]) over matrices of e4m3 and x rounded to e4m3, for
// any number of rows of x and for experts; and that rounding.
//
// Work: a row of x is a block's, a thread takes every 256th column, twice. Of a product a block
// takes kPanels panels of 16 outputs and kTokens rows of x, its 8 warps every 8th tile of 64
// columns, whatever the number of rows. Bytes: 9 K a row of x for its rounding; the matrix once
// (1.016 N K) for each kTokens rows, K min(rows, kTokens) of x for each block from L2. Bound by
// memory up to about 128 rows, beyond by L2: 42 FLOP a byte at 64 rows x 32 outputs.
//
// Accumulation: one instruction's 32 columns from zero, scaled and added to an f32 sum by one fma;
// in a warp its columns ascending; then the 8 warps ascending; times the scales of both sides;
// residual last. The order depends on K alone, so this is the deterministic product too. Why from
// zero: products of e4m3 are exact, but where the instruction is one of its own it keeps 13 bits
// behind the point of its sum, and cuts off what is below (Ada and Hopper's wgmma:
// arXiv:2411.10958; about 14 bits on Hopper: arXiv:2412.19437 section 3.3.2). A sum that stayed in
// it would lose that at every step, of its largest value; here it is lost once, of 32 columns' sum:
// 2^-13 of their largest partial sum, where x is rounded by 2^-4 of each element. nvcc 13.0 makes
// QMMA of it on sm_89 only; on sm_90 and sm_100 it converts both sides to f16 for two
// HMMA.16816.F32: not faster than f16, and as exact. The emulator's sums are f32.
//
// Rounding of x: rows.h; norms and GateMul round what they write by themselves.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/weight_fragment.h"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 8;
constexpr uint32_t kThreads = kWarps * 32;
constexpr int kStride = kPanelRows + 4;  // spreads a lane's stores over banks

SLUICE_KERNEL(kRowThreads) ToFp8Kernel(Tensor x, Fp8Rows rows) {
  SLUICE_SHARED(float, warps, [kRowThreads / 32]);
  const auto row = static_cast<int32_t>(BlockIndex().x);
  const float* in = RowOf(x, row);
  float top = 0;
  for (auto i = static_cast<int32_t>(ThreadIndex().x); i < x.cols; i += kRowThreads)
    top = Larger(top, Magnitude(in[i]));
  WriteFp8(rows, row, in, x.cols, BlockMax(top, warps));
}

// What a block works on: a matrix and rows [row, end) of x.
struct BlockPart {
  const uint8_t* weights;
  const float* row_scale;
  int32_t row, end;
};

template <int kTokens, int kPanels>
SLUICE_DEVICE void Accumulate(const LinearArgs& args, const Fp8Rows& x, const BlockPart& part,
                              int32_t first_panel, float (&sums)[kPanels][kTokens / 8][4]) {
  constexpr int kColumns = kTokens / 8;
  const auto lane = static_cast<int32_t>(ThreadIndex().x % 32);
  const int32_t num_tiles = args.columns / kTileColumns;
  const int32_t num_panels = (args.rows + kPanelRows - 1) / kPanelRows;
  const int64_t panel_bytes = int64_t{num_tiles} * InfoOf(WeightFormat::kFp8).tile_bytes();
  for (auto tile = static_cast<int32_t>(ThreadIndex().x / 32); tile < num_tiles; tile += kWarps) {
    TileFragment<WeightFormat::kFp8> fragments[kPanels];
    SLUICE_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      // A block's last panels may not be there; it reads the last one again.
      const int32_t panel = first_panel + p < num_panels ? first_panel + p : num_panels - 1;
      LoadTile(part.weights + panel * panel_bytes, num_tiles, tile, lane, fragments[p]);
    }
    SLUICE_UNROLL
    for (int b = 0; b < 2; ++b) {
      const int32_t column = tile * kTileColumns + b * 32 + lane % 4 * 8;
      SLUICE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const int32_t row = part.row + 8 * c + lane / 4;
        Words2 words = {{0, 0}};
        if (row < part.end) words = LoadWords2(x.data + int64_t{row} * x.columns + column);
        SLUICE_UNROLL
        for (int p = 0; p < kPanels; ++p) {
          float product[4] = {};
          MultiplyE4m3(fragments[p].a[b], words.word, product);
          AddScaled(fragments[p], b, 1, product, sums[p][c]);
        }
      }
    }
  }
}

// Adds up the warps' sums and writes rows [part.row, part.end) of one panel's outputs.
template <int kTokens>
SLUICE_DEVICE void Finish(const LinearArgs& args, const Fp8Rows& x, const BlockPart& part,
                          int32_t panel, const float (&sums)[kTokens / 8][4], float* shared) {
  const auto thread = static_cast<int32_t>(ThreadIndex().x);
  const int32_t lane = thread % 32;
  SLUICE_UNROLL
  for (int c = 0; c < kTokens / 8; ++c) {
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int32_t token = 8 * c + lane % 4 * 2 + i % 2;
      shared[(thread / 32 * kTokens + token) * kStride + lane / 4 + i / 2 * 8] = sums[c][i];
    }
  }
  SyncBlock();
  for (int32_t i = thread; i < kPanelRows * kTokens; i += static_cast<int32_t>(kThreads)) {
    const int32_t row = part.row + i / kPanelRows;
    const int32_t output = panel * kPanelRows + i % kPanelRows;
    if (row >= part.end || output >= args.rows) continue;
    float sum = 0;
    SLUICE_UNROLL
    for (int w = 0; w < kWarps; ++w)
      sum += shared[(w * kTokens + i / kPanelRows) * kStride + i % kPanelRows];
    sum = sum * part.row_scale[output] * x.scale[row];
    if (args.residual != nullptr)
      sum += args.residual[int64_t{row} * args.residual_stride + output];
    args.out[int64_t{row} * args.out_stride + output] = sum;
  }
  SyncBlock();
}

template <int kTokens, int kPanels>
SLUICE_KERNEL(kThreads, kTokens* kPanels > 64 ? 1 : 2)
LinearFp8Kernel(LinearArgs args, Fp8Rows x) {
  SLUICE_SHARED(float, shared, [kWarps * kTokens * kStride]);
  const int32_t first_panel = static_cast<int32_t>(BlockIndex().x) * kPanels;
  BlockPart part = {args.weights, args.row_scale, static_cast<int32_t>(BlockIndex().y) * kTokens,
                    args.num_x_rows};
  int32_t last = part.row + 1;  // where the block's rows of x end
  if (args.begin != nullptr) {  // all rows of the y-th expert that has any
    if (static_cast<int32_t>(BlockIndex().y) >= args.active[0]) return;
    const int32_t expert = args.active[1 + BlockIndex().y];
    part.weights += expert * args.expert_bytes;
    part.row_scale += int64_t{expert} * ((args.rows + kPanelRows - 1) / kPanelRows * kPanelRows);
    part.row = args.begin[expert];
    part.end = last = args.begin[expert + 1];
  }
  for (; part.row < last; part.row += kTokens) {
    float sums[kPanels][kTokens / 8][4] = {};
    Accumulate<kTokens, kPanels>(args, x, part, first_panel, sums);
    SLUICE_UNROLL
    for (int p = 0; p < kPanels; ++p)
      Finish<kTokens>(args, x, part, first_panel + p, sums[p], shared);
  }
}

template <int kTokens, int kPanels>
cudaError_t LaunchShaped(const LinearArgs& args, const Fp8Rows& x, cudaStream_t stream) {
  const int32_t panels = (args.rows + kPanelRows - 1) / kPanelRows;
  const int32_t row_blocks =
      args.begin != nullptr ? args.max_active : (args.num_x_rows + kTokens - 1) / kTokens;
  const LaunchShape shape{.grid_x = static_cast<uint32_t>((panels + kPanels - 1) / kPanels),
                          .grid_y = static_cast<uint32_t>(row_blocks),
                          .threads = kThreads};
  return Launch("linear_fp8", &LinearFp8Kernel<kTokens, kPanels>, shape, stream, args, x);
}

}  // namespace

cudaError_t ToFp8(Tensor x, const Fp8Rows& rows, cudaStream_t stream) {
  return Launch("to_fp8", &ToFp8Kernel,
                {.grid_x = static_cast<uint32_t>(x.rows), .threads = kRowThreads}, stream, x, rows);
}

cudaError_t LinearFp8(const LinearArgs& args, const Fp8Rows& x, cudaStream_t stream) {
  const int32_t experts = args.begin == nullptr || args.max_active < 1 ? 1 : args.max_active;
  const int32_t rows = (args.num_x_rows + experts - 1) / experts;
  // Two panels halve the reads of x where there are blocks enough to fill a card.
  if (rows <= 8) {
    return args.rows >= 4096 ? LaunchShaped<8, 2>(args, x, stream)
                             : LaunchShaped<8, 1>(args, x, stream);
  }
  if (rows <= 16) return LaunchShaped<16, 2>(args, x, stream);
  if (rows <= 128) return LaunchShaped<32, 1>(args, x, stream);
  return LaunchShaped<64, 2>(args, x, stream);
}

}  // namespace sluice::cuda
