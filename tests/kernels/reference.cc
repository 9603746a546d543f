#include "tests/kernels/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>

namespace sluice::reference {
namespace {

uint16_t LoadU16(const uint8_t* p) {
  uint16_t value = 0;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

double Half(const uint8_t* p) { return static_cast<double>(HalfToFloat(LoadU16(p))); }

// Bits [first, first + count) of a byte.
int Field(uint8_t byte, int first, int count) { return byte >> first & ((1 << count) - 1); }

// Element i of a super-block of 256; the layouts as in the format's own C structs.
double SuperBlockElement(DType dtype, const uint8_t* p, int i) {
  const int half = i / 128;        // the K types lay out halves of 128 elements,
  const int quarter = i / 32 % 4;  // in four quarters of 32 that share bytes
  const int l = i % 32;
  const int sub = i / 16;
  if (dtype == DType::kQ2K) {  // scales[16], qs[64], d, dmin
    const int q = Field(p[16 + 32 * half + l], 2 * quarter, 2);
    return Half(p + 80) * Field(p[sub], 0, 4) * q - Half(p + 82) * Field(p[sub], 4, 4);
  }
  if (dtype == DType::kQ3K) {  // hmask[32], qs[64], scales[12], d
    const int q = Field(p[32 + 32 * half + l], 2 * quarter, 2) + 4 * Field(p[l], i / 32, 1) - 4;
    const int low = Field(p[96 + sub % 8], sub < 8 ? 0 : 4, 4);
    const int high = Field(p[104 + sub % 4], 2 * (sub / 4), 2);
    return Half(p + 108) * (16 * high + low - 32) * q;
  }
  if (dtype == DType::kQ6K) {  // ql[128], qh[64], scales[16], d
    const int low = Field(p[64 * half + i % 64], i % 128 < 64 ? 0 : 4, 4);
    const int high = Field(p[128 + 32 * half + l], 2 * quarter, 2);
    return Half(p + 208) * static_cast<int8_t>(p[192 + sub]) * (16 * high + low - 32);
  }
  // Q4_K: d, dmin, scales[12], qs[128]; Q5_K: d, dmin, scales[12], qh[32], qs[128].
  const bool five = dtype == DType::kQ5K;
  const int b = i / 32;
  int q = Field(p[(five ? 48 : 16) + i / 64 * 32 + l], b % 2 == 0 ? 0 : 4, 4);
  if (five) q += 16 * Field(p[16 + l], b, 1);
  const uint8_t* s = p + 4;
  const int scale = b < 4 ? Field(s[b], 0, 6) : Field(s[b + 4], 0, 4) + 16 * Field(s[b - 4], 6, 2);
  const int minimum =
      b < 4 ? Field(s[b + 4], 0, 6) : Field(s[b + 4], 4, 4) + 16 * Field(s[b], 6, 2);
  return Half(p) * scale * q - Half(p + 2) * minimum;
}

double Element(const WeightView& weight, int64_t row, int64_t col) {
  const DTypeInfo info = GetDTypeInfo(weight.dtype);
  const uint8_t* block = static_cast<const uint8_t*>(weight.data) + row * weight.row_bytes() +
                         col / info.block_elements * info.block_bytes;
  const auto i = static_cast<int>(col % info.block_elements);
  // A nibble block keeps elements 0..15 in the low halves of its 16 bytes and 16..31 in the high
  // halves.
  const auto nibble = [i](const uint8_t* q) { return (i < 16 ? q[i] : q[i - 16] >> 4) & 15; };
  switch (weight.dtype) {
    case DType::kF32: {
      float value = 0;
      std::memcpy(&value, block, sizeof(value));
      return value;
    }
    case DType::kF16:
      return HalfToFloat(LoadU16(block));
    case DType::kBF16:
      return BFloat16ToFloat(LoadU16(block));
    case DType::kQ8_0:
      return static_cast<double>(HalfToFloat(LoadU16(block))) * static_cast<int8_t>(block[2 + i]);
    case DType::kQ4_0:
      return static_cast<double>(HalfToFloat(LoadU16(block))) * (nibble(block + 2) - 8);
    case DType::kQ4_1:
      return static_cast<double>(HalfToFloat(LoadU16(block))) * nibble(block + 4) +
             static_cast<double>(HalfToFloat(LoadU16(block + 2)));
    case DType::kQ5_0:
      return Half(block) * (nibble(block + 6) + 16 * Field(block[2 + i / 8], i % 8, 1) - 16);
    case DType::kQ5_1:
      return Half(block) * (nibble(block + 8) + 16 * Field(block[4 + i / 8], i % 8, 1)) +
             Half(block + 2);
    case DType::kIq4Nl: {
      constexpr int kValues[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};
      return Half(block) * kValues[nibble(block + 2)];
    }
    case DType::kQ2K:
    case DType::kQ3K:
    case DType::kQ4K:
    case DType::kQ5K:
    case DType::kQ6K:
      return SuperBlockElement(weight.dtype, block, i);
    case DType::kFp8:
    case DType::kFp8A8: {
      float scale = 0;
      std::memcpy(&scale, block, sizeof(scale));
      return scale * E4m3ToDouble(block[4 + i]);
    }
  }
  return 0;
}

enum class Activations { kAsTheyAre, kInt8, kFp8, kMagnitude };

std::vector<double> MatMulOver(const Tensor& x, std::span<const WeightView> parts,
                               const Tensor& residual, Activations activations) {
  const bool magnitude = activations == Activations::kMagnitude;
  int64_t outputs = 0;
  for (const WeightView& part : parts) outputs += part.rows;
  std::vector<double> out(static_cast<size_t>(x.rows * outputs));
  std::vector<std::vector<double>> inputs;
  for (int32_t r = 0; r < x.rows; ++r) {
    const std::span<const float> row(x.row(r), static_cast<size_t>(x.cols));
    inputs.push_back(activations == Activations::kInt8 ? RoundToInt8(row)
                     : activations == Activations::kFp8
                         ? RoundToFp8(row)
                         : std::vector<double>(row.begin(), row.end()));
  }
  int64_t column = 0;
  for (const WeightView& part : parts) {
    const std::vector<double> w = Dequantize(part);
    for (int64_t n = 0; n < part.rows; ++n, ++column) {
      for (int32_t r = 0; r < x.rows; ++r) {
        double sum = residual.data == nullptr ? 0 : residual.row(r)[column];
        if (magnitude) sum = std::abs(sum);
        for (int64_t k = 0; k < part.cols; ++k) {
          const double term = w[static_cast<size_t>(n * part.cols + k)] *
                              inputs[static_cast<size_t>(r)][static_cast<size_t>(k)];
          sum += magnitude ? std::abs(term) : term;
        }
        out[static_cast<size_t>(r * outputs + column)] = sum;
      }
    }
  }
  return out;
}

}  // namespace

float HalfToFloat(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  const float sign = (half & 0x8000) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) {
    return fraction != 0 ? std::numeric_limits<float>::quiet_NaN()
                         : sign * std::numeric_limits<float>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

float BFloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t FloatToHalf(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7E00;
  const double magnitude = std::abs(static_cast<double>(value));
  if (magnitude >= 65520)
    return sign | 0x7C00;  // halfway to the first power of two that does not fit
  if (magnitude == 0) return sign;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int shift = std::max(exponent - 11, -24);  // the unit of the last place is 2^shift
  const auto units =
      static_cast<int>(std::nearbyint(std::ldexp(magnitude, -shift)));  // in [0, 2048]
  // Below 1024 units the number is subnormal; a carry into 2048 units moves to the next exponent by
  // itself.
  return static_cast<uint16_t>(sign | (units + ((shift + 24) << 10)));
}

std::vector<double> Dequantize(const WeightView& weight) {
  std::vector<double> values;
  values.reserve(static_cast<size_t>(weight.rows * weight.cols));
  for (int64_t r = 0; r < weight.rows; ++r) {
    for (int64_t c = 0; c < weight.cols; ++c) values.push_back(Element(weight, r, c));
  }
  return values;
}

std::vector<double> RoundToInt8(std::span<const float> x) {
  std::vector<double> rounded(x.size());
  for (size_t begin = 0; begin + 32 <= x.size(); begin += 32) {
    float amax = 0;
    for (size_t i = 0; i < 32; ++i) amax = std::max(amax, std::abs(x[begin + i]));
    const float scale = amax * (1.0F / 127);
    const float inverse = amax > 0 ? 127 / amax : 0;
    for (size_t i = 0; i < 32; ++i) {
      rounded[begin + i] = static_cast<double>(std::nearbyint(x[begin + i] * inverse)) * scale;
    }
  }
  return rounded;
}

double E4m3ToDouble(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double sign = code < 128 ? 1 : -1;
  if (exponent == 15 && fraction == 7) return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(fraction, -9);
  return sign * std::ldexp(8 + fraction, exponent - 10);
}

std::vector<double> RoundToFp8(std::span<const float> x) {
  float amax = 0;
  for (const float value : x) amax = std::max(amax, std::abs(value));
  const float factor = amax > 0 ? 448 / amax : 1, scale = amax > 0 ? amax / 448 : 1;
  std::vector<double> rounded;
  for (const float value : x) {
    const float scaled = value * factor;
    uint8_t nearest = 0;  // of all numbers; of two as near the one whose last digit is 0
    for (uint8_t code = 1; code < 127; ++code) {
      const double now = std::abs(E4m3ToDouble(code) - std::abs(scaled));
      const double best = std::abs(E4m3ToDouble(nearest) - std::abs(scaled));
      if (now < best || (now == best && code % 2 == 0)) nearest = code;
    }
    rounded.push_back(std::copysign(E4m3ToDouble(nearest), scaled) * scale);
  }
  return rounded;
}

std::vector<double> MatMul(const Tensor& x, std::span<const WeightView> parts,
                           const Tensor& residual) {
  return MatMulOver(x, parts, residual, Activations::kAsTheyAre);
}

std::vector<double> MatMulInt8(const Tensor& x, std::span<const WeightView> parts,
                               const Tensor& residual) {
  return MatMulOver(x, parts, residual, Activations::kInt8);
}

std::vector<double> MatMulFp8(const Tensor& x, std::span<const WeightView> parts,
                              const Tensor& residual) {
  return MatMulOver(x, parts, residual, Activations::kFp8);
}

std::vector<double> MatMulMagnitude(const Tensor& x, std::span<const WeightView> parts,
                                    const Tensor& residual) {
  return MatMulOver(x, parts, residual, Activations::kMagnitude);
}

std::vector<double> RmsNorm(const Tensor& x, std::span<const float> weight,
                            const NormParams& params, const Tensor& residual) {
  const int32_t group = params.group > 0 ? params.group : x.cols;
  std::vector<double> out;
  for (int32_t r = 0; r < x.rows; ++r) {
    for (int32_t begin = 0; begin < x.cols; begin += group) {
      double squares = 0;
      for (int32_t i = begin; i < begin + group; ++i)
        squares += static_cast<double>(x.row(r)[i]) * x.row(r)[i];
      const double factor = 1 / std::sqrt(squares / group + params.eps);
      for (int32_t i = begin; i < begin + group; ++i) {
        const double added = residual.data != nullptr ? residual.row(r)[i] : 0;
        out.push_back(x.row(r)[i] * factor * weight[static_cast<size_t>(i)] + added);
      }
    }
  }
  return out;
}

std::vector<double> GateMul(const Tensor& gate_up, Activation activation) {
  const int32_t ffn_dim = gate_up.cols / 2;
  std::vector<double> out;
  for (int32_t t = 0; t < gate_up.rows; ++t) {
    for (int32_t f = 0; f < ffn_dim; ++f) {
      const double z = gate_up.row(t)[f];
      // 1 + tanh(u) = 2 / (1 + exp(-2u)), without the cancellation.
      const double u = std::sqrt(2 / std::numbers::pi) * (z + 0.044715 * z * z * z);
      const double exponent = activation == Activation::kSilu ? -z : -2 * u;
      out.push_back(z / (1 + std::exp(exponent)) * gate_up.row(t)[ffn_dim + f]);
    }
  }
  return out;
}

double SoftCap(double x, double cap) { return cap * std::tanh(x / cap); }

std::vector<double> Embed(const WeightView& table, std::span<const int32_t> tokens, double scale) {
  std::vector<double> out;
  for (const int32_t token : tokens) {
    for (int64_t c = 0; c < table.cols; ++c) out.push_back(scale * Element(table, token, c));
  }
  return out;
}

std::vector<double> Rope(const Tensor& qkv, std::span<const int32_t> positions, int32_t num_q_heads,
                         int32_t num_kv_heads, int32_t head_dim, const RopeParams& rope) {
  std::vector<double> out;
  const int32_t half = rope.rope_dim / 2;
  for (int32_t t = 0; t < qkv.rows; ++t) {
    const auto begin = static_cast<int64_t>(out.size());
    out.insert(out.end(), qkv.row(t), qkv.row(t) + qkv.cols);
    for (int32_t h = 0; h < num_q_heads + num_kv_heads; ++h) {
      double* head = out.data() + begin + h * head_dim;
      for (int32_t i = 0; i < half; ++i) {
        double& a = head[rope.interleaved ? 2 * i : i];
        double& b = head[rope.interleaved ? 2 * i + 1 : i + half];
        const int64_t at = static_cast<int64_t>(positions[static_cast<size_t>(t)]) * half + i;
        const double c = rope.cos[at];
        const double s = rope.sin[at];
        const double rotated = a * c - b * s;
        b = a * s + b * c;
        a = rotated;
      }
    }
  }
  return out;
}

std::vector<double> Attend(std::span<const float> q, const float* keys, const float* values,
                           int64_t stride, int32_t position, const AttentionParams& params) {
  const int32_t first = params.window > 0 ? std::max(position - params.window + 1, 0) : 0;
  std::vector<double> scores;
  for (int32_t p = first; p <= position; ++p) {
    double dot = 0;
    for (size_t d = 0; d < q.size(); ++d)
      dot += static_cast<double>(q[d]) * keys[p * stride + static_cast<int64_t>(d)];
    dot *= params.scale;
    scores.push_back(params.softcap > 0 ? SoftCap(dot, params.softcap) : dot);
  }
  const double top = *std::ranges::max_element(scores);
  double sum = 0;
  std::vector<double> out(q.size());
  for (int32_t p = first; p <= position; ++p) {
    const double weight = std::exp(scores[static_cast<size_t>(p - first)] - top);
    sum += weight;
    for (size_t d = 0; d < q.size(); ++d)
      out[d] += weight * values[p * stride + static_cast<int64_t>(d)];
  }
  for (double& value : out) value /= sum;
  return out;
}

namespace {

// The nearest of the ascending `values`, which begin with 0; of two, that of the even index.
double Nearest(std::span<const double> values, double magnitude) {
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    const double now = std::abs(values[i] - magnitude), then = std::abs(values[best] - magnitude);
    if (now < then || (now == then && i % 2 == 0)) best = i;
  }
  return values[best];
}

// The magnitudes that a code may have.
std::vector<double> CodeMagnitudes(KvType type) {
  std::vector<double> magnitudes;
  if (type == KvType::kInt8) {
    for (int i = 0; i <= 127; ++i) magnitudes.push_back(i);
    return magnitudes;
  }
  for (int code = 0; code < 0x7f; ++code) {  // e4m3; its last is NaN
    const int exponent = code >> 3, fraction = code & 7;
    magnitudes.push_back(exponent == 0 ? std::ldexp(fraction, -9)
                                       : std::ldexp(8 + fraction, exponent - 10));
  }
  return magnitudes;
}

float NearestHalf(double x) { return HalfToFloat(FloatToHalf(static_cast<float>(x))); }

}  // namespace

std::vector<float> StoredKv(std::span<const float> head, KvType type, KvPart part) {
  const bool scaled = type == KvType::kFp8 || type == KvType::kInt8;
  const float most = scaled ? 65464 : type == KvType::kBf16 ? 65280 : 65504;
  std::vector<float> values;
  double amax = 0;
  bool is_nan = false;
  for (const float x : head) {
    values.push_back(std::isnan(x) ? x : std::clamp(x, -most, most));
    is_nan |= std::isnan(x);
    amax = std::max(amax, std::abs(static_cast<double>(values.back())));
  }
  if (!scaled) {
    for (float& x : values) {
      if (type == KvType::kBf16 && !std::isnan(x)) {
        int exponent = 0;
        const double fraction = std::frexp(static_cast<double>(x), &exponent);
        x = static_cast<float>(std::ldexp(std::nearbyint(fraction * 256), exponent - 8));
      }
      x = NearestHalf(x);
    }
    return values;
  }
  // For fp8 the scale is that of codes 2^-8 times as large.
  const double unit = type == KvType::kFp8 ? 0x1p-8 : 1;
  const std::vector<double> magnitudes = CodeMagnitudes(type);
  uint16_t scale = FloatToHalf(static_cast<float>(amax / (magnitudes.back() * unit)));
  while (HalfToFloat(scale) * magnitudes.back() * unit < amax) ++scale;
  for (float& x : values) {
    const double s = HalfToFloat(scale) * unit;
    const double code = s > 0 ? Nearest(magnitudes, std::abs(static_cast<double>(x)) / s) : 0;
    const double value = std::copysign(code * s, static_cast<double>(x));
    x = is_nan                 ? std::numeric_limits<float>::quiet_NaN()
        : part == KvPart::kKey ? static_cast<float>(value)
                               : NearestHalf(value);
  }
  return values;
}

double StoreError(double x, double amax, KvType type) {
  constexpr double kHalf = 0x1p-11, kLeast = 0x1p-25;  // of f16, relative and absolute
  const double rounded = std::abs(x) * kHalf + kLeast;
  // Scales are rounded up, by as much and by f16's least step.
  switch (type) {
    case KvType::kF16:
      return rounded;
    case KvType::kBf16:
      return std::abs(x) * 0x1p-8 + rounded;
    case KvType::kFp8:
      return std::abs(x) * 0x1p-4 + (amax / 448 * (1 + 2 * kHalf) + 0x1p-32) * 0x1p-10 + rounded;
    case KvType::kInt8:
      return (amax / 127 * (1 + 2 * kHalf) + 0x1p-24) / 2 + rounded;
  }
  return 0;
}

std::vector<Choice> ChooseExperts(std::span<const float> logits, int32_t num_used,
                                  bool renormalise) {
  std::vector<Choice> choices;
  for (size_t e = 0; e < logits.size(); ++e)
    choices.push_back({static_cast<int32_t>(e), std::exp(static_cast<double>(logits[e]))});
  std::ranges::stable_sort(choices, [&](const Choice& a, const Choice& b) {
    return logits[static_cast<size_t>(a.expert)] > logits[static_cast<size_t>(b.expert)];
  });
  double sum = 0;
  const auto used = static_cast<size_t>(num_used);
  for (size_t i = 0; i < (renormalise ? used : choices.size()); ++i) sum += choices[i].weight;
  choices.resize(used);
  for (Choice& choice : choices) choice.weight /= sum;
  return choices;
}

}  // namespace sluice::reference
