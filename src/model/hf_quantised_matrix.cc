#include "model/hf_quantised_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "base/status_macros.h"
#include "kernels/half.h"
#include "model/quantise.h"

namespace sluice {
namespace {

constexpr int64_t kBlock = 32;
constexpr float kMaxHalf = 65504;
// AWQ's word holds row 8w + j in nibble kAwqNibble[j].
constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

template <typename T>
T LoadAt(const uint8_t* data, int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// 1 sign, 4 exponent and 3 mantissa bits, bias 7, no infinity. Source: arXiv:2209.05433.
constexpr float Fp8ToFloat(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80U) << 24;
  const uint32_t exponent = code >> 3 & 15U, mantissa = code & 7U;
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(sign | 0x7fc00000U);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 120) << 23 | mantissa << 20);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9F;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}
constexpr std::array<float, 256> kFp8 = [] {
  std::array<float, 256> table{};
  for (size_t i = 0; i < table.size(); ++i) table[i] = Fp8ToFloat(static_cast<uint8_t>(i));
  return table;
}();

float FloatAt(const SafetensorsTensor& tensor, int64_t index) {
  if (tensor.type == SafetensorsType::kF32) return LoadAt<float>(tensor.data, index);
  const auto half = LoadAt<uint16_t>(tensor.data, index);
  return tensor.type == SafetensorsType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
}

void PutHalf(float x, uint8_t* out) {
  const uint16_t half = FloatToHalf(x);
  std::memcpy(out, &half, sizeof(half));
}

void PutNibbles(const uint8_t* codes, uint8_t* out) {
  for (int64_t i = 0; i < kBlock / 2; ++i) {
    out[i] = static_cast<uint8_t>(codes[i] | codes[i + kBlock / 2] << 4);
  }
}

}  // namespace

// Codes are copied as they lie: element k of a row is bits [k * bits, ...) of the row.
void HfQuantisedMatrix::ReadCodes(Tile& tile) const {
  const uint8_t* data = parts_.codes.tensor->data;
  const int64_t bits = scheme_.bits, words = parts_.codes.tensor->dims[1];
  tile.codes.resize(static_cast<size_t>(tile.count * cols_));
  uint8_t* out = tile.codes.data();
  if (scheme_.packing == HfPacking::kAwq) {
    for (int64_t k = 0; k < cols_; ++k) {
      for (int64_t r = 0; r < tile.count; ++r) {
        const int64_t row = tile.begin + r;
        const auto word = LoadAt<uint32_t>(data, k * words + row / 8);
        out[r * cols_ + k] = word >> (4 * kAwqNibble[row % 8]) & 15;
      }
    }
  } else if (scheme_.packing == HfPacking::kGptq) {
    const int64_t in_word = 32 / bits;
    const uint32_t mask = (1U << bits) - 1;
    for (int64_t w = 0; w < cols_ / in_word; ++w) {
      for (int64_t r = 0; r < tile.count; ++r) {
        auto word = LoadAt<uint32_t>(data, w * words + tile.begin + r);
        for (int64_t i = 0; i < in_word; ++i, word >>= bits) {
          out[r * cols_ + w * in_word + i] = static_cast<uint8_t>(word & mask);
        }
      }
    }
  } else if (bits == 4) {
    for (int64_t r = 0; r < tile.count; ++r) {
      const uint8_t* row = data + (tile.begin + r) * words * 4;
      for (int64_t k = 0; k < cols_; ++k) out[r * cols_ + k] = row[k / 2] >> (k % 2 * 4) & 15;
    }
  } else {
    const int64_t row_bytes = scheme_.packing == HfPacking::kRows ? words * 4 : cols_;
    const uint8_t flip = scheme_.packing == HfPacking::kInt8 ? 0x80 : 0;
    for (int64_t r = 0; r < tile.count; ++r) {
      const uint8_t* row = data + (tile.begin + r) * row_bytes;
      for (int64_t k = 0; k < cols_; ++k) out[r * cols_ + k] = row[k] ^ flip;
    }
  }
}

