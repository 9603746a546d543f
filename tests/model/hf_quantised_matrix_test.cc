// Matrices of sizes that no golden has, against W = s (c - z) in double precision.
#include "model/hf_quantised_matrix.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/model/simple_ops.h"
#include "tests/model/test_quantised.h"

namespace sluice {
namespace {

struct MatrixCase {
  const char* name;
  HfScheme scheme;
  int64_t rows, cols;
  bool scattered;
  DType dtype;
};

// One matrix [N, K]: what it means, and its tensors.
struct Drawn {
  std::vector<int32_t> codes, zeros, index;  // [N, K], [N, G], [K]
  std::vector<float> scales;                 // [N, G]
  TestSafetensors file;
};

// Puts `code` of `bits` as number `place` of the word.
void PutCode(uint32_t& word, int32_t bits, int64_t place, int32_t code) {
  word |= static_cast<uint32_t>(code) << (bits * place);
}

int64_t WordsOf(int64_t count, int32_t bits) { return (count * bits + 31) / 32; }

Drawn Draw(const MatrixCase& c, int64_t groups) {
  std::mt19937 random(7);
  Drawn d;
  const int64_t group = c.scheme.group > 0 ? c.scheme.group : c.cols;
  const int32_t top = (1 << c.scheme.bits) - 1, middle = 1 << (c.scheme.bits - 1);
  for (int64_t k = 0; k < c.cols; ++k) d.index.push_back(static_cast<int32_t>(k / group));
  if (c.scattered) std::shuffle(d.index.begin(), d.index.end(), random);
  for (int64_t i = 0; i < c.rows * c.cols; ++i)
    d.codes.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(top + 1)));
  for (int64_t i = 0; i < c.rows * groups; ++i) {
    d.scales.push_back(static_cast<float>(1 + random() % 1000) / 4096);  // exact in f16
    d.zeros.push_back(c.scheme.symmetric
                          ? middle
                          : 1 + static_cast<int32_t>(random() % static_cast<uint32_t>(top)));
  }
  return d;
}

void AddGptq(const MatrixCase& c, int64_t groups, Drawn& d) {
  const int32_t bits = c.scheme.bits;
  const int64_t in_word = 32 / bits, zero_words = WordsOf(c.rows, bits);
  std::vector<uint32_t> codes(static_cast<size_t>(c.cols / in_word * c.rows));
  std::vector<uint32_t> zeros(static_cast<size_t>(groups * zero_words));
  std::vector<float> scales(static_cast<size_t>(groups * c.rows));
  for (int64_t n = 0; n < c.rows; ++n) {
    for (int64_t k = 0; k < c.cols; ++k) {
      PutCode(codes[static_cast<size_t>(k / in_word * c.rows + n)], bits, k % in_word,
              d.codes[static_cast<size_t>(n * c.cols + k)]);
    }
    for (int64_t g = 0; g < groups; ++g) {
      const auto at = static_cast<size_t>(n * groups + g);
      PutCode(zeros[static_cast<size_t>(g * zero_words + n / in_word)], bits, n % in_word,
              d.zeros[at] - (c.scheme.zero_plus_one ? 1 : 0));
      scales[static_cast<size_t>(g * c.rows + n)] = d.scales[at];
    }
  }
  d.file.tensors = {{"codes", "I32", {c.cols / in_word, c.rows}, BytesOf(codes), {}},
                    {"g_idx", "I32", {c.cols}, BytesOf(d.index), {}},
                    {"scales", "F32", {groups, c.rows}, BytesOf(scales), {}},
                    {"zeros", "I32", {groups, zero_words}, BytesOf(zeros), {}}};
}

void AddRows(const MatrixCase& c, int64_t groups, Drawn& d) {
  const int32_t bits = c.scheme.bits;
  const int64_t in_word = 32 / bits, words = WordsOf(c.cols, bits);
  std::vector<uint32_t> codes(static_cast<size_t>(c.rows * words));
  std::vector<uint32_t> zeros(static_cast<size_t>(WordsOf(c.rows, bits) * groups));
  for (int64_t n = 0; n < c.rows; ++n) {
    for (int64_t k = 0; k < c.cols; ++k) {
      PutCode(codes[static_cast<size_t>(n * words + k / in_word)], bits, k % in_word,
              d.codes[static_cast<size_t>(n * c.cols + k)]);
    }
    for (int64_t g = 0; g < groups; ++g) {
      PutCode(zeros[static_cast<size_t>(n / in_word * groups + g)], bits, n % in_word,
              d.zeros[static_cast<size_t>(n * groups + g)]);
    }
  }
  d.file.tensors = {{"codes", "I32", {c.rows, words}, BytesOf(codes), {}},
                    {"g_idx", "I32", {c.cols}, BytesOf(d.index), {}},
                    {"scales", "F32", {c.rows, groups}, BytesOf(d.scales), {}},
                    {"shape", "I64", {2}, BytesOf(std::vector<int64_t>{c.rows, c.cols}), {}},
                    {"zeros", "I32", {WordsOf(c.rows, bits), groups}, BytesOf(zeros), {}}};
  if (c.scheme.symmetric) d.file.tensors.pop_back();
}

