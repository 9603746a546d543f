#include "kernels/cuda/packed_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <thread>

#include "base/check.h"
#include "kernels/cuda/weight_tile.h"
#include "kernels/file_blocks.h"
#include "kernels/half.h"

namespace sluice::cuda {
namespace {

// One row of a matrix as its file has it: codes, with a scale and a minimum for every group. Where
// scales are nested, these are d and d' for every 256.
struct CodedRow {
  std::vector<uint8_t> codes;         // [K]
  std::vector<float> scales, minima;  // [K / group]
  std::vector<uint8_t> parts;         // [K / group][2] nested: i, j
  float top = 0;                      // no scale times the span, and no minimum, is larger
};

uint16_t ReadU16(const uint8_t* at) { return static_cast<uint16_t>(at[0] | at[1] << 8); }

// A super-block's own scales as they are: d * i with d an f16 of the file is what the kernels
// round. A number that nothing is multiplied by may have any size; it becomes 0.
void ReadNestedScales(const FileBlock& block, float d, float m, float span, CodedRow& out) {
  int most_scale = 0, most_minimum = 0;
  for (int e = 0; e < kSuperBlock; e += 32) {
    const int scale = block.scale[e / 16], minimum = -block.minimum[e / 16];
    out.parts.push_back(static_cast<uint8_t>(scale));
    out.parts.push_back(static_cast<uint8_t>(minimum));
    most_scale = std::max(most_scale, scale);
    most_minimum = std::max(most_minimum, minimum);
  }
  out.scales.push_back(most_scale > 0 ? d : 0);
  out.minima.push_back(most_minimum > 0 ? -m : 0);
  out.top = std::max({out.top, std::fabs(out.scales.back()) * span * static_cast<float>(most_scale),
                      std::fabs(out.minima.back()) * static_cast<float>(most_minimum)});
}

void ReadCodedRow(const WeightView& view, int64_t row, const FormatInfo& weights, CodedRow& out) {
  const DTypeInfo info = GetDTypeInfo(view.dtype);
  const BlockFormat format = BlockFormatOf(view.dtype);
  const auto* block = static_cast<const uint8_t*>(view.data) + row * view.row_bytes();
  const auto span = static_cast<float>(weights.span());
  out.codes.clear();
  out.scales.clear();
  out.minima.clear();
  out.parts.clear();
  out.top = 0;
  for (int64_t i = 0; i < view.cols; i += info.block_elements, block += info.block_bytes) {
    FileBlock codes;
    ReadFileBlock(view.dtype, block, codes);
    const float d = HalfToFloat(ReadU16(block + format.d_at));
    const float m = format.m_at < 0 ? 0 : HalfToFloat(ReadU16(block + format.m_at));
    out.codes.insert(out.codes.end(), codes.code, codes.code + info.block_elements);
    if (weights.nested) {
      ReadNestedScales(codes, d, m, span, out);
      continue;
    }
    for (int32_t e = 0; e < info.block_elements; e += weights.group) {
      out.scales.push_back(d * static_cast<float>(codes.scale[e / 16]));
      out.minima.push_back(m * static_cast<float>(codes.minimum[e / 16]));
      out.top =
          std::max({out.top, std::fabs(out.scales.back()) * span, std::fabs(out.minima.back())});
    }
  }
}

// 2^-e so that `top` times it is near 2^to; 1 where there is nothing to scale.
float PowerFor(float top, int to) {
  if (!(top > 0) || !std::isfinite(top)) return 1;
  return std::ldexp(1.0F, std::clamp(to - std::ilogb(top), -120, 120));
}

// Where a row's element lies in its tile.
struct Place {
  int lane, step, reg, element;
};
Place PlaceOf(int row, int column) {
  const int in_step = column % 16;
  return {.lane = row % 8 * 4 + in_step % 8 / 2,
          .step = column / 16,
          .reg = row / 8 + in_step / 8 * 2,
          .element = in_step % 2};
}

void OrBits(uint8_t* at, uint32_t bits) {
  uint32_t word = 0;
  std::memcpy(&word, at, sizeof word);
  word |= bits;
  std::memcpy(at, &word, sizeof word);
}

// `tile` begins as zeros.
void PutCode(const FormatInfo& info, int row, int column, uint32_t code, uint8_t* tile) {
  const auto [lane, s, i, e] = PlaceOf(row, column);
  uint8_t* low = tile + info.scale_bytes();
  const uint32_t low_code = code & ((1U << info.low_bits) - 1);
  if (info.low_bits == 8) {
    const int word = 2 * s + i / 2;
    low[word / 4 * 512 + lane * 16 + word % 4 * 4 + 2 * (i % 2) + e] =
        static_cast<uint8_t>(low_code);
  } else if (info.low_bits == 4) {
    OrBits(low + lane * 16 + s * 4, low_code << (4 * i + 16 * e));
  } else {
    OrBits(low + lane * 8 + s / 2 * 4, low_code << (8 * (s % 2) + 2 * i + 16 * e));
  }
  uint8_t* high = low + info.low_bytes();
  const uint32_t high_code = code >> info.low_bits;
  if (info.high_bits == 1) OrBits(high + lane * 4, high_code << (4 * s + i + 16 * e));
  if (info.high_bits == 2)
    OrBits(high + lane * 8 + s / 2 * 4, high_code << (8 * (s % 2) + 2 * i + 16 * e));
}

void PutHalf(uint8_t* at, float value) {
  const uint16_t half = FloatToHalf(value);
  std::memcpy(at, &half, sizeof half);
}

void PackCodedRow(const FormatInfo& info, const CodedRow& row, int64_t n, int32_t columns,
                  PackedWeights& out) {
  const float power = PowerFor(row.top, 13);
  out.row_scale[static_cast<size_t>(n)] = 1 / power;
  const int in_panel = static_cast<int>(n % kPanelRows);
  const int groups = kTileColumns / info.group, pair = info.minimum ? 4 : 2;
  const int lane_row = in_panel % 8 * 2 + in_panel / 8;
  uint8_t* panel = out.tiles.data() + n / kPanelRows * info.panel_bytes(columns / kTileColumns);
  for (size_t k = 0; k < row.codes.size(); ++k) {
    uint8_t* tile = panel + info.tile_at(static_cast<int32_t>(k / kTileColumns));
    const int column = static_cast<int>(k % kTileColumns);
    PutCode(info, in_panel, column, row.codes[k], tile);
    if (column % info.group != 0) continue;
    const size_t q = k / static_cast<size_t>(info.group);
    const int index = lane_row * groups + column / info.group;
    if (info.nested) {
      std::memcpy(tile + index * 2, &row.parts[2 * q], 2);
      if (k % kSuperBlock != 0) continue;
      uint8_t* nest = tile - info.nest_bytes() + lane_row * 4;
      PutHalf(nest, row.scales[k / kSuperBlock] * power);
      PutHalf(nest + 2, row.minima[k / kSuperBlock] * power);
      continue;
    }
    PutHalf(tile + index * pair, row.scales[q] * power);
    if (info.minimum) PutHalf(tile + index * pair + 2, row.minima[q] * power);
  }
}

float ReadFloat(const WeightView& view, int64_t index) {
  const auto* data = static_cast<const uint8_t*>(view.data);
  if (view.dtype == DType::kF16) return HalfToFloat(ReadU16(data + 2 * index));
  if (view.dtype == DType::kBF16) return Bf16ToFloat(ReadU16(data + 2 * index));
  float value = 0;
  std::memcpy(&value, data + 4 * index, sizeof value);
  return value;
}

void PackFloatRow(const WeightView& view, int64_t n, int32_t columns, PackedWeights& out) {
  float top = 0;
  for (int64_t k = 0; k < view.cols; ++k)
    top = std::max(top, std::fabs(ReadFloat(view, n * view.cols + k)));
  const float power = PowerFor(top, 13);
  out.row_scale[static_cast<size_t>(n)] = 1 / power;
  for (int64_t k = 0; k < view.cols; ++k) {
    const int64_t at = (k & ~31) | (k % 8 / 2 * 8) | (k % 32 / 8 * 2) | (k & 1);
    PutHalf(out.tiles.data() + (n * columns + at) * 2, ReadFloat(view, n * view.cols + k) * power);
  }
}

// --- FP8: blocks of an f32 scale and 32 codes ---

constexpr int64_t kFp8Columns = 32;
constexpr int64_t kFp8Rows = kPanelRows / 2;  // that have scales of their own in a tile

const uint8_t* Fp8Block(const WeightView& view, int64_t row, int64_t block) {
  return static_cast<const uint8_t*>(view.data) + row * view.row_bytes() +
         block * GetDTypeInfo(view.dtype).block_bytes;
}
float Fp8Scale(const WeightView& view, int64_t row, int64_t block) {
  float scale = 0;
  std::memcpy(&scale, Fp8Block(view, row, block), sizeof scale);
  return scale;
}

bool RowsShareScales(const WeightView& view, int64_t begin, int64_t end) {
  for (int64_t n = begin + 1; n < end; ++n) {
    for (int64_t b = 0; b < view.cols / kFp8Columns; ++b) {
      if (Fp8Scale(view, n, b) != Fp8Scale(view, begin, b)) return false;
    }
  }
  return true;
}
bool RowHasOneScale(const WeightView& view, int64_t row) {
  for (int64_t b = 1; b < view.cols / kFp8Columns; ++b) {
    if (Fp8Scale(view, row, b) != Fp8Scale(view, row, 0)) return false;
  }
  return true;
}

// Rows [begin, end), at most 8 of one half of a panel.
void PackFp8Rows(const WeightView& view, int64_t begin, int64_t end, PackedWeights& out) {
  const FormatInfo info = InfoOf(WeightFormat::kFp8);
  const bool shared = RowsShareScales(view, begin, end);
  const auto half = static_cast<int>(begin % kPanelRows / kFp8Rows);
  uint8_t* panel = out.tiles.data() +
                   begin / kPanelRows * (out.columns / kTileColumns) * int64_t{info.tile_bytes()};
  for (int64_t n = begin; n < end; ++n) {
    out.row_scale[static_cast<size_t>(n)] = shared ? 1 : Fp8Scale(view, n, 0);
    for (int64_t block = 0; block < view.cols / kFp8Columns; ++block) {
      uint8_t* tile = panel + block / 2 * info.tile_bytes();
      const auto b = static_cast<int>(block % 2);
      const float scale = shared ? Fp8Scale(view, n, block) : 1;
      std::memcpy(tile + (half * 2 + b) * 4, &scale, sizeof scale);
      const uint8_t* codes = Fp8Block(view, n, block) + sizeof scale;
      for (int k = 0; k < kFp8Columns; ++k) {
        const int lane = static_cast<int>(n % kFp8Rows) * 4 + k % 8 / 2;
        const int word = k / 16 * 2 + half;
        tile[info.scale_bytes() + b * 512 + lane * 16 + word * 4 + k % 16 / 8 * 2 + k % 2] =
            codes[k];
      }
    }
  }
}

int64_t Padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t TileBytes(DType dtype, int64_t rows, int64_t cols) {
  const auto tiles = static_cast<int32_t>(Padded(cols, kTileColumns) / kTileColumns);
  return Padded(rows, kPanelRows) / kPanelRows * InfoOf(FormatOf(dtype)).panel_bytes(tiles);
}

void PackRows(const WeightView& view, int64_t begin, int64_t end, PackedWeights& packed) {
  const FormatInfo info = InfoOf(packed.format);
  CodedRow row;
  if (packed.format == WeightFormat::kFp8) {
    for (int64_t n = begin; n < end; n += kFp8Rows)
      PackFp8Rows(view, n, std::min(n + kFp8Rows, end), packed);
    return;
  }
  for (int64_t n = begin; n < end; ++n) {
    if (packed.format == WeightFormat::kHalf) {
      PackFloatRow(view, n, packed.columns, packed);
      continue;
    }
    ReadCodedRow(view, n, info, row);
    PackCodedRow(info, row, n, packed.columns, packed);
  }
}

}  // namespace

WeightFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return WeightFormat::kHalf;
    case DType::kQ8_0:
      return WeightFormat::kInt8;
    case DType::kIq4Nl:
      return WeightFormat::kTable4;
    case DType::kQ4_0:
      return WeightFormat::kInt4;
    case DType::kQ4_1:
      return WeightFormat::kInt4Min;
    case DType::kQ4K:
      return WeightFormat::kInt4Nested;
    case DType::kQ5_0:
      return WeightFormat::kInt5;
    case DType::kQ5_1:
      return WeightFormat::kInt5Min;
    case DType::kQ5K:
      return WeightFormat::kInt5Nested;
    case DType::kQ6K:
      return WeightFormat::kInt6;
    case DType::kQ3K:
      return WeightFormat::kInt3;
    case DType::kQ2K:
      return WeightFormat::kInt2Min;
    case DType::kFp8:
    case DType::kFp8A8:
      return WeightFormat::kFp8;
  }
  return WeightFormat::kHalf;
}

