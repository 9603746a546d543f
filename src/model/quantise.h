// Rounds float weights to a block type: what --quantize does at load and `model convert` on disk.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "kernels/view.h"

namespace sluice {

// "q8_0", "q4_0" or "q4_1"; nullopt for any other text.
[[nodiscard]] std::optional<DType> ParseQuantisedType(std::string_view name);
inline constexpr std::string_view kQuantisedTypes = "q8_0|q4_0|q4_1";

// Rounds weight (F32, F16 or BF16; cols a multiple of 32) to `to` (Q8_0, Q4_0 or Q4_1), row by row
// into out [rows * cols / 32 blocks], rows shared out over at most `threads` threads. The bytes do
// not depend on the number of threads. For each block of 32:
//   Q8_0  d = max|x| / 127, q = x / d to the nearest, halves away from zero;
//   Q4_0  d = -x* / 8 for the x* of largest magnitude (the first of equals), q = floor(x / d + 8.5)
//         cut to [0, 15];
//   Q4_1  d = (max - min) / 15, q = floor((x - min) / d + 0.5) cut to [0, 15];
// where d is rounded to f16 only when it is stored, as the format's own implementation does it.
// Errors: InvalidArgument, naming the row, for a number that is not finite or a scale beyond f16.
absl::Status QuantiseRows(const WeightView& weight, DType to, int threads, uint8_t* out);

}  // namespace sluice
