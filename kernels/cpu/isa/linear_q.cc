// y = W x for quantised weights and activations rounded to int8 (layouts: packing.h).
//
// Order rule, for every tile size and form: one f32 accumulator an output, blocks of 32 ascending,
// the integer dot I exact: acc = fma(float(I), d * scale, acc), then for types with a minimum acc =
// fma(m, scale * sum(q), acc); see ops.h for the K types. The residual comes last.
//
// Work: one panel (16 outputs) x one tile of rows (up to 12) over the whole of K; the tiles of a
// chunk run inside the panel loop, so a panel's 5.6 KB (Q4_1, K = 576) come from memory once a
// chunk and stay in L1. Bytes: rows * K * block_bytes / 512 once a chunk, M * K * 1.4 for
// activations, M * rows * 4 (8 with residual) of output. Bound: up to 4 rows by memory; above, by
// the two ports that vpdpbusd, fma and mul share on Zen 4: 11 such instructions for 16 x 32 x 1
// Q4_1 (8 dot, mul, fma, fma) or Q8_0 (8 dot, offset, mul, fma), so 73 % of the vpdpbusd peak; 12
// to 15 where the halves have scales of their own. Unpacking codes runs on other ports. Codes are
// unsigned: the integer starts at -offset * sum(q), exact.
//
// Best of 3 x 31 runs, one thread, processor time, measured on a shared machine (EPYC, Zen 4; 24 to
// 29 GB/s by reading alone): us for 128 rows x 960 x 768 hot in cache, and GB/s of weights for one
// row x 98304 x 768 from memory.
//             Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL Q2_K Q3_K Q4_K Q5_K Q6_K
// AVX-512  us  589  591  592  597  598    594  797  763  599  604  749
//        GB/s   31   38   36   31   35     34   26   26   30   29   29
// AVX2     us 1618  930  897 1106 1132   1663 1041 1123  960 1167 1250
//        GB/s   28   31   32   26   26     22   18   18   29   23   14
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/linear_panel.h"
#include "kernels/cpu/isa/linear_tile.h"
#include "kernels/cpu/isa/tiles.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

using PanelFunction = void (*)(const uint8_t* w, int64_t ahead, const TileInput& in,
                               const TileOutput& out);
struct PanelTable {
  PanelFunction at[kQuantisedPackings][kTileRows + 1];
};

template <int kPacking, int kRows>
constexpr void FillPanelTable(PanelTable& table) {
  if constexpr (kPacking < kQuantisedPackings) {
    if constexpr (kRows > kTileRows) {
      FillPanelTable<kPacking + 1, 1>(table);
    } else {
      table.at[kPacking][kRows] = Panel<static_cast<Packing>(kPacking), kRows>;
      FillPanelTable<kPacking, kRows + 1>(table);
    }
  }
}
constexpr PanelTable MakePanelTable() {
  PanelTable table{};
  FillPanelTable<0, 1>(table);
  return table;
}
constexpr PanelTable kPanels = MakePanelTable();

}  // namespace

void MatMulQuantised(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& worker) {
  const PanelFunction* by_rows = kPanels.at[static_cast<int>(args.packing)];
  const QuantisedRows rows = Locate(args.quantised, args.rows, args.cols, worker.scratch);
  const int32_t blocks = args.cols / kBlock;
  const int64_t panel_bytes = PanelBytes(LayoutOf(args.packing), args.cols);
  const int32_t panels = (args.num_outputs + kPanelRows - 1) / kPanelRows;
  const Split chunks = MakeSplit(args.rows, kChunkRows);
  for (int64_t item = begin; item < end; ++item) {
    const auto chunk = static_cast<int32_t>(item / panels);
    const auto panel = static_cast<int32_t>(item % panels);
    const int32_t first = PartBegin(chunks, chunk);
    const Split tiles = MakeSplit(PartBegin(chunks, chunk + 1) - first, kTileRows);
    const uint8_t* w = args.panels + panel * panel_bytes;
    const bool last = panel + 1 == panels;
    for (int32_t t = 0; t < tiles.parts; ++t) {
      const int32_t row = first + PartBegin(tiles, t);
      const int32_t count = first + PartBegin(tiles, t + 1) - row;
      const int64_t at = static_cast<int64_t>(row) * blocks;
      const TileInput in{rows.q + at * kBlock, rows.scale + at, rows.scaled_sum + at,
                         rows.half_sums + at, blocks};
      // The first tile fetches the next panel while it computes.
      by_rows[count](w, t == 0 && !last ? panel_bytes : 0, in, MakeTileOutput(args, row, panel));
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