int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols) {
  return TileBytes(dtype, rows, cols) +
         Padded(rows, kPanelRows) * static_cast<int64_t>(sizeof(float));
}

bool ScalesFit(const WeightView& view) {
  for (int64_t n = 0; IsFp8(view.dtype) && n < view.rows; n += kFp8Rows) {
    const int64_t end = std::min(n + kFp8Rows, view.rows);
    if (RowsShareScales(view, n, end)) continue;
    for (int64_t row = n; row < end; ++row) {
      if (!RowHasOneScale(view, row)) return false;
    }
  }
  return true;
}

PackedWeights PackWeights(const WeightView& view, int32_t num_threads) {
  SLUICE_CHECK(view.source == nullptr, "a matrix of {} rows was not made", view.rows);
  PackedWeights packed;
  packed.format = FormatOf(view.dtype);
  packed.rows = static_cast<int32_t>(view.rows);
  packed.columns = static_cast<int32_t>(Padded(view.cols, kTileColumns));
  packed.tiles.resize(static_cast<size_t>(TileBytes(view.dtype, view.rows, view.cols)));
  packed.row_scale.assign(static_cast<size_t>(Padded(view.rows, kPanelRows)), 1);
  // Rows of one panel share words, panels share nothing.
  const int64_t each = Padded((view.rows + num_threads - 1) / num_threads, kPanelRows);
  std::vector<std::thread> threads;
  for (int64_t begin = each; begin < view.rows; begin += each) {
    threads.emplace_back(
        [&, begin] { PackRows(view, begin, std::min(begin + each, view.rows), packed); });
  }
  PackRows(view, 0, std::min(each, view.rows), packed);
  for (std::thread& thread : threads) thread.join();
  return packed;
}

}  // namespace sluice::cuda
