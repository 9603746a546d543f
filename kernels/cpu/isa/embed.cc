// Rows in and out of the step: out[t] = table[tokens[t]] dequantised, and out[i] = x[last token of
// output row i].
//
// Values: F32, F16 and BF16 exactly; quantised ones fma(d * scale, q, m * minimum), see
// file_blocks.h: the products are exact, so each value is rounded to f32 once.
// Work: items are tokens, or output rows. Bytes: T * (4 D + the table row's bytes).
// Bound by the cache misses of the table rows.
#include "kernels/cpu/isa/entries.h"
#include "kernels/cpu/isa/vec.h"
#include "kernels/file_blocks.h"

namespace sluice::cpu::SLUICE_ISA {
namespace {

SLUICE_INLINE uint16_t LoadU16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

SLUICE_INLINE float F16(const uint8_t* p) {
  uint16_t halfs[kLanes] = {LoadU16(p)};
  float values[kLanes];
  Store(values, LoadF16(halfs));
  return values[0];
}

// One block of a quantised row.
void ExpandBlock(DType dtype, const BlockFormat& format, const uint8_t* in, float* out) {
  FileBlock block;
  ReadFileBlock(dtype, in, block);
  const float d = F16(in + format.d_at);
  const float m = format.m_at < 0 ? 0 : F16(in + format.m_at);
  for (int i = 0; i < format.elements; i += kLanes) {
    int32_t q[kLanes];
    for (int j = 0; j < kLanes; ++j) {
      const uint8_t code = block.code[i + j];
      q[j] = dtype == DType::kIq4Nl ? kIq4Values[code] : code - format.offset;
    }
    const F32x16 scale = Broadcast(d * static_cast<float>(block.scale[i / kLanes]));
    const F32x16 minimum = Broadcast(m * static_cast<float>(block.minimum[i / kLanes]));
    Store(out + i, Fma(scale, ToFloat(Load(q)), minimum));
  }
}

void ExpandHalfs(const uint8_t* row, bool bf16, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; i += kLanes) {
    const auto n = static_cast<int>(cols - i < kLanes ? cols - i : kLanes);
    uint16_t bits[kLanes] = {};
    for (int j = 0; j < n; ++j) bits[j] = LoadU16(row + 2 * (i + j));
    StoreFirst(out + i, bf16 ? LoadBf16(bits) : LoadF16(bits), n);
  }
}

void ExpandRow(const WeightView& table, int64_t row_bytes, const uint8_t* row, float* out) {
  const int64_t cols = table.cols;
  switch (table.dtype) {
    case DType::kF32:
      __builtin_memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      return ExpandHalfs(row, false, cols, out);
    case DType::kBF16:
      return ExpandHalfs(row, true, cols, out);
    default:
      break;
  }
  const BlockFormat format = BlockFormatOf(table.dtype);
  const int64_t blocks = cols / format.elements;
  for (int64_t b = 0; b < blocks; ++b)
    ExpandBlock(table.dtype, format, row + b * (row_bytes / blocks), out + b * format.elements);
}

}  // namespace

void EmbedTokens(const EmbedArgs& args, int64_t begin, int64_t end, const Worker& /*worker*/) {
  for (int64_t t = begin; t < end; ++t) {
    int64_t token = args.batch->tokens[t];
    if (token < 0) token = args.last_tokens[args.batch->slots[args.token_row[t]]];
    const uint8_t* row = static_cast<const uint8_t*>(args.table.data) + token * args.row_bytes;
    float* out = args.out + t * args.out_stride;
    ExpandRow(args.table, args.row_bytes, row, out);
    if (args.scale == 1.0F) continue;
    for (int64_t i = 0; i < args.table.cols; ++i) out[i] *= args.scale;
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
