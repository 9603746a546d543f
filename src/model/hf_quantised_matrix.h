// One quantised matrix of a Hugging Face folder as blocks that the backends know.
//
// W[n, k] = s * (c - z) with a code c of 4 or 8 bits, or s * c with an fp8 number c. What it
// becomes:
//
//   4 bits, symmetric, groups of whole blocks   Q4_0: d = s, the code's middle is 8
//   4 bits with zero points, the same           Q4_1: d = s, m = -s z
//   8 bits, symmetric, groups of whole blocks   Q8_0: d = s
//   4 bits, columns of a block in other groups  Q8_0 of the numbers
//   8 bits, any other; fp8                      F16 of the numbers
//   fp8, for a backend that keeps it            FP8: codes and scales as they are, where scales are
//                                               of 32 columns and 8 rows at least
//
// The first three keep every code; d and m are f16. An s that is an f16 number stays as it is, and
// so does every bf16 number from 2^-14 to 65504; others are rounded by up to 2^-11 of their value,
// or 2^-25. The error of a weight is then at most 8 * 2^-11 s in Q4_0, 31 * 2^-11 s in Q4_1 (15 of
// d, 16 of m) and 128 * 2^-11 s in Q8_0.
//
// Act-order gives the columns of a block other scales. For 4 bits Q8_0 errs by at most (1/254 +
// 2^-11) max|w| of the block, 0.036 of the largest s (0.072 with zero points), where BF16 errs by
// 2^-8 |w|, about the same, in twice the memory. Codes of 8 bits fill the range of Q8_0 themselves,
// and rounding them again would double what their maker lost: F16 errs by 2^-11 |w|, an eighth of
// s.
//
// fp8 has 4 significant bits and lost up to 2^-4 |w|. F16 adds 2^-11 |w|, or 2^-25 where |w| is
// below 2^-14; BF16, as large and as fast, adds 2^-8 |w|: over the goldens of the test the logits
// were off by 1.6 % of their deviation with BF16 and 0.2 % with F16. A weight beyond 65504 is
// refused. --quantize q8_0 halves the memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/hf_quantisation.h"
#include "model/safetensors.h"
#include "model/tensor_table.h"
#include "model/weight_source.h"

namespace sluice {

// A tensor and the file that holds it; null: not there. Both outlive whoever has the part.
struct HfPart {
  const SafetensorsFile* file = nullptr;
  const SafetensorsTensor* tensor = nullptr;
};

// What the tensors of one linear layer are for, by the ends of their names.
struct HfQuantisedParts {
  HfPart codes, scales, zeros, shape, group_index;
};

class HfQuantisedMatrix final : public WeightSource {
 public:
  // Takes the first of the schemes that the parts' types and shapes follow; keep_fp8: as FP8 where
  // that type has its scales. Errors: InvalidArgument
  // for parts that follow none, and for a group index out of range.
  static absl::StatusOr<std::unique_ptr<HfQuantisedMatrix>> Create(
      const HfQuantisedParts& parts, const std::vector<HfScheme>& schemes, bool keep_fp8 = false);

  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] int64_t rows() const { return rows_; }
  [[nodiscard]] int64_t cols() const { return cols_; }
  [[nodiscard]] const uint8_t* data() const { return parts_.codes.tensor->data; }

  absl::Status MakeRows(int64_t begin, int64_t end, uint8_t* out) const override;
  void Release(const std::function<void(std::span<const uint8_t> bytes)>& release) const override;

 private:
  // Rows [begin, begin + count) as codes, and what their groups share.
  struct Tile {
    int64_t begin = 0, count = 0;
    std::vector<uint8_t> codes;  // [count][cols]; signed ones have 128 added
    std::vector<float> scales;   // [count][groups]
    std::vector<int16_t> zeros;  // [count][groups]
  };

  HfQuantisedMatrix(const HfQuantisedParts& parts, const HfScheme& scheme)
      : parts_(parts), scheme_(scheme) {}

  absl::Status CheckCodes();
  absl::Status CheckRowCodes();
  absl::Status CheckScales();
  absl::Status CheckZeros();
  absl::Status CheckGroupIndex();
  void ChooseType(bool keep_fp8);

  void ReadCodes(Tile& tile) const;
  void ReadScales(Tile& tile) const;
  void ReadZeros(Tile& tile) const;
  [[nodiscard]] int32_t ZeroAt(int64_t row, int64_t group) const;
  [[nodiscard]] absl::Status MakeBlocks(const Tile& tile, int64_t row, uint8_t* out) const;
  [[nodiscard]] absl::Status MakeFloats(const Tile& tile, int64_t row, float* numbers,
                                        uint8_t* out) const;
  [[nodiscard]] absl::Status MakeFp8(const Tile& tile, int64_t row, uint8_t* out) const;
  [[nodiscard]] int32_t middle() const { return 1 << (scheme_.bits - 1); }
  [[nodiscard]] absl::Status Bad(const HfPart& part, std::string_view message) const;
  [[nodiscard]] absl::Status BadRow(int64_t row, std::string_view message) const;
  [[nodiscard]] absl::Status WrongShape(const HfPart& part, std::string_view wanted) const;

  HfQuantisedParts parts_;
  const HfScheme scheme_;
  int64_t rows_ = 0, cols_ = 0, groups_ = 0;
  int64_t block_rows_ = 1, group_ = 0;  // of scheme_, with "all" as a number
  std::vector<int32_t> group_of_;       // [cols] where columns of a group lie apart, else empty
  DType dtype_ = DType::kF16;
  bool keeps_codes_ = false;  // as the codes of dtype_'s blocks
};

}  // namespace sluice