void HfQuantisedMatrix::ReadScales(Tile& tile) const {
  const bool by_column = scheme_.packing == HfPacking::kAwq || scheme_.packing == HfPacking::kGptq;
  tile.scales.resize(static_cast<size_t>(tile.count * groups_));
  for (int64_t r = 0; r < tile.count; ++r) {
    const int64_t row = tile.begin + r;
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t at = by_column ? g * rows_ + row : row / block_rows_ * groups_ + g;
      tile.scales[static_cast<size_t>(r * groups_ + g)] = FloatAt(*parts_.scales.tensor, at);
    }
  }
}

int32_t HfQuantisedMatrix::ZeroAt(int64_t row, int64_t group) const {
  const SafetensorsTensor& zeros = *parts_.zeros.tensor;
  if (zeros.type == SafetensorsType::kI8) {
    return LoadAt<int8_t>(zeros.data, row / block_rows_ * groups_ + group) + middle();
  }
  const int64_t in_word = 32 / scheme_.bits;
  const int64_t word_of_row = row / in_word;
  const bool by_row = scheme_.packing == HfPacking::kRows;  // [words of rows, groups]
  const auto word = LoadAt<uint32_t>(
      zeros.data, by_row ? word_of_row * groups_ + group : group * zeros.dims[1] + word_of_row);
  const int64_t place = scheme_.packing == HfPacking::kAwq ? kAwqNibble[row % 8] : row % in_word;
  const auto zero =
      static_cast<int32_t>(word >> (scheme_.bits * place) & ((1U << scheme_.bits) - 1));
  return zero + (scheme_.zero_plus_one ? 1 : 0);
}

void HfQuantisedMatrix::ReadZeros(Tile& tile) const {
  const auto middle_code = static_cast<int16_t>(middle());
  tile.zeros.assign(static_cast<size_t>(tile.count * groups_), middle_code);
  if (parts_.zeros.tensor == nullptr) return;
  for (int64_t r = 0; r < tile.count; ++r) {
    for (int64_t g = 0; g < groups_; ++g) {
      tile.zeros[static_cast<size_t>(r * groups_ + g)] =
          static_cast<int16_t>(ZeroAt(tile.begin + r, g));
    }
  }
}

// Row `row` of the tile where a block has one scale and its codes stay.
absl::Status HfQuantisedMatrix::MakeBlocks(const Tile& tile, int64_t row, uint8_t* out) const {
  const int64_t block_bytes = GetDTypeInfo(dtype_).block_bytes;
  for (int64_t b = 0; b < cols_ / kBlock; ++b, out += block_bytes) {
    const auto group = static_cast<size_t>(row * groups_ + b * kBlock / group_);
    const uint8_t* codes = tile.codes.data() + row * cols_ + b * kBlock;
    const float scale = tile.scales[group];
    const auto zero = static_cast<float>(tile.zeros[group]);
    if (!(std::abs(scale) <= kMaxHalf) ||
        !(std::abs(scale * zero) <= kMaxHalf || scheme_.symmetric)) {
      return BadRow(tile.begin + row, fmt::format("has a scale of {}, which {} cannot hold", scale,
                                                  GetDTypeInfo(dtype_).name));
    }
    if (scheme_.symmetric && tile.zeros[group] != middle()) {
      return BadRow(tile.begin + row,
                    fmt::format("has the zero point {} where symmetric codes have {}",
                                tile.zeros[group], middle()));
    }
    PutHalf(scale, out);
    if (dtype_ == DType::kQ4_0) {
      PutNibbles(codes, out + 2);
    } else if (dtype_ == DType::kQ4_1) {
      PutHalf(-scale * zero, out + 2);
      PutNibbles(codes, out + 4);
    } else {
      for (int64_t i = 0; i < kBlock; ++i) out[2 + i] = codes[i] ^ 0x80;
    }
  }
  return absl::OkStatus();
}

