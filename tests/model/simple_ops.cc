#include "tests/model/simple_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sluice {
namespace {

float FromHalf(const uint8_t* bytes) {
  uint16_t h = 0;
  std::memcpy(&h, bytes, 2);
  const int exponent = (h >> 10) & 31, mantissa = h & 1023;
  const double sign = (h & 0x8000) != 0 ? -1 : 1;
  if (exponent == 0) return static_cast<float>(sign * std::ldexp(mantissa, -24));
  return static_cast<float>(sign * std::ldexp(1024 + mantissa, exponent - 25));
}

float FromBFloat16(const uint8_t* bytes) {
  uint32_t bits = 0;
  std::memcpy(reinterpret_cast<char*>(&bits) + 2, bytes, 2);
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

// 1 sign, 4 exponent and 3 mantissa bits, bias 7.
float FromFp8(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double sign = code >= 128 ? -1 : 1;
  if (exponent == 0) return static_cast<float>(sign * std::ldexp(mantissa, -9));
  return static_cast<float>(sign * std::ldexp(8 + mantissa, exponent - 10));
}

// A block of 32: f16 scale, then (Q4_1) f16 minimum, then nibbles, low halves first.
void DequantizeBlock(DType dtype, const uint8_t* block, float* out) {
  const float d = FromHalf(block);
  if (dtype == DType::kQ8_0) {
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
    return;
  }
  const bool has_min = dtype == DType::kQ4_1;
  const float add = has_min ? FromHalf(block + 2) : -8 * d;
  const uint8_t* nibbles = block + (has_min ? 4 : 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(nibbles[i] & 15) + add;
    out[i + 16] = d * static_cast<float>(nibbles[i] >> 4) + add;
  }
}

}  // namespace

void DequantizeRow(const WeightView& weight, int64_t row, float* out) {
  const auto* bytes = static_cast<const uint8_t*>(weight.data) + row * weight.row_bytes();
  const DTypeInfo info = GetDTypeInfo(weight.dtype);
  for (int64_t i = 0; i < weight.cols; i += info.block_elements, bytes += info.block_bytes) {
    switch (weight.dtype) {
      case DType::kF32:
        std::memcpy(out + i, bytes, 4);
        break;
      case DType::kF16:
        out[i] = FromHalf(bytes);
        break;
      case DType::kBF16:
        out[i] = FromBFloat16(bytes);
        break;
      case DType::kFp8:
      case DType::kFp8A8: {
        float scale = 0;
        std::memcpy(&scale, bytes, 4);
        for (int64_t k = 0; k < 32; ++k) out[i + k] = scale * FromFp8(bytes[4 + k]);
        break;
      }
      default:
        DequantizeBlock(weight.dtype, bytes, out + i);
    }
  }
}

absl::StatusOr<Linear> SimpleOps::LoadLinear(std::span<const WeightView> parts) {
  auto& stored = linears_.emplace_back(parts.begin(), parts.end());
  for (WeightView& part : stored) {
    const auto* bytes = static_cast<const uint8_t*>(part.data);
    part.data = weights_.emplace_back(bytes, bytes + part.rows * part.row_bytes()).data();
  }
  int64_t rows = 0;
  for (const WeightView& part : parts) rows += part.rows;
  return Linear{static_cast<int32_t>(rows), static_cast<int32_t>(parts[0].cols), &stored};
}

absl::StatusOr<Vector> SimpleOps::LoadVector(std::span<const WeightView> parts) {
  std::vector<float>& values = memory_.emplace_back();
  for (const WeightView& part : parts) {
    const size_t begin = values.size();
    values.resize(begin + part.cols);
    DequantizeRow(part, 0, values.data() + begin);
  }
  return Vector{values.data(), static_cast<int32_t>(values.size())};
}

absl::StatusOr<void*> SimpleOps::Allocate(int64_t bytes) {
  return memory_.emplace_back((bytes + 3) / 4).data();
}

int64_t SimpleOps::KvBlockBytes(const KvLayer& kv) const {
  return int64_t{kv.block_tokens} * 2 * kv.num_kv_heads * kv.head_dim * 4;
}

absl::Status SimpleOps::AllocateSlots(int32_t max_rows, int32_t /*vocab_size*/) {
  last_tokens_.assign(max_rows, 0);
  return absl::OkStatus();
}

void SimpleOps::Embed(const Table& from, float scale, Tensor out) {
  const WeightView& table = from.file;
  for (int32_t r = 0; r < batch_.num_rows; ++r) {
    for (int32_t t = batch_.row_begin[r]; t < batch_.row_begin[r + 1]; ++t) {
      const int32_t token =
          batch_.tokens[t] >= 0 ? batch_.tokens[t] : last_tokens_[batch_.slots[r]];
      DequantizeRow(table, token, out.row(t));
      for (int32_t i = 0; i < out.cols; ++i) out.row(t)[i] *= scale;
    }
  }
}

void SimpleOps::RmsNorm(Tensor x, Vector weight, const NormParams& params, Tensor residual,
                        Tensor out) {
  const int32_t group = params.group > 0 ? params.group : x.cols;
  for (int32_t r = 0; r < x.rows; ++r) {
    for (int32_t begin = 0; begin < x.cols; begin += group) {
      double squares = 0;
      for (int32_t i = begin; i < begin + group; ++i) squares += double{x.row(r)[i]} * x.row(r)[i];
      const double scale = 1 / std::sqrt(squares / group + params.eps);
      for (int32_t i = begin; i < begin + group; ++i) {
        const double added = residual.data != nullptr ? residual.row(r)[i] : 0;
        out.row(r)[i] = static_cast<float>(x.row(r)[i] * scale * weight.data[i] + added);
      }
    }
  }
}

void SimpleOps::MatMul(Tensor x, const Linear& w, Tensor residual, Tensor out) {
  std::vector<float> weights(w.cols);
  int32_t n = 0;
  for (const WeightView& part : *static_cast<const std::vector<WeightView>*>(w.impl)) {
    for (int64_t row = 0; row < part.rows; ++row, ++n) {
      DequantizeRow(part, row, weights.data());
      for (int32_t r = 0; r < x.rows; ++r) {
        const float* in = x.row(r);
        double partial[8] = {};  // eight sums let the compiler use vectors
        int32_t k = 0;
        for (; k + 8 <= w.cols; k += 8) {
          for (int32_t j = 0; j < 8; ++j) partial[j] += double{weights[k + j]} * in[k + j];
        }
        double sum = 0;
        for (const double p : partial) sum += p;
        for (; k < w.cols; ++k) sum += double{weights[k]} * in[k];
        if (residual.data != nullptr) sum += residual.row(r)[n];
        out.row(r)[n] = static_cast<float>(sum);
      }
    }
  }
}

void SimpleOps::AddAdapters(Tensor x, const Adapters& adapters, Tensor out) {
  const auto& views = *static_cast<const std::vector<AdapterView>*>(adapters.impl);
  for (int32_t r = 0; r < batch_.num_rows && batch_.adapters != nullptr; ++r) {
    if (batch_.adapters[r] < 0) continue;
    const auto& [rank, scale, a, b] = views[static_cast<size_t>(batch_.adapters[r])];
    std::vector<float> of_a(static_cast<size_t>(adapters.cols)), of_b(static_cast<size_t>(rank));
    for (int32_t t = batch_.row_begin[r]; t < batch_.row_begin[r + 1]; ++t) {
      std::vector<double> shrunk(static_cast<size_t>(rank));
      for (int32_t j = 0; j < rank; ++j) {
        DequantizeRow(a, j, of_a.data());
        for (int32_t k = 0; k < adapters.cols; ++k) shrunk[j] += double{of_a[k]} * x.row(t)[k];
      }
      for (int32_t n = 0; n < (rank > 0 ? adapters.rows : 0); ++n) {
        DequantizeRow(b, n, of_b.data());
        double sum = 0;
        for (int32_t j = 0; j < rank; ++j) sum += of_b[j] * shrunk[j];
        out.row(t)[n] = static_cast<float>(out.row(t)[n] + scale * sum);
      }
    }
  }
}

float* SimpleOps::KvAt(const KvLayer& kv, int32_t row, int32_t position) const {
  const int64_t block = batch_.blocks[batch_.block_begin[row] + position / kv.block_tokens];
  const int64_t slot = block * kv.block_tokens + position % kv.block_tokens;
  return static_cast<float*>(kv.data) + slot * 2 * kv.num_kv_heads * kv.head_dim;
}

void SimpleOps::RopeAndStoreKv(Tensor qkv, int32_t num_q_heads, const RopeParams& rope,
                               const KvLayer& kv) {
  const int32_t head_dim = kv.head_dim, half = rope.rope_dim / 2;
  for (int32_t r = 0; r < batch_.num_rows; ++r) {
    for (int32_t t = batch_.row_begin[r]; t < batch_.row_begin[r + 1]; ++t) {
      const int64_t position = batch_.positions[t];
      for (int32_t h = 0; h < num_q_heads + kv.num_kv_heads; ++h) {
        float* head = qkv.row(t) + h * head_dim;
        for (int32_t i = 0; i < half; ++i) {
          float& a = rope.interleaved ? head[2 * i] : head[i];
          float& b = rope.interleaved ? head[2 * i + 1] : head[i + half];
          const double c = rope.cos[position * half + i], s = rope.sin[position * half + i];
          const double rotated_a = a * c - b * s, rotated_b = a * s + b * c;
          a = static_cast<float>(rotated_a);
          b = static_cast<float>(rotated_b);
        }
      }
      const float* from = qkv.row(t) + num_q_heads * head_dim;
      float* to = KvAt(kv, r, batch_.positions[t]);
      for (int32_t i = 0; i < 2 * kv.num_kv_heads * head_dim; ++i)
        to[i] = kv_halfs_ ? static_cast<float>(static_cast<_Float16>(from[i])) : from[i];
    }
  }
}

void SimpleOps::Attention(Tensor q, int32_t num_q_heads, const AttentionParams& params,
                          const KvLayer& kv, Tensor out) {
  const int32_t head_dim = kv.head_dim;
  std::vector<double> scores;
  for (int32_t r = 0; r < batch_.num_rows; ++r) {
    for (int32_t t = batch_.row_begin[r]; t < batch_.row_begin[r + 1]; ++t) {
      const int32_t context = batch_.positions[t] + 1;
      const int32_t first = params.window > 0 ? std::max(context - params.window, 0) : 0;
      for (int32_t h = 0; h < num_q_heads; ++h) {
        const int32_t kv_head = h / (num_q_heads / kv.num_kv_heads);
        scores.assign(context, 0);
        for (int32_t p = first; p < context; ++p) {
          const float* key = KvAt(kv, r, p) + kv_head * head_dim;
          for (int32_t i = 0; i < head_dim; ++i)
            scores[p] += double{q.row(t)[h * head_dim + i]} * key[i];
          scores[p] *= params.scale;
          if (params.softcap > 0)
            scores[p] = params.softcap * std::tanh(scores[p] / params.softcap);
        }
        const double max = *std::max_element(scores.begin() + first, scores.end());
        double sum = 0;
        for (int32_t p = first; p < context; ++p) sum += scores[p] = std::exp(scores[p] - max);
        std::vector<double> mixed(head_dim);
        for (int32_t p = first; p < context; ++p) {
          const float* value = KvAt(kv, r, p) + (kv.num_kv_heads + kv_head) * head_dim;
          for (int32_t i = 0; i < head_dim; ++i) mixed[i] += scores[p] * value[i];
        }
        for (int32_t i = 0; i < head_dim; ++i)
          out.row(t)[h * head_dim + i] = static_cast<float>(mixed[i] / sum);
      }
    }
  }
}

void SimpleOps::GateMul(Tensor gate_up, Activation activation, Tensor out) {
  for (int32_t r = 0; r < gate_up.rows; ++r) {
    for (int32_t f = 0; f < out.cols; ++f) {
      const double z = gate_up.row(r)[f];
      const double gelu = z / 2 * (1 + std::tanh(0.7978845608028654 * (z + 0.044715 * z * z * z)));
      const double gate = activation == Activation::kSilu ? z / (1 + std::exp(-z)) : gelu;
      out.row(r)[f] = static_cast<float>(gate * gate_up.row(r)[out.cols + f]);
    }
  }
}

void SimpleOps::SoftCap(Tensor x, float cap) {
  for (int32_t r = 0; r < x.rows; ++r) {
    for (int32_t i = 0; i < x.cols; ++i)
      x.row(r)[i] = static_cast<float>(cap * std::tanh(double{x.row(r)[i]} / cap));
  }
}

void SimpleOps::GatherOutputs(Tensor x, Tensor out) {
  for (int32_t i = 0; i < batch_.num_outputs; ++i) {
    std::memcpy(out.row(i), x.row(batch_.row_begin[batch_.output_rows[i] + 1] - 1),
                x.cols * sizeof(float));
  }
}

void SimpleOps::Sample(Tensor logits, std::span<const int32_t> /*num_output_tokens*/,
                       std::span<SampleOut> out) {
  for (int32_t i = 0; i < logits.rows; ++i) {
    const float* row = logits.row(i);
    out[i].token = static_cast<int32_t>(std::max_element(row, row + logits.cols) - row);
    last_tokens_[batch_.slots[batch_.output_rows[i]]] = out[i].token;
  }
}

void SimpleOps::Read(Tensor x, float* out) {
  for (int32_t r = 0; r < x.rows; ++r) std::copy_n(x.row(r), x.cols, out + int64_t{r} * x.cols);
}

}  // namespace sluice
