// y = W x for Q4_0, Q4_1 and Q8_0 weights and activations rounded to int8 (layouts: packing.h).
//
// Order rule, for every tile size and form: one f32 accumulator an output, blocks of 32 ascending,
// the integer dot I exact: acc = fma(float(I), d * scale, acc), then for Q4_1 acc = fma(m, scale *
// sum(q), acc). The residual comes last.
//
// Work: one panel (16 outputs) x one tile of rows (up to 12) over the whole of K; the tiles of a
// chunk run inside the panel loop, so a panel's 5.6 KB (K = 576) come from memory once a chunk and
// stay in L1. Bytes: rows * K * 0.625 for Q4_1 (0.5625 Q4_0, 1.0625 Q8_0) once a chunk, M * K * 1.4
// for activations, M * rows * 4 (8 with residual) of output. Bound: up to 4 rows by memory; above,
// by the two ports that vpdpbusd, fma and mul share on Zen 4: 11 such instructions for 16 x 32 x 1
// Q4_1 (8 dot, mul, fma, fma), so 73 % of the vpdpbusd peak; 10 for Q8_0. Unpacking nibbles runs on
// other ports. Unsigned weights: Q4_0 starts its integer at -8 sum(q), Q8_0 at -128 sum(q), both
// exact.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/linear_tile.h"
#include "kernels/cpu/isa/tiles.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

constexpr int32_t BlockBytes(Packing packing) {
  return packing == Packing::kQ4_0 ? kQ40Bytes : packing == Packing::kQ4_1 ? kQ41Bytes : kQ80Bytes;
}

// What one panel kernel reads: a tile of rounded activations.
struct TileInput {
  const int8_t* q;
  const float* scale;
  const float* scaled_sum;
  const int32_t* sum;
  int32_t blocks;
};

#if defined(SLUICE_ISA_AVX512)

SLUICE_INLINE __m512i BroadcastWord(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}

// `ahead`: distance of the bytes to prefetch, 0 for the panel itself (nothing to fetch).
template <Packing kPacking, int kRows>
void Panel(const uint8_t* w, int64_t ahead, const TileInput& in, const TileOutput& out) {
  constexpr int32_t kBytes = BlockBytes(kPacking);
  const __m512i low = _mm512_set1_epi8(15);
  const int8_t* q = in.q;
  const float* scale = in.scale;
  const float* scaled_sum = in.scaled_sum;
  const int32_t* sum = in.sum;
  __m512 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = _mm512_setzero_ps();
  for (int32_t b = 0; b < in.blocks; ++b) {
    // The hardware prefetcher does not run ahead while later tiles compute. Below 4 rows it streams
    // well by itself and the instructions only hurt: 1 row 2.7 -> 4.0 ms a step.
    if constexpr (kRows >= 4) {
      for (int i = 0; i < kBytes; i += 64)
        _mm_prefetch(reinterpret_cast<const char*>(w) + ahead + i, _MM_HINT_T1);
    }
    __m512i dot[kRows];
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      if constexpr (kPacking == Packing::kQ4_1) {
        dot[m] = _mm512_setzero_si512();
      } else {
        dot[m] = _mm512_set1_epi32(sum[m] * (kPacking == Packing::kQ4_0 ? -8 : -128));
      }
    }
    if constexpr (kPacking == Packing::kQ8_0) {
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        const __m512i v = _mm512_loadu_si512(w + 64 * g);
#pragma GCC unroll 16
        for (int m = 0; m < kRows; ++m)
          dot[m] = _mm512_dpbusd_epi32(dot[m], v, BroadcastWord(q + m * 32 + 4 * g));
      }
    } else {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m512i v = _mm512_loadu_si512(w + 64 * j);
        const __m512i lo = _mm512_and_si512(v, low);
        const __m512i hi = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
#pragma GCC unroll 16
        for (int m = 0; m < kRows; ++m)
          dot[m] = _mm512_dpbusd_epi32(dot[m], lo, BroadcastWord(q + m * 32 + 4 * j));
#pragma GCC unroll 16
        for (int m = 0; m < kRows; ++m) {
          dot[m] = _mm512_dpbusd_epi32(dot[m], hi, BroadcastWord(q + m * 32 + 16 + 4 * j));
        }
      }
    }
    constexpr int32_t kScales = kPacking == Packing::kQ8_0 ? 512 : 256;
    const __m512 d = LoadF16(reinterpret_cast<const uint16_t*>(w + kScales)).v;
    __m512 minimum = _mm512_setzero_ps();
    if constexpr (kPacking == Packing::kQ4_1)
      minimum = LoadF16(reinterpret_cast<const uint16_t*>(w + 288)).v;
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      acc[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m]),
                               _mm512_mul_ps(d, _mm512_set1_ps(scale[m])), acc[m]);
      if constexpr (kPacking == Packing::kQ4_1)
        acc[m] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(scaled_sum[m]), acc[m]);
    }
    w += kBytes;
    q += kRows * kBlock;
    scale += kRows;
    scaled_sum += kRows;
    sum += kRows;
  }
#pragma GCC unroll 16
  for (int m = 0; m < kRows; ++m) StoreOutput(out, m, {acc[m]});
}

#elif defined(SLUICE_ISA_AVX2)

SLUICE_INLINE __m256i LoadWide(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
SLUICE_INLINE __m256i BroadcastWord(const void* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

// The integer dots of 8 outputs (half of the panel) x kRows. maddubs adds pairs of u8 * s8 in
// int16: a whole block of nibbles fits (8 * 2 * 15 * 127 = 30480); |q| <= 128 of Q8_0 does for one
// pair (2 * 128 * 127 = 32512), so Q8_0 multiplies |w| by the activation with w's sign and widens
// each time.
template <Packing kPacking, int kRows>
SLUICE_INLINE void HalfDots(const uint8_t* w, const int8_t* q, const int32_t* sum, __m256i* dot) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kPacking == Packing::kQ8_0) {
    (void)sum;
    const __m256i offset = _mm256_set1_epi8(-128);
    for (int m = 0; m < kRows; ++m) dot[m] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) {
      const __m256i v = _mm256_xor_si256(LoadWide(w + 64 * g), offset);
      const __m256i magnitude = _mm256_abs_epi8(v);
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m) {
        const __m256i a = _mm256_sign_epi8(BroadcastWord(q + m * 32 + 4 * g), v);
        dot[m] =
            _mm256_add_epi32(dot[m], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, a), ones));
      }
    }
  } else {
    const __m256i low = _mm256_set1_epi8(15);
    __m256i pairs[kRows];
    for (int m = 0; m < kRows; ++m) pairs[m] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256i v = LoadWide(w + 64 * j);
      const __m256i lo = _mm256_and_si256(v, low);
      const __m256i hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m) {
        const __m256i sum_lo = _mm256_maddubs_epi16(lo, BroadcastWord(q + m * 32 + 4 * j));
        const __m256i sum_hi = _mm256_maddubs_epi16(hi, BroadcastWord(q + m * 32 + 16 + 4 * j));
        pairs[m] = _mm256_add_epi16(pairs[m], _mm256_add_epi16(sum_lo, sum_hi));
        asm("" : "+x"(pairs[m]));  // else g++ adds in another order and spills 20 registers
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
      dot[m] = _mm256_madd_epi16(pairs[m], ones);
      if constexpr (kPacking == Packing::kQ4_0)
        dot[m] = _mm256_sub_epi32(dot[m], _mm256_set1_epi32(8 * sum[m]));
    }
  }
}

template <Packing kPacking, int kRows>
void Panel(const uint8_t* w, int64_t ahead, const TileInput& in, const TileOutput& out) {
  constexpr int32_t kBytes = BlockBytes(kPacking);
  constexpr int32_t kScales = kPacking == Packing::kQ8_0 ? 512 : 256;
  float results[kRows][kPanelRows];
  for (int half = 0; half < 2; ++half) {
    __m256 acc[kRows];
    for (int m = 0; m < kRows; ++m) acc[m] = _mm256_setzero_ps();
    for (int64_t b = 0; b < in.blocks; ++b) {
      const uint8_t* p = w + b * kBytes;
      if (kRows >= 4 && half == 0) {
        for (int i = 0; i < kBytes; i += 64)
          _mm_prefetch(reinterpret_cast<const char*>(p) + ahead + i, _MM_HINT_T1);
      }
      __m256i dot[kRows];
      HalfDots<kPacking, kRows>(p + 32 * half, in.q + b * kRows * kBlock, in.sum + b * kRows, dot);
      const __m256 d = _mm256_cvtph_ps(LoadHalf(p + kScales + 16 * half));
      __m256 minimum = _mm256_setzero_ps();
      if constexpr (kPacking == Packing::kQ4_1)
        minimum = _mm256_cvtph_ps(LoadHalf(p + 288 + 16 * half));
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m) {
        const __m256 factor = _mm256_mul_ps(d, _mm256_set1_ps(in.scale[b * kRows + m]));
        acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m]), factor, acc[m]);
        if constexpr (kPacking == Packing::kQ4_1) {
          acc[m] = _mm256_fmadd_ps(minimum, _mm256_set1_ps(in.scaled_sum[b * kRows + m]), acc[m]);
        }
      }
    }
    for (int m = 0; m < kRows; ++m) _mm256_storeu_ps(results[m] + 8 * half, acc[m]);
  }
  for (int m = 0; m < kRows; ++m) StoreOutput(out, m, Load(results[m]));
}

#else

// The exact integer dot of one output and one row.
template <Packing kPacking>
SLUICE_INLINE int32_t Dot(const uint8_t* w, int lane, const int8_t* q) {
  int32_t dot = 0;
  if constexpr (kPacking == Packing::kQ8_0) {
    for (int k = 0; k < 32; ++k) dot += (w[64 * (k / 4) + 4 * lane + k % 4] - 128) * q[k];
  } else {
    constexpr int kOffset = kPacking == Packing::kQ4_0 ? 8 : 0;
    for (int k = 0; k < 16; ++k) {
      const int v = w[64 * (k / 4) + 4 * lane + k % 4];
      dot += ((v & 15) - kOffset) * q[k] + ((v >> 4) - kOffset) * q[16 + k];
    }
  }
  return dot;
}

template <Packing kPacking, int kRows>
void Panel(const uint8_t* w, int64_t /*ahead*/, const TileInput& in, const TileOutput& out) {
  constexpr int32_t kScales = kPacking == Packing::kQ8_0 ? 512 : 256;
  F32x16 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = Zero();
  for (int64_t b = 0; b < in.blocks; ++b, w += BlockBytes(kPacking)) {
    const F32x16 d = LoadF16(reinterpret_cast<const uint16_t*>(w + kScales));
    for (int m = 0; m < kRows; ++m) {
      F32x16 dots;
      for (int lane = 0; lane < kPanelRows; ++lane) {
        dots.v[lane] = static_cast<float>(Dot<kPacking>(w, lane, in.q + (b * kRows + m) * kBlock));
      }
      acc[m] = Fma(dots, d * Broadcast(in.scale[b * kRows + m]), acc[m]);
      if constexpr (kPacking == Packing::kQ4_1) {
        const F32x16 minimum = LoadF16(reinterpret_cast<const uint16_t*>(w + 288));
        acc[m] = Fma(minimum, Broadcast(in.scaled_sum[b * kRows + m]), acc[m]);
      }
    }
  }
  for (int m = 0; m < kRows; ++m) StoreOutput(out, m, acc[m]);
}

#endif

using PanelFunction = void (*)(const uint8_t* w, int64_t ahead, const TileInput& in,
                               const TileOutput& out);
struct PanelTable {
  PanelFunction by_rows[kTileRows + 1];
};

template <Packing kPacking, int kRows>
constexpr void FillPanelTable(PanelTable& table) {
  table.by_rows[kRows] = Panel<kPacking, kRows>;
  if constexpr (kRows < kTileRows) FillPanelTable<kPacking, kRows + 1>(table);
}
template <Packing kPacking>
constexpr PanelTable MakePanelTable() {
  PanelTable table{};
  FillPanelTable<kPacking, 1>(table);
  return table;
}
constexpr PanelTable kQ40 = MakePanelTable<Packing::kQ4_0>();
constexpr PanelTable kQ41 = MakePanelTable<Packing::kQ4_1>();
constexpr PanelTable kQ80 = MakePanelTable<Packing::kQ8_0>();

}  // namespace

void MatMulQuantised(const MatMulArgs& args, int64_t begin, int64_t end, const Worker& worker) {
  const PanelTable& table = args.packing == Packing::kQ4_0   ? kQ40
                            : args.packing == Packing::kQ4_1 ? kQ41
                                                             : kQ80;
  const QuantisedRows rows = Locate(args.quantised, args.rows, args.cols, worker.scratch);
  const int32_t blocks = args.cols / kBlock;
  const int64_t panel_bytes = static_cast<int64_t>(blocks) * BlockBytes(args.packing);
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
      const TileInput in{rows.q + at * kBlock, rows.scale + at, rows.scaled_sum + at, rows.sum + at,
                         blocks};
      // The first tile fetches the next panel while it computes.
      table.by_rows[count](w, t == 0 && !last ? panel_bytes : 0, in,
                           MakeTileOutput(args, row, panel));
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
