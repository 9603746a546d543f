#include "kernels/cpu/packed_linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/status_macros.h"

namespace sluice::cpu {
namespace {

absl::StatusOr<Packing> PackingOf(DType dtype) {
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
    default:
      return absl::UnimplementedError(
          fmt::format("no matrix multiplication for {} weights yet", GetDTypeInfo(dtype).name));
  }
}

// Bytes of 16 rows x 32 k, or of 16 rows x 1 k for float weights.
int64_t PackedBlockBytes(Packing packing) {
  switch (packing) {
    case Packing::kQ4_0:
      return kQ40Bytes;
    case Packing::kQ4_1:
      return kQ41Bytes;
    case Packing::kQ8_0:
      return kQ80Bytes;
    case Packing::kF32:
      return 4 * kPanelRows;
    default:
      return 2 * kPanelRows;
  }
}

// One block of one row: `lane` of the packed block `out`.
void PackBlock(Packing packing, const uint8_t* in, int lane, uint8_t* out) {
  uint32_t word = 0;
  if (packing == Packing::kQ8_0) {
    for (int g = 0; g < 8; ++g) {
      std::memcpy(&word, in + 2 + 4 * g, 4);
      word ^= 0x80808080U;
      std::memcpy(out + 64 * g + 4 * lane, &word, 4);
    }
    std::memcpy(out + 512 + 2 * lane, in, 2);
    return;
  }
  const int header = packing == Packing::kQ4_1 ? 4 : 2;
  for (int j = 0; j < 4; ++j) std::memcpy(out + 64 * j + 4 * lane, in + header + 4 * j, 4);
  std::memcpy(out + 256 + 2 * lane, in, 2);
  if (packing == Packing::kQ4_1) std::memcpy(out + 288 + 2 * lane, in + 2, 2);
}

// rows[lane]: the file's bytes of each row of the panel.
void PackPanel(const DTypeInfo& info, Packing packing, std::span<const uint8_t* const> rows,
               int64_t cols, uint8_t* out) {
  const int64_t blocks = cols / info.block_elements;
  const int64_t out_bytes = PackedBlockBytes(packing);
  for (int64_t b = 0; b < blocks; ++b, out += out_bytes) {
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      const uint8_t* in = rows[lane] + b * info.block_bytes;
      if (IsQuantised(packing)) {
        PackBlock(packing, in, static_cast<int>(lane), out);
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
    const DTypeInfo info = GetDTypeInfo(parts[i].dtype);
    PackedPart packed;
    ASSIGN_OR_RETURN(packed.packing, PackingOf(parts[i].dtype));
    packed.column = linear.rows;
    std::vector<const uint8_t*> rows;
    for (const DType dtype = parts[i].dtype; i < parts.size() && parts[i].dtype == dtype; ++i) {
      const auto* data = static_cast<const uint8_t*>(parts[i].data);
      for (int64_t r = 0; r < parts[i].rows; ++r) rows.push_back(data + r * parts[i].row_bytes());
    }
    packed.rows = static_cast<int32_t>(rows.size());
    const int64_t panel_bytes =
        linear.cols / info.block_elements * PackedBlockBytes(packed.packing);
    const int64_t panels = (packed.rows + kPanelRows - 1) / kPanelRows;
    ASSIGN_OR_RETURN(void* memory, arena.Allocate(panels * panel_bytes));
    auto* out = static_cast<uint8_t*>(memory);
    packed.panels = out;
    for (int64_t p = 0; p < panels; ++p, out += panel_bytes) {
      const size_t first = static_cast<size_t>(p) * kPanelRows;
      const size_t count = std::min<size_t>(kPanelRows, rows.size() - first);
      PackPanel(info, packed.packing, std::span(rows).subspan(first, count), linear.cols, out);
    }
    linear.rows += packed.rows;
    linear.parts.push_back(packed);
  }
  return linear;
}

}  // namespace sluice::cpu
