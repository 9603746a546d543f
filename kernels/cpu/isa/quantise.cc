// Rounds activations to int8 with one f32 scale per block of 32 of a row.
//
// For a block: amax = max |x|; scale = amax / 127; q = round(x * (127 / amax)), ties to even. A
// block with amax below 1e-30 is zero. A block with an infinity or a NaN gets the scale NaN, so
// that its row's outputs are NaN and seen. Reads 4 bytes and writes 1.4 an element; 0.8 cycles an
// element on Zen 4 with AVX-512, where the maxima and sums of 16 blocks are reduced together: no
// horizontal reductions, and one division for 16 scales.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/tiles.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

constexpr int32_t kAbs = 0x7fffffff;
constexpr int32_t kInfinityBits = 0x7f800000;
constexpr float kSmallest = 1e-30F;

// Scales of 16 blocks from the bits of their largest magnitudes (as integers, NaN is above infinity
// above all others).
struct Scales {
  F32x16 scale, inverse;
};
SLUICE_INLINE Scales ScalesOf(I32x16 amax_bits) {
  const F32x16 amax = AsFloat(amax_bits);
  const Mask16 finite = Less(amax, AsFloat(Broadcast(kInfinityBits)));
  const Mask16 small = Less(amax, Broadcast(kSmallest));
  const F32x16 nan = AsFloat(Broadcast(0x7fc00000));
  F32x16 scale = Select(small, Zero(), amax / Broadcast(127.0F));
  F32x16 inverse = Select(small, Zero(), Broadcast(127.0F) / amax);
  scale = Select(finite, scale, nan);
  inverse = Select(finite, inverse, Zero());
  return {scale, inverse};
}

#if defined(SLUICE_ISA_AVX512)

template <bool kMax>
SLUICE_INLINE __m512i Combine(__m512i a, __m512i b) {
  return kMax ? _mm512_max_epi32(a, b) : _mm512_add_epi16(a, b);
}

// Lane i of the result: the maximum of the lanes of v[i], or the sums of their int16 halves.
template <bool kMax>
SLUICE_INLINE __m512i ReduceTransposed(const __m512i* v) {
  __m512i s[8];
  __m512i t[4];
  for (int i = 0; i < 8; ++i) {
    s[i] = Combine<kMax>(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                         _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = Combine<kMax>(_mm512_unpacklo_epi64(s[2 * i], s[2 * i + 1]),
                         _mm512_unpackhi_epi64(s[2 * i], s[2 * i + 1]));
  }
  for (int i = 0; i < 2; ++i) {
    s[i] = Combine<kMax>(_mm512_shuffle_i32x4(t[2 * i], t[2 * i + 1], 0x88),
                         _mm512_shuffle_i32x4(t[2 * i], t[2 * i + 1], 0xdd));
  }
  return Combine<kMax>(_mm512_shuffle_i32x4(s[0], s[1], 0x88),
                       _mm512_shuffle_i32x4(s[0], s[1], 0xdd));
}

// Blocks [0, n) of x, n <= 16, to places `step` blocks apart.
SLUICE_INLINE void QuantiseBlocks(const float* x, int n, const QuantisedRows& out, int64_t at,
                                  int64_t step) {
  const __m512i magnitude = _mm512_set1_epi32(kAbs);
  __m512i reduced[16];
  for (int i = 0; i < n; ++i) {
    reduced[i] =
        _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(x + i * kBlock), magnitude),
                         _mm512_and_si512(_mm512_loadu_si512(x + i * kBlock + 16), magnitude));
  }
  for (int i = n; i < 16; ++i) reduced[i] = _mm512_setzero_si512();
  const Scales s = ScalesOf({ReduceTransposed<true>(reduced)});
  alignas(64) float inverse[16];
  alignas(64) float scale[16];
  alignas(64) float scaled_sum[16];
  alignas(64) int32_t half_sums[16];
  Store(inverse, s.inverse);
  Store(scale, s.scale);
  for (int i = 0; i < n; ++i) {
    const __m512 k = _mm512_set1_ps(inverse[i]);
    const __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * kBlock), k));
    const __m512i hi = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i * kBlock + 16), k));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.q + (at + i * step) * kBlock),
                        _mm256_set_m128i(_mm512_cvtepi32_epi8(hi), _mm512_cvtepi32_epi8(lo)));
    reduced[i] = _mm512_mask_blend_epi16(0xaaaaaaaa, lo, _mm512_slli_epi32(hi, 16));
  }
  const I32x16 halves{ReduceTransposed<false>(reduced)};  // each at most 16 * 127
  Store(half_sums, halves);
  const I32x16 sums{_mm512_madd_epi16(halves.v, _mm512_set1_epi16(1))};
  Store(scaled_sum, s.scale * ToFloat(sums));
  for (int i = 0; i < n; ++i) {
    out.scale[at + i * step] = scale[i];
    out.scaled_sum[at + i * step] = scaled_sum[i];
    out.half_sums[at + i * step] = half_sums[i];
  }
}

