// Rows in and out of the step: out[t] = table[tokens[t]] dequantised, and out[i] = x[last token of
// output row i].
//
// Values: Q8_0 d * q, Q4_0 d * (q - 8), Q4_1 fma(d, q, m), each rounded to f32 once; F32, F16 and
// BF16 exactly.
// Work: items are tokens, or output rows. Bytes: T * (4 D + the table row's bytes).
// Bound by the cache misses of the table rows.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

constexpr int kBlock = 32;  // elements of a quantised block

SLUICE_INLINE uint16_t LoadU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

SLUICE_INLINE float F16(const uint8_t* p) {
  uint16_t halfs[kLanes] = {LoadU16(p)};
  float values[kLanes];
  Store(values, LoadF16(halfs));
  return values[0];
}

// out[0..32) = fma(d, q - bias, m).
SLUICE_INLINE void ExpandBlock(const int32_t* q, float d, float m, float* out) {
  for (int i = 0; i < kBlock; i += kLanes) {
    Store(out + i, Fma(Broadcast(d), ToFloat(Load(q + i)), Broadcast(m)));
  }
}

void ExpandNibbles(const uint8_t* nibbles, int bias, float d, float m, float* out) {
  int32_t q[kBlock];
  for (int i = 0; i < kBlock / 2; ++i) {
    q[i] = (nibbles[i] & 15) - bias;
    q[i + kBlock / 2] = (nibbles[i] >> 4) - bias;
  }
  ExpandBlock(q, d, m, out);
}

void ExpandBytes(const uint8_t* bytes, float d, float* out) {
  int32_t q[kBlock];
  for (int i = 0; i < kBlock; ++i) q[i] = static_cast<int8_t>(bytes[i]);
  ExpandBlock(q, d, 0, out);
}

void ExpandHalfs(const uint8_t* row, bool bf16, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; i += kLanes) {
    const auto n = static_cast<int>(cols - i < kLanes ? cols - i : kLanes);
    uint16_t bits[kLanes] = {};
    for (int j = 0; j < n; ++j) bits[j] = LoadU16(row + 2 * (i + j));
    StoreFirst(out + i, bf16 ? LoadBf16(bits) : LoadF16(bits), n);
  }
}

void ExpandRow(const WeightView& table, const uint8_t* row, float* out) {
  const int64_t cols = table.cols;
  const int64_t blocks = cols / kBlock;
  switch (table.dtype) {
    case DType::kF32:
      __builtin_memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      return ExpandHalfs(row, false, cols, out);
    case DType::kBF16:
      return ExpandHalfs(row, true, cols, out);
    case DType::kQ8_0:
      for (int64_t b = 0; b < blocks; ++b, row += 34)
        ExpandBytes(row + 2, F16(row), out + b * kBlock);
      return;
    case DType::kQ4_0:
      for (int64_t b = 0; b < blocks; ++b, row += 18) {
        ExpandNibbles(row + 2, 8, F16(row), 0, out + b * kBlock);
      }
      return;
    case DType::kQ4_1:
      for (int64_t b = 0; b < blocks; ++b, row += 20) {
        ExpandNibbles(row + 4, 0, F16(row), F16(row + 2), out + b * kBlock);
      }
      return;
  }
}

}  // namespace

void EmbedTokens(const EmbedArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t t = begin; t < end; ++t) {
    int64_t token = args.batch->tokens[t];
    if (token < 0) token = args.last_tokens[args.batch->slots[args.token_row[t]]];
    const uint8_t* row = static_cast<const uint8_t*>(args.table.data) + token * args.row_bytes;
    ExpandRow(args.table, row, args.out + t * args.out_stride);
  }
}

void GatherRows(const GatherArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t last = args.batch->row_begin[args.batch->output_rows[i] + 1] - 1;
    __builtin_memcpy(args.out + i * args.out_stride, args.x + last * args.x_stride,
                     static_cast<size_t>(args.cols) * sizeof(float));
  }
}

}  // namespace sluice::cpu::SLUICE_ISA