class HfQuantisedMatrices : public ::testing::TestWithParam<MatrixCase> {};

TEST_P(HfQuantisedMatrices, AreTheNumbersOfTheFormulaWithinTheBoundOfTheirType) {
  const MatrixCase& c = GetParam();
  const int64_t group = c.scheme.group > 0 ? c.scheme.group : c.cols;
  const int64_t groups = (c.cols + group - 1) / group;
  Drawn d = Draw(c, groups);
  c.scheme.packing == HfPacking::kGptq ? AddGptq(c, groups, d) : AddRows(c, groups, d);
  const std::vector<uint8_t> bytes = d.file.Build();
  const auto file = SafetensorsFile::Parse(bytes, "f.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  HfQuantisedParts parts;
  for (const SafetensorsTensor& tensor : file->tensors()) {
    HfPart& part = tensor.name == "codes"    ? parts.codes
                   : tensor.name == "scales" ? parts.scales
                   : tensor.name == "zeros"  ? parts.zeros
                   : tensor.name == "shape"  ? parts.shape
                                             : parts.group_index;
    part = {&*file, &tensor};
  }
  const auto matrix = HfQuantisedMatrix::Create(parts, {c.scheme});
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  ASSERT_EQ((*matrix)->rows(), c.rows);
  ASSERT_EQ((*matrix)->cols(), c.cols);
  ASSERT_EQ((*matrix)->dtype(), c.dtype) << GetDTypeInfo((*matrix)->dtype()).name;
  WeightView view{c.dtype, c.rows, c.cols, nullptr, matrix->get()};
  std::vector<uint8_t> made(static_cast<size_t>(c.rows * view.row_bytes()));
  ASSERT_TRUE(MakeRows(view, 0, c.rows, 3, made.data()).ok());
  view = {c.dtype, c.rows, c.cols, made.data()};
  std::vector<float> row(static_cast<size_t>(c.cols));
  for (int64_t n = 0; n < c.rows; ++n) {
    DequantizeRow(view, n, row.data());
    std::vector<double> wanted;
    for (int64_t k = 0; k < c.cols; ++k) {
      const auto at = static_cast<size_t>(n * groups + d.index[static_cast<size_t>(k)]);
      wanted.push_back(double{d.scales[at]} *
                       (d.codes[static_cast<size_t>(n * c.cols + k)] - d.zeros[at]));
    }
    for (int64_t k = 0; k < c.cols; ++k) {
      const auto i = static_cast<size_t>(k);
      const double scale = d.scales[static_cast<size_t>(n * groups + d.index[i])];
      double largest = 0;
      for (int64_t j = k / 32 * 32; j < std::min(k / 32 * 32 + 32, c.cols); ++j) {
        largest = std::max(largest, std::abs(wanted[static_cast<size_t>(j)]));
      }
      const bool rounds = c.dtype == DType::kQ8_0 && c.scheme.bits == 4;
      const double bound = c.dtype == DType::kF16    ? std::abs(wanted[i]) * 0x1p-11 + 0x1p-25
                           : c.dtype == DType::kQ4_1 ? scale * 16 * 0x1p-11
                           : rounds                  ? largest * (1 / 254.0 + 0x1p-11)
                                                     : 0;
      ASSERT_NEAR(row[i], wanted[i], bound) << n << ", " << k;
    }
  }
}

constexpr HfScheme Scheme(HfPacking packing, int32_t bits, int64_t group, bool symmetric,
                          bool plus_one = false) {
  return {packing, bits, group, 1, symmetric, plus_one};
}
constexpr HfPacking kG = HfPacking::kGptq, kR = HfPacking::kRows;

INSTANTIATE_TEST_SUITE_P(
    Sizes, HfQuantisedMatrices,
    ::testing::Values(
        MatrixCase{"ManyRows", Scheme(kG, 4, 128, true), 300, 256, false, DType::kQ4_0},
        MatrixCase{"OddRows", Scheme(kR, 4, 32, false), 133, 96, false, DType::kQ4_1},
        MatrixCase{"LastGroupShort", Scheme(kR, 4, 64, false), 20, 96, false, DType::kQ4_1},
        MatrixCase{"LastGroupShortGptq", Scheme(kG, 4, 64, true, true), 20, 96, false,
                   DType::kQ4_0},
        MatrixCase{"GroupsOfHalfABlock", Scheme(kG, 4, 16, true), 24, 64, false, DType::kQ8_0},
        MatrixCase{"NoWholeBlocks", Scheme(kR, 4, 16, false), 9, 48, false, DType::kF16},
        MatrixCase{"HalfAWord", Scheme(kR, 4, 0, true), 9, 36, false, DType::kF16},
        MatrixCase{"ActOrderWithZeros", Scheme(kG, 4, 32, false, true), 40, 128, true,
                   DType::kQ8_0},
        MatrixCase{"EightBits", Scheme(kR, 8, 64, true), 37, 128, false, DType::kQ8_0},
        MatrixCase{"EightBitsWithZeros", Scheme(kG, 8, 32, false, true), 36, 64, false,
                   DType::kF16},
        MatrixCase{"EightBitsActOrder", Scheme(kG, 8, 32, true, true), 36, 64, true, DType::kF16}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice
