// From a tile of packed weights to A fragments, in registers; see weight_tile.h for the layout.
// Integers become f16 by their place in the mantissa of 1024, e4m3 by theirs with an exponent that
// is 8 less, neither by a conversion.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/weight_tile.h"
#include "kernels/file_blocks.h"

namespace sluice::cuda {

template <WeightFormat kFormat>
struct TileFragment {
  static constexpr FormatInfo kInfo = InfoOf(kFormat);
  static constexpr int kScaleWords = kInfo.scale_bytes() / 32;  // of a lane: its two rows'
  uint32_t scale[kScaleWords];
  uint32_t nest[kInfo.nested ? 2 : 1];  // d and d' of its two rows
  uint32_t low[kInfo.low_bits];
  uint32_t high[kInfo.high_bits > 0 ? kInfo.high_bits : 1];
};
template <>
struct TileFragment<WeightFormat::kHalf> {
  uint32_t a[4][4];
};
template <>
struct TileFragment<WeightFormat::kFp8> {
  Words4 scale;      // of columns b, rows g + 8 i: word 2 i + b
  uint32_t a[2][4];  // of e4m3
};

template <int kWords>
SLUICE_DEVICE void LoadOnce(const uint8_t* from, uint32_t* to) {
  static_assert(kWords == 2 || kWords % 4 == 0);
  if constexpr (kWords == 2) {
    const Words2 v = LoadOnce8(from);
    to[0] = v.word[0];
    to[1] = v.word[1];
  } else {
    SLUICE_UNROLL
    for (int i = 0; i < kWords; i += 4) {
      const Words4 v = LoadOnce16(from + 4 * i);
      SLUICE_UNROLL
      for (int j = 0; j < 4; ++j) to[i + j] = v.word[j];
    }
  }
}

// Tile `tile` of a panel of `num_tiles`, the part of `lane`.
template <WeightFormat kFormat>
SLUICE_DEVICE void LoadTile(const uint8_t* panel, int32_t num_tiles, int32_t tile, int32_t lane,
                            TileFragment<kFormat>& out) {
  if constexpr (kFormat == WeightFormat::kHalf) {
    const int64_t row_bytes = int64_t{num_tiles} * kTileColumns * 2;
    const uint8_t* row = panel + lane / 4 * row_bytes + tile * (kTileColumns * 2) + lane % 4 * 16;
    SLUICE_UNROLL
    for (int b = 0; b < 2; ++b) {  // 32 columns: element 2t + e + 8j is word j
      const Words4 upper = LoadOnce16(row + b * 64);
      const Words4 lower = LoadOnce16(row + 8 * row_bytes + b * 64);
      SLUICE_UNROLL
      for (int j = 0; j < 4; ++j) {
        out.a[2 * b + j / 2][j % 2 * 2] = upper.word[j];
        out.a[2 * b + j / 2][j % 2 * 2 + 1] = lower.word[j];
      }
    }
  } else if constexpr (kFormat == WeightFormat::kFp8) {
    const uint8_t* from = panel + int64_t{tile} * InfoOf(kFormat).tile_bytes();
    out.scale = LoadOnce16(from);
    from += InfoOf(kFormat).scale_bytes() + lane * 16;
    LoadOnce<4>(from, out.a[0]);
    LoadOnce<4>(from + 512, out.a[1]);
  } else {
    using Fragment = TileFragment<kFormat>;
    constexpr FormatInfo kInfo = Fragment::kInfo;
    const uint8_t* from = panel + kInfo.tile_at(tile);
    if constexpr (kInfo.nested) {
      // Not past the L1 cache: the warps that take the tiles beside this one read it, too.
      const Words2 nest = LoadWords2(from - tile % kNestTiles * kInfo.tile_bytes() -
                                     kInfo.nest_bytes() + lane / 4 * 8);
      out.nest[0] = nest.word[0];
      out.nest[1] = nest.word[1];
    }
    LoadOnce<Fragment::kScaleWords>(from + lane / 4 * (kInfo.scale_bytes() / 8), out.scale);
    from += kInfo.scale_bytes();
    if constexpr (kInfo.low_bits == 2) {
      LoadOnce<2>(from + lane * 8, out.low);
    } else {
      SLUICE_UNROLL
      for (int v = 0; v < kInfo.low_bits / 4; ++v)
        LoadOnce<4>(from + v * 512 + lane * 16, out.low + 4 * v);
    }
    from += kInfo.low_bytes();
    if constexpr (kInfo.high_bits == 1) out.high[0] = LoadOnce4(from + lane * 4);
    if constexpr (kInfo.high_bits == 2) LoadOnce<2>(from + lane * 8, out.high);
  }
}

// Words of the bytes value + 128 of IQ4_NL's codes 4 i .. 4 i + 3.
constexpr uint32_t TableWord(int i) {
  uint32_t word = 0;
  for (int j = 0; j < 4; ++j) word |= static_cast<uint32_t>(kIq4Values[4 * i + j] + 128) << (8 * j);
  return word;
}

// The table's bytes for the four codes in the low half of `codes`: both halves of the table are
// looked up by the codes' three low bits, and the fourth bit of each says which has its byte.
SLUICE_DEVICE uint32_t LookUp(uint32_t codes) {
  constexpr uint32_t kTable[4] = {TableWord(0), TableWord(1), TableWord(2), TableWord(3)};
  const uint32_t in_half = codes & 0x7777;
  const uint32_t low = SelectBytes(kTable[0], kTable[1], in_half);
  const uint32_t high = SelectBytes(kTable[2], kTable[3], in_half);
  return SelectBytes(low, high, 0x3210 | (codes >> 1 & 0x4444));
}

// Codes of step s, register i, as two f16 of 1024 + code, or 1024 + 128 + value.
template <WeightFormat kFormat>
SLUICE_DEVICE uint32_t Codes(const TileFragment<kFormat>& tile, int s, int i) {
  constexpr FormatInfo kInfo = TileFragment<kFormat>::kInfo;
  constexpr uint32_t kMagic = 0x64006400;
  uint32_t code = 0;
  if constexpr (kInfo.low_bits == 8) {
    const uint32_t word = tile.low[2 * s + i / 2];
    return i % 2 == 0 ? SelectBytes<0x4140>(word, 0x64646464)
                      : SelectBytes<0x4342>(word, 0x64646464);
  } else if constexpr (kInfo.table) {
    // The same for every i: the compiler makes it once.
    const uint32_t first = LookUp(tile.low[s]), second = LookUp(tile.low[s] >> 16);
    return (SelectBytes(first, second, 0x0400U + 0x0101U * static_cast<uint32_t>(i)) & 0x00ff00ff) |
           kMagic;
  } else if constexpr (kInfo.low_bits == 4) {
    code = tile.low[s] >> (4 * i) & 0x000f000f;
  } else {
    code = tile.low[s / 2] >> (8 * (s % 2) + 2 * i) & 0x00030003;
  }
  if constexpr (kInfo.high_bits == 1)
    code |= (tile.high[0] >> (4 * s + i) & 0x00010001) << kInfo.low_bits;
  if constexpr (kInfo.high_bits == 2)
    code |= (tile.high[s / 2] >> (8 * (s % 2) + 2 * i) & 0x00030003) << kInfo.low_bits;
  return code | kMagic;
}

// Byte `byte` of step s's pair of bytes, of row g + 8 row, as two f16 times both of `d`.
template <WeightFormat kFormat>
SLUICE_DEVICE uint32_t NestedScale(const TileFragment<kFormat>& tile, int s, int row, int byte,
                                   uint32_t d) {
  constexpr uint32_t kMagic = 0x64006400;
  const auto at = static_cast<uint32_t>(s / 2 * 2 + byte);
  const uint32_t whole = SelectBytes(tile.scale[row], kMagic, 0x5050U + 0x0101U * at);
  return MultiplyHalves(SubtractHalves(whole, kMagic), d);
}

// Two e4m3 in the high bytes of a word as two f16 of 2^-8 of them: every one is a number there, the
// subnormal ones too.
SLUICE_DEVICE uint32_t ShiftedE4m3(uint32_t codes) {
  return (codes & 0x80008000U) | (codes & 0x7f007f00U) >> 1;
}
inline constexpr float kShiftedUnit = 256;

// sums += scale * unit * part, for the products `part` of columns b of kFp8.
SLUICE_DEVICE void AddScaled(const TileFragment<WeightFormat::kFp8>& tile, int b, float unit,
                             const float (&part)[4], float (&sums)[4]) {
  SLUICE_UNROLL
  for (int i = 0; i < 4; ++i)
    sums[i] = Fma(part[i], FloatOf(tile.scale.word[i / 2 * 2 + b]) * unit, sums[i]);
}

// The A fragment of step s; of kFp8 without its scales and 2^-8 of it.
template <WeightFormat kFormat>
SLUICE_DEVICE void Expand(const TileFragment<kFormat>& tile, int s, uint32_t (&a)[4]) {
  if constexpr (kFormat == WeightFormat::kHalf) {
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) a[i] = tile.a[s][i];
  } else if constexpr (kFormat == WeightFormat::kFp8) {
    SLUICE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const uint32_t word = tile.a[s / 2][s % 2 * 2 + i];
      a[i] = ShiftedE4m3(SelectBytes<0x1404>(word, 0));
      a[2 + i] = ShiftedE4m3(SelectBytes<0x3424>(word, 0));
    }
  } else {
    constexpr FormatInfo kInfo = TileFragment<kFormat>::kInfo;
    constexpr int kGroups = kTileColumns / kInfo.group;
    constexpr auto kBase = static_cast<uint32_t>(0x6400 + kInfo.offset) * 0x00010001U;
    SLUICE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int at = i % 2 * kGroups + s * 16 / kInfo.group;  // the row's scale of this group
      const uint32_t value = SubtractHalves(Codes<kFormat>(tile, s, i), kBase);
      if constexpr (kInfo.nested) {
        const uint32_t nest = tile.nest[i % 2];
        const uint32_t scale = NestedScale(tile, s, i % 2, 0, SelectBytes<0x1010>(nest, 0));
        const uint32_t minimum = NestedScale(tile, s, i % 2, 1, SelectBytes<0x3232>(nest, 0));
        a[i] = FmaHalves(value, scale, minimum);
      } else if constexpr (kInfo.minimum) {
        const uint32_t pair = tile.scale[at];
        a[i] = FmaHalves(value, SelectBytes<0x1010>(pair, 0), SelectBytes<0x3232>(pair, 0));
      } else {
        const uint32_t pair = tile.scale[at / 2];
        const uint32_t scale =
            at % 2 == 0 ? SelectBytes<0x1010>(pair, 0) : SelectBytes<0x3232>(pair, 0);
        a[i] = MultiplyHalves(value, scale);
      }
    }
  }
}

}  // namespace sluice::cuda
