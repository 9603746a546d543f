// What of a quantised matrix can be wrong, found before any of its rows is made.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "base/status_macros.h"
#include "model/hf_quantised_matrix.h"

namespace sluice {
namespace {

int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool HasShape(const SafetensorsTensor& tensor, int64_t rows, int64_t cols) {
  return tensor.num_dims == 2 && tensor.dims[0] == rows && tensor.dims[1] == cols;
}

SafetensorsType CodeType(HfPacking packing) {
  if (packing == HfPacking::kFp8) return SafetensorsType::kF8E4M3;
  return packing == HfPacking::kInt8 ? SafetensorsType::kI8 : SafetensorsType::kI32;
}

int64_t IntAt(const SafetensorsTensor& tensor, int64_t index) {
  if (tensor.type == SafetensorsType::kI64) {
    int64_t value = 0;
    std::memcpy(&value, tensor.data + 8 * index, sizeof(value));
    return value;
  }
  int32_t value = 0;
  std::memcpy(&value, tensor.data + 4 * index, sizeof(value));
  return value;
}

bool IsInt(const SafetensorsTensor& tensor) {
  return tensor.type == SafetensorsType::kI32 || tensor.type == SafetensorsType::kI64;
}

}  // namespace

absl::Status HfQuantisedMatrix::Bad(const HfPart& part, std::string_view message) const {
  return absl::InvalidArgumentError(fmt::format("{}: tensor '{}' {}", part.file->name(),
                                                QuoteForMessage(part.tensor->name), message));
}

absl::Status HfQuantisedMatrix::WrongShape(const HfPart& part, std::string_view wanted) const {
  return Bad(part, fmt::format("has shape {}; a quantised weight of shape [{}, {}] asks for {}",
                               part.tensor->ShapeString(), rows_, cols_, wanted));
}

absl::StatusOr<std::unique_ptr<HfQuantisedMatrix>> HfQuantisedMatrix::Create(
    const HfQuantisedParts& parts, const std::vector<HfScheme>& schemes, bool keep_fp8) {
  absl::Status status = absl::InvalidArgumentError(
      fmt::format("{}: tensor '{}' is quantised; the configuration names no way",
                  parts.codes.file->name(), QuoteForMessage(parts.codes.tensor->name)));
  for (const HfScheme& scheme : schemes) {
    auto matrix = std::unique_ptr<HfQuantisedMatrix>(new HfQuantisedMatrix(parts, scheme));
    status = matrix->CheckCodes();
    if (status.ok()) status = matrix->CheckScales();
    if (status.ok()) status = matrix->CheckZeros();
    if (!status.ok()) continue;
    RETURN_IF_ERROR(matrix->CheckGroupIndex());
    matrix->ChooseType(keep_fp8);
    return matrix;
  }
  return status;
}

absl::Status HfQuantisedMatrix::CheckCodes() {
  const SafetensorsTensor& codes = *parts_.codes.tensor;
  const SafetensorsType wanted = CodeType(scheme_.packing);
  if (codes.type != wanted) {
    return Bad(parts_.codes,
               fmt::format("has type {}; the quantisation asks for {}",
                           SafetensorsTypeName(codes.type), SafetensorsTypeName(wanted)));
  }
  if (codes.num_dims != 2 || codes.num_bytes == 0) {
    return Bad(parts_.codes, fmt::format("has shape {}; a matrix is needed", codes.ShapeString()));
  }
  const int64_t in_word = 32 / scheme_.bits;
  rows_ = codes.dims[0];
  cols_ = codes.dims[1];
  if (scheme_.packing == HfPacking::kAwq) {
    rows_ = codes.dims[1] * in_word;
    cols_ = codes.dims[0];
  } else if (scheme_.packing == HfPacking::kGptq) {
    rows_ = codes.dims[1];
    cols_ = codes.dims[0] * in_word;
  } else if (scheme_.packing == HfPacking::kRows) {
    RETURN_IF_ERROR(CheckRowCodes());
  }
  group_ = scheme_.group > 0 ? scheme_.group : cols_;
  groups_ = Ceil(cols_, group_);
  block_rows_ = scheme_.block_rows > 0 ? scheme_.block_rows : rows_;
  return absl::OkStatus();
}

// The shape stands in a tensor of its own: the last word of a row may have unused bits.
absl::Status HfQuantisedMatrix::CheckRowCodes() {
  const SafetensorsTensor* shape = parts_.shape.tensor;
  if (shape == nullptr) return Bad(parts_.codes, "has no 'weight_shape' beside it");
  if (!IsInt(*shape) || shape->num_dims != 1 || shape->dims[0] != 2) {
    return Bad(parts_.shape, fmt::format("is {} of shape {}; two integers are needed",
                                         SafetensorsTypeName(shape->type), shape->ShapeString()));
  }
  const int64_t rows = IntAt(*shape, 0), cols = IntAt(*shape, 1);
  const int64_t in_word = 32 / scheme_.bits, words = parts_.codes.tensor->dims[1];
  if (rows != rows_ || cols <= (words - 1) * in_word || cols > words * in_word) {
    return Bad(parts_.shape,
               fmt::format("says [{}, {}]; codes of shape {} at {} bits do not fit that", rows,
                           cols, parts_.codes.tensor->ShapeString(), scheme_.bits));
  }
  cols_ = cols;
  return absl::OkStatus();
}

absl::Status HfQuantisedMatrix::CheckScales() {
  const SafetensorsTensor* scales = parts_.scales.tensor;
  if (scales == nullptr) return Bad(parts_.codes, "is quantised and has no scales beside it");
  if (scales->type != SafetensorsType::kF32 && scales->type != SafetensorsType::kF16 &&
      scales->type != SafetensorsType::kBF16) {
    return Bad(parts_.scales, fmt::format("has type {}; supported types are F32, F16, BF16",
                                          SafetensorsTypeName(scales->type)));
  }
  if (scheme_.packing == HfPacking::kAwq || scheme_.packing == HfPacking::kGptq) {
    if (HasShape(*scales, groups_, rows_)) return absl::OkStatus();
    return WrongShape(parts_.scales, fmt::format("[{}, {}]", groups_, rows_));
  }
  const int64_t scale_rows = Ceil(rows_, block_rows_);
  // One column may be left out of the shape, and one number may have none.
  const bool flat = scales->num_dims < 2 && (scale_rows == 1 || groups_ == 1) &&
                    scales->num_elements() == scale_rows * groups_;
  if (flat || HasShape(*scales, scale_rows, groups_)) return absl::OkStatus();
  return WrongShape(parts_.scales, fmt::format("[{}, {}]", scale_rows, groups_));
}

absl::Status HfQuantisedMatrix::CheckZeros() {
  const SafetensorsTensor* zeros = parts_.zeros.tensor;
  const bool by_column = scheme_.packing == HfPacking::kAwq || scheme_.packing == HfPacking::kGptq;
  if (zeros == nullptr) {
    if (scheme_.symmetric) return absl::OkStatus();
    return Bad(parts_.codes, "is quantised with zero points and has none beside it");
  }
  if (scheme_.symmetric && !by_column) {
    // Some writers keep them.
    if (std::all_of(zeros->data, zeros->data + zeros->num_bytes,
                    [](uint8_t b) { return b == 0; })) {
      parts_.zeros = {};
      return absl::OkStatus();
    }
    return Bad(parts_.zeros, "holds zero points though the quantisation is symmetric");
  }
  const int64_t words = Ceil(rows_, 32 / scheme_.bits);
  if (by_column || (scheme_.packing == HfPacking::kRows && zeros->type != SafetensorsType::kI8)) {
    if (zeros->type != SafetensorsType::kI32) {
      return Bad(parts_.zeros,
                 fmt::format("has type {}; I32 is needed", SafetensorsTypeName(zeros->type)));
    }
    if (by_column ? HasShape(*zeros, groups_, words) : HasShape(*zeros, words, groups_)) {
      return absl::OkStatus();
    }
    return WrongShape(parts_.zeros, by_column ? fmt::format("[{}, {}]", groups_, words)
                                              : fmt::format("[{}, {}]", words, groups_));
  }
  if (zeros->type != SafetensorsType::kI8) {
    return Bad(parts_.zeros,
               fmt::format("has type {}; I8 is needed", SafetensorsTypeName(zeros->type)));
  }
  const int64_t count = Ceil(rows_, block_rows_) * groups_;
  if (zeros->num_elements() == count) return absl::OkStatus();
  return WrongShape(parts_.zeros, fmt::format("{} zero points", count));
}

// Which group a column is of. It says the obvious in most files.
absl::Status HfQuantisedMatrix::CheckGroupIndex() {
  const SafetensorsTensor* index = parts_.group_index.tensor;
  if (index == nullptr) return absl::OkStatus();
  if (!IsInt(*index) || index->num_dims != 1 || index->dims[0] != cols_) {
    return WrongShape(parts_.group_index, fmt::format("{} integers", cols_));
  }
  bool in_order = true, unset = false;
  for (int64_t k = 0; k < cols_; ++k) {
    const int64_t group = IntAt(*index, k);
    unset |= group == -1 && scheme_.packing == HfPacking::kRows;
    if ((group < 0 || group >= groups_) && !unset) {
      return Bad(parts_.group_index,
                 fmt::format("has group {} for column {}; there are {} groups", group, k, groups_));
    }
    in_order &= group == k / group_;
  }
  // compressed-tensors takes an index with a -1 for one that was never filled.
  if (in_order || unset) return absl::OkStatus();
  group_of_.resize(static_cast<size_t>(cols_));
  for (int64_t k = 0; k < cols_; ++k) {
    group_of_[static_cast<size_t>(k)] = static_cast<int32_t>(IntAt(*index, k));
  }
  return absl::OkStatus();
}

void HfQuantisedMatrix::ChooseType(bool keep_fp8) {
  const bool whole_blocks =
      cols_ % 32 == 0 && group_of_.empty() && (group_ == cols_ || group_ % 32 == 0);
  if (scheme_.packing == HfPacking::kFp8) {
    // Scales of single rows are whole rows'.
    const bool has_scales = group_ == cols_ || block_rows_ % 8 == 0 || block_rows_ == rows_;
    keeps_codes_ = keep_fp8 && whole_blocks && has_scales;
    const DType kept = scheme_.fp8_inputs ? DType::kFp8A8 : DType::kFp8;
    dtype_ = keeps_codes_ ? kept : DType::kF16;
  } else if (whole_blocks && (scheme_.bits == 4 || scheme_.symmetric)) {
    keeps_codes_ = true;
    dtype_ = scheme_.bits == 8 ? DType::kQ8_0 : scheme_.symmetric ? DType::kQ4_0 : DType::kQ4_1;
  } else {
    dtype_ = scheme_.bits == 4 && cols_ % 32 == 0 ? DType::kQ8_0 : DType::kF16;
  }
}

}  // namespace sluice