#elif defined(SLUICE_ISA_AVX2)

SLUICE_INLINE void QuantiseBlocks(const float* x, int n, const QuantisedRows& out, int64_t at,
                                  int64_t step) {
  const __m256i magnitude = _mm256_set1_epi32(kAbs);
  const __m256i order =
      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // undoes the packs' interleaving
  int32_t bits[16] = {};
  for (int i = 0; i < n; ++i) {
    const auto* p = reinterpret_cast<const __m256i*>(x + i * kBlock);
    __m256i most = _mm256_setzero_si256();
    for (int j = 0; j < 4; ++j) {
      most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_loadu_si256(p + j), magnitude));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    bits[i] = _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
  }
  const Scales s = ScalesOf(Load(bits));
  float scale[16];
  float inverse[16];
  Store(scale, s.scale);
  Store(inverse, s.inverse);
  for (int i = 0; i < n; ++i) {
    const __m256 k = _mm256_set1_ps(inverse[i]);
    __m256i v[4];
    for (int j = 0; j < 4; ++j)
      v[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i * kBlock + 8 * j), k));
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    const int64_t to = at + i * step;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.q + to * kBlock),
                        _mm256_permutevar8x32_epi32(bytes, order));
    // Both sums at once, in the int16 halves: each at most 16 * 127.
    const __m256i halves = _mm256_blend_epi16(
        _mm256_add_epi32(v[0], v[1]), _mm256_slli_epi32(_mm256_add_epi32(v[2], v[3]), 16), 0xaa);
    __m128i t = _mm_add_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    t = _mm_add_epi16(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_add_epi16(t, _mm_shuffle_epi32(t, 0xb1));
    out.scale[to] = scale[i];
    out.scaled_sum[to] =
        scale[i] * static_cast<float>(_mm_cvtsi128_si32(_mm_madd_epi16(t, _mm_set1_epi16(1))));
    out.half_sums[to] = _mm_cvtsi128_si32(t);
  }
}

#else

SLUICE_INLINE void QuantiseBlocks(const float* x, int n, const QuantisedRows& out, int64_t at,
                                  int64_t step) {
  int32_t bits[16] = {};
  for (int i = 0; i < n; ++i) {
    const I32x16 abs = Broadcast(kAbs);
    int32_t lanes[16];
    Store(lanes, Max(AsInt(Load(x + i * kBlock)) & abs, AsInt(Load(x + i * kBlock + 16)) & abs));
    for (const int32_t lane : lanes) bits[i] = bits[i] > lane ? bits[i] : lane;
  }
  const Scales s = ScalesOf(Load(bits));
  float scale[16];
  float inverse[16];
  Store(scale, s.scale);
  Store(inverse, s.inverse);
  for (int i = 0; i < n; ++i) {
    int8_t* q = out.q + (at + i * step) * kBlock;
    int32_t sums[2] = {};
    for (int half = 0; half < 2; ++half) {
      int32_t lanes[16] = {};
      if (bits[i] < kInfinityBits) {
        Store(lanes, RoundToInt(Load(x + i * kBlock + 16 * half) * Broadcast(inverse[i])));
      }
      for (int l = 0; l < 16; ++l) {
        q[16 * half + l] = static_cast<int8_t>(lanes[l]);
        sums[half] += lanes[l];
      }
    }
    out.scale[at + i * step] = scale[i];
    out.scaled_sum[at + i * step] = scale[i] * static_cast<float>(sums[0] + sums[1]);
    out.half_sums[at + i * step] = (sums[0] & 0xffff) | sums[1] * 65536;
  }
}

#endif

}  // namespace

void QuantiseRows(const QuantiseArgs& args, int64_t begin, int64_t end, const Worker& worker) {
  const QuantisedRows out = Locate(args.out, args.rows, args.cols, worker.scratch);
  const int32_t blocks = args.cols / kBlock;
  for (auto r = static_cast<int32_t>(begin); r < end; ++r) {
    const Tile tile = TileOf(args.rows, r);
    const float* x = args.x + r * args.x_stride;
    const int64_t at = static_cast<int64_t>(tile.begin) * blocks + (r - tile.begin);
    for (int32_t b = 0; b < blocks; b += 16) {
      const int n = blocks - b < 16 ? blocks - b : 16;
      QuantiseBlocks(x + static_cast<int64_t>(b) * kBlock, n, out,
                     at + static_cast<int64_t>(b) * tile.rows, tile.rows);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
