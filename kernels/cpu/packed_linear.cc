#include "kernels/cpu/packed_linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/status_macros.h"
#include "kernels/file_blocks.h"

namespace sluice::cpu {
namespace {

constexpr Packing PackingOf(DType dtype) {
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
    case DType::kFp8:
    case DType::kFp8A8:
      break;
  }
  return Packing::kF32;
}

// Bytes of a panel of `cols` columns.
constexpr int64_t PackedPanelBytes(Packing packing, int64_t cols) {
  if (IsQuantised(packing)) return PanelBytes(LayoutOf(packing), cols);
  return cols * kPanelRows * (packing == Packing::kF32 ? 4 : 2);
}

// kBits bits of each byte of the 8 dwords, from bit kFrom on, into a plane set (packing.h).
template <int kFrom, int kBits>
void PackPlanes(const uint32_t (&words)[8], uint8_t* out) {
  constexpr uint32_t kMask = 0x01010101U * ((1U << kBits) - 1);
  for (int plane = 0; plane < kBits; ++plane) {
    uint32_t packed = 0;
    for (int g = plane; g < 8; g += kBits)
      packed |= (words[g] >> kFrom & kMask) << (g / kBits * kBits);
    std::memcpy(out + 64 * plane, &packed, 4);
  }
}

// Block `b` of 32 k of one row, into `lane` of the packed block `out`. `in` is the file's block.
template <DType kType>
void PackLane(const uint8_t* in, const FileBlock& block, int b, int lane, uint8_t* out) {
  constexpr PackedLayout kLayout = LayoutOf(PackingOf(kType));
  constexpr BlockFormat kFormat = BlockFormatOf(kType);
  uint32_t words[8];
  std::memcpy(words, block.code + kBlock * b, kBlock);
  PackPlanes<0, kLayout.low_bits>(words, out + 4 * lane);
  if constexpr (kLayout.high_bits > 0)
    PackPlanes<kLayout.low_bits, kLayout.high_bits>(words, out + kLayout.high_at + 4 * lane);
  uint8_t* scales = out + kLayout.scales_at;
  const int8_t* s = block.scale + 2 * b;
  const int8_t* t = block.minimum + 2 * b;
  if constexpr (kLayout.scales <= Scales::kDM) std::memcpy(scales + 2 * lane, in + kFormat.d_at, 2);
  if constexpr (kLayout.scales == Scales::kDM)
    std::memcpy(scales + 32 + 2 * lane, in + kFormat.m_at, 2);
  if constexpr (kLayout.scales == Scales::kST) {
    scales[lane] = static_cast<uint8_t>(s[0]);
    scales[16 + lane] = static_cast<uint8_t>(t[0]);
  }
  if constexpr (kLayout.scales == Scales::kPair) std::memcpy(scales + 2 * lane, s, 2);
  if constexpr (kLayout.scales == Scales::kPairs) {
    for (int half = 0; half < 2; ++half)
      scales[2 * lane + half] = static_cast<uint8_t>(s[half] | -t[half] << 4);
  }
}

// rows[lane]: the file's bytes of each row of the panel.
template <DType kType>
void PackPanel(std::span<const uint8_t* const> rows, int64_t cols, uint8_t* out) {
  constexpr DTypeInfo kInfo = GetDTypeInfo(kType);
  constexpr Packing kPacking = PackingOf(kType);
  for (int64_t b = 0; b < cols / kInfo.block_elements; ++b) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const uint8_t* in = rows[i] + b * kInfo.block_bytes;
      const auto lane = static_cast<int>(i);
      if constexpr (!IsQuantised(kPacking)) {
        std::memcpy(out + lane * kInfo.block_bytes, in, kInfo.block_bytes);
      } else {
        constexpr PackedLayout kLayout = LayoutOf(kPacking);
        constexpr BlockFormat kFormat = BlockFormatOf(kType);
        FileBlock block;
        ReadFileBlock(kType, in, block);
        if constexpr (kLayout.header_bytes > 0) std::memcpy(out + 2 * lane, in + kFormat.d_at, 2);
        if constexpr (kLayout.header_bytes > 32)
          std::memcpy(out + 32 + 2 * lane, in + kFormat.m_at, 2);
        uint8_t* to = out + kLayout.header_bytes;
        for (int j = 0; j < kLayout.blocks; ++j, to += kLayout.block_bytes)
          PackLane<kType>(in, block, j, lane, to);
      }
    }
    out += PackedPanelBytes(kPacking, kInfo.block_elements);
  }
}

using PackPanelFunction = void (*)(std::span<const uint8_t* const> rows, int64_t cols,
                                   uint8_t* out);
constexpr PackPanelFunction kPackPanel[] = {  // by DType
    PackPanel<DType::kF32>,  PackPanel<DType::kF16>,  PackPanel<DType::kBF16>,
    PackPanel<DType::kQ8_0>, PackPanel<DType::kQ4_0>, PackPanel<DType::kQ4_1>,
    PackPanel<DType::kQ5_0>, PackPanel<DType::kQ5_1>, PackPanel<DType::kQ2K>,
    PackPanel<DType::kQ3K>,  PackPanel<DType::kQ4K>,  PackPanel<DType::kQ5K>,
    PackPanel<DType::kQ6K>,  PackPanel<DType::kIq4Nl>};

absl::Status CheckShapes(std::span<const WeightView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a linear op has no weights");
  int64_t rows = 0;
  for (const WeightView& part : parts) {
    SLUICE_CHECK(part.source == nullptr, "a weight of {} rows was not made", part.rows);
    const DTypeInfo info = GetDTypeInfo(part.dtype);
    if (IsFp8(part.dtype)) {
      return absl::InvalidArgumentError(
          fmt::format("a weight has type {}; the CPU backend has no product for it", info.name));
    }
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
      kPackPanel[static_cast<int>(dtype)](std::span(rows).subspan(first, count), linear.cols, out);
    }
    linear.rows += packed.rows;
    linear.parts.push_back(packed);
  }
  return linear;
}

}  // namespace sluice::cpu
