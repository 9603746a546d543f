#include "kernels/cpu/packed_linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/status_macros.h"
#include "kernels/cpu/file_blocks.h"

namespace sluice::cpu {
namespace {

Packing PackingOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Packing::kF32;
    case DType::kF16:
      return Packing::kF16;
    case DType::kBF16:
      return Packing::kBF16;
    case DType::kQ8_0:
      return Packing::kQ8_0;
    case DType::kQ4_0:
      return Packing::kQ4_0;
    case DType::kQ4_1:
      return Packing::kQ4_1;
    case DType::kQ5_0:
      return Packing::kQ5_0;
    case DType::kQ5_1:
      return Packing::kQ5_1;
    case DType::kQ2K:
      return Packing::kQ2K;
    case DType::kQ3K:
      return Packing::kQ3K;
    case DType::kQ4K:
      return Packing::kQ4K;
    case DType::kQ5K:
      return Packing::kQ5K;
    case DType::kQ6K:
      return Packing::kQ6K;
    case DType::kIq4Nl:
      return Packing::kIq4Nl;
  }
  return Packing::kF32;
}

// Bytes of a panel of `cols` columns.
int64_t PackedPanelBytes(Packing packing, int64_t cols) {
  if (IsQuantised(packing)) return PanelBytes(LayoutOf(packing), cols);
  return cols * kPanelRows * (packing == Packing::kF32 ? 4 : 2);
}

// `bits` bits of each byte of the 8 dwords, from bit `from` on, into a plane set (packing.h).
void PackPlanes(const uint32_t (&words)[8], int from, int bits, uint8_t* out) {
  const uint32_t mask = 0x01010101U * ((1U << bits) - 1);
  for (int plane = 0; plane < bits; ++plane) {
    uint32_t packed = 0;
    for (int g = plane; g < 8; g += bits) packed |= (words[g] >> from & mask) << (g / bits * bits);
    std::memcpy(out + 64 * plane, &packed, 4);
  }
}

// Block `b` of 32 k of one row, into `lane` of the packed block `out`. `in` is the file's block.
void PackLane(const PackedLayout& layout, const BlockFormat& format, const uint8_t* in,
              const FileBlock& block, int b, int lane, uint8_t* out) {
  uint32_t words[8];
  std::memcpy(words, block.code + kBlock * b, kBlock);
  PackPlanes(words, 0, layout.low_bits, out + 4 * lane);
  PackPlanes(words, layout.low_bits, layout.high_bits, out + layout.high_at + 4 * lane);
  uint8_t* scales = out + layout.scales_at;
  const int8_t* s = block.scale + 2 * b;
  const int8_t* t = block.minimum + 2 * b;
  switch (layout.scales) {
    case Scales::kDM:
      std::memcpy(scales + 32 + 2 * lane, in + format.m_at, 2);
      [[fallthrough]];
    case Scales::kD:
      std::memcpy(scales + 2 * lane, in + format.d_at, 2);
      return;
    case Scales::kST:
      scales[lane] = static_cast<uint8_t>(s[0]);
      scales[16 + lane] = static_cast<uint8_t>(t[0]);
      return;
    case Scales::kPair:
      std::memcpy(scales + 2 * lane, s, 2);
      return;
    case Scales::kPairs:
      for (int half = 0; half < 2; ++half)
        scales[2 * lane + half] = static_cast<uint8_t>(s[half] | -t[half] << 4);
      return;
  }
}

// One block of the file, of one row; `out` begins with the header, if there is one.
void PackFileBlock(DType dtype, const PackedLayout& layout, const uint8_t* in, int lane,
                   uint8_t* out) {
  FileBlock block;
  ReadFileBlock(dtype, in, block);
  const BlockFormat format = BlockFormatOf(dtype);
  if (layout.header_bytes > 0) std::memcpy(out + 2 * lane, in + format.d_at, 2);
  if (layout.header_bytes > 32) std::memcpy(out + 32 + 2 * lane, in + format.m_at, 2);
  out += layout.header_bytes;
  for (int b = 0; b < layout.blocks; ++b, out += layout.block_bytes)
    PackLane(layout, format, in, block, b, lane, out);
}