// Row `row` of the tile as blocks of an f32 scale and 32 fp8 codes.
absl::Status HfQuantisedMatrix::MakeFp8(const Tile& tile, int64_t row, uint8_t* out) const {
  const uint8_t* codes = tile.codes.data() + row * cols_;
  for (int64_t b = 0; b < cols_ / kBlock; ++b, codes += kBlock) {
    const float scale = tile.scales[static_cast<size_t>(row * groups_ + b * kBlock / group_)];
    const bool finite =
        std::none_of(codes, codes + kBlock, [](uint8_t code) { return std::isnan(kFp8[code]); });
    if (!finite || !std::isfinite(scale))
      return BadRow(tile.begin + row, "holds a number that is not finite");
    std::memcpy(out, &scale, sizeof(scale));
    std::memcpy(out + sizeof(scale), codes, kBlock);
    out += sizeof(scale) + kBlock;
  }
  return absl::OkStatus();
}

// Row `row` of the tile by its numbers. numbers: [cols] to compute in.
absl::Status HfQuantisedMatrix::MakeFloats(const Tile& tile, int64_t row, float* numbers,
                                           uint8_t* out) const {
  const uint8_t* codes = tile.codes.data() + row * cols_;
  const float* scales = tile.scales.data() + row * groups_;
  const int16_t* zeros = tile.zeros.data() + row * groups_;
  const bool fp8 = scheme_.packing == HfPacking::kFp8;
  const auto too_large = [&] {
    return BadRow(tile.begin + row,
                  fmt::format("holds a number that is not finite or too large for {}",
                              GetDTypeInfo(dtype_).name));
  };
  for (int64_t k = 0; k < cols_; ++k) {
    const int64_t g = group_of_.empty() ? k / group_ : group_of_[static_cast<size_t>(k)];
    numbers[k] = scales[g] * (fp8 ? kFp8[codes[k]] : static_cast<float>(codes[k] - zeros[g]));
    if (!std::isfinite(numbers[k])) return too_large();
  }
  if (dtype_ == DType::kQ8_0) {
    return QuantiseRows({DType::kF32, 1, cols_, numbers}, dtype_, 1, out).ok() ? absl::OkStatus()
                                                                               : too_large();
  }
  for (int64_t k = 0; k < cols_; ++k) {
    if (std::abs(numbers[k]) > kMaxHalf) return too_large();
    PutHalf(numbers[k], out + 2 * k);
  }
  return absl::OkStatus();
}

absl::Status HfQuantisedMatrix::MakeRows(int64_t begin, int64_t end, uint8_t* out) const {
  Tile tile{.begin = begin, .count = end - begin};
  ReadCodes(tile);
  ReadScales(tile);
  ReadZeros(tile);
  const int64_t row_bytes = WeightView{dtype_, 1, cols_}.row_bytes();
  std::vector<float> numbers(keeps_codes_ ? 0 : static_cast<size_t>(cols_));
  for (int64_t r = 0; r < tile.count; ++r, out += row_bytes) {
    RETURN_IF_ERROR(IsFp8(dtype_)  ? MakeFp8(tile, r, out)
                    : keeps_codes_ ? MakeBlocks(tile, r, out)
                                   : MakeFloats(tile, r, numbers.data(), out));
  }
  return absl::OkStatus();
}

void HfQuantisedMatrix::Release(
    const std::function<void(std::span<const uint8_t> bytes)>& release) const {
  for (const HfPart* part : {&parts_.codes, &parts_.scales, &parts_.zeros}) {
    if (part->tensor == nullptr) continue;
    release({part->tensor->data, static_cast<size_t>(part->tensor->num_bytes)});
  }
}

absl::Status HfQuantisedMatrix::BadRow(int64_t row, std::string_view message) const {
  return Bad(parts_.codes, fmt::format("in row {} {}", row, message));
}

}  // namespace sluice