// rows[lane]: the file's bytes of each row of the panel.
void PackPanel(DType dtype, std::span<const uint8_t* const> rows, int64_t cols, uint8_t* out) {
  const DTypeInfo info = GetDTypeInfo(dtype);
  const Packing packing = PackingOf(dtype);
  const PackedLayout layout = LayoutOf(packing);
  const int64_t blocks = cols / info.block_elements;
  const int64_t out_bytes = PackedPanelBytes(packing, info.block_elements);
  for (int64_t b = 0; b < blocks; ++b, out += out_bytes) {
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      const uint8_t* in = rows[lane] + b * info.block_bytes;
      if (IsQuantised(packing)) {
        PackFileBlock(dtype, layout, in, static_cast<int>(lane), out);
      } else {
        std::memcpy(out + static_cast<int64_t>(lane) * info.block_bytes, in,
                    static_cast<size_t>(info.block_bytes));
      }
    }
  }
}

absl::Status CheckShapes(std::span<const WeightView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a linear op has no weights");
  int64_t rows = 0;
  for (const WeightView& part : parts) {
    const DTypeInfo info = GetDTypeInfo(part.dtype);
    if (part.rows < 1 || part.cols < 1 || part.cols % info.block_elements != 0) {
      return absl::InvalidArgumentError(
          fmt::format("a {} weight has shape {} x {}; columns must be a multiple of {}", info.name,
                      part.rows, part.cols, info.block_elements));
    }
    if (part.cols != parts[0].cols) {
      return absl::InvalidArgumentError(
          fmt::format("stacked weights have {} and {} columns; they must have equal columns",
                      parts[0].cols, part.cols));
    }
    rows += std::min<int64_t>(part.rows, int64_t{1} << 40);
  }
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max() - kPanelRows;
  if (rows > kMax || parts[0].cols > kMax) {
    return absl::InvalidArgumentError(fmt::format(
        "a linear op of {} x {} is too large; the limit is {}", rows, parts[0].cols, kMax));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PackedLinear> PackLinear(std::span<const WeightView> parts, Arena& arena) {
  RETURN_IF_ERROR(CheckShapes(parts));
  PackedLinear linear;
  linear.cols = static_cast<int32_t>(parts[0].cols);
  for (size_t i = 0; i < parts.size();) {
    const DType dtype = parts[i].dtype;
    PackedPart packed;
    packed.packing = PackingOf(dtype);
    packed.column = linear.rows;
    std::vector<const uint8_t*> rows;
    for (; i < parts.size() && parts[i].dtype == dtype; ++i) {
      const auto* data = static_cast<const uint8_t*>(parts[i].data);
      for (int64_t r = 0; r < parts[i].rows; ++r) rows.push_back(data + r * parts[i].row_bytes());
    }
    packed.rows = static_cast<int32_t>(rows.size());
    const int64_t panel_bytes = PackedPanelBytes(packed.packing, linear.cols);
    const int64_t panels = (packed.rows + kPanelRows - 1) / kPanelRows;
    ASSIGN_OR_RETURN(void* memory, arena.Allocate(panels * panel_bytes));
    auto* out = static_cast<uint8_t*>(memory);
    packed.panels = out;
    for (int64_t p = 0; p < panels; ++p, out += panel_bytes) {
      const size_t first = static_cast<size_t>(p) * kPanelRows;
      const size_t count = std::min<size_t>(kPanelRows, rows.size() - first);
      PackPanel(dtype, std::span(rows).subspan(first, count), linear.cols, out);
    }
    linear.rows += packed.rows;
    linear.parts.push_back(packed);
  }
  return linear;
}

}  // namespace sluice::cpu
