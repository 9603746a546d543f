// A double-precision twin of every op of kernels/ops.h: plain loops over plain arrays, no layouts,
// no vectors, no threads. The oracle of the op tests, whatever the backend.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/ops.h"
#include "kernels/view.h"

namespace sluice::reference {

// The value of an IEEE half or a bfloat16, exactly; and the nearest half of a float (ties to even,
// overflow to infinity).
float HalfToFloat(uint16_t half);
float BFloat16ToFloat(uint16_t bits);
uint16_t FloatToHalf(float value);

// The value of an e4m3 number, exactly; 0x7f and 0xff are NaN.
double E4m3ToDouble(uint8_t code);

// The weights as the file format defines them, exact. [rows * cols]
std::vector<double> Dequantize(const WeightView& weight);

// One row of activations as the quantised linear ops see them: for each 32 values one f32 scale
// amax/127 and int8 values rounded to nearest even. `x` holds a multiple of 32 values.
std::vector<double> RoundToInt8(std::span<const float> x);

// One row as products of e4m3 see it: one f32 scale amax/448, numbers to the nearest e4m3, ties to
// even.
std::vector<double> RoundToFp8(std::span<const float> x);

// out[r,n] = sum_k W[n,k] x[r,k] (+ residual[r,n] if residual.data): [rows, N] with the parts'
// outputs one after the other. The activations are taken as they are.
std::vector<double> MatMul(const Tensor& x, std::span<const WeightView> parts,
                           const Tensor& residual = {});
// The same over activations rounded by RoundToInt8: differs from the op on quantised weights by f32
// rounding only.
std::vector<double> MatMulInt8(const Tensor& x, std::span<const WeightView> parts,
                               const Tensor& residual = {});
// The same over activations rounded by RoundToFp8.
std::vector<double> MatMulFp8(const Tensor& x, std::span<const WeightView> parts,
                              const Tensor& residual = {});
// sum_k |W[n,k] x[r,k]| (+ |residual|): what the rounding error of an f32 dot product is
// proportional to.
std::vector<double> MatMulMagnitude(const Tensor& x, std::span<const WeightView> parts,
                                    const Tensor& residual = {});

// [rows, cols]
std::vector<double> RmsNorm(const Tensor& x, std::span<const float> weight,
                            const NormParams& params, const Tensor& residual = {});
// [T, F] from [T, 2F]
std::vector<double> GateMul(const Tensor& gate_up, Activation activation);
double SoftCap(double x, double cap);
// [T, D]
std::vector<double> Embed(const WeightView& table, std::span<const int32_t> tokens,
                          double scale = 1);
// qkv with its q and k heads rotated. [T, (Hq + 2 Hkv) * H]
std::vector<double> Rope(const Tensor& qkv, std::span<const int32_t> positions, int32_t num_q_heads,
                         int32_t num_kv_heads, int32_t head_dim, const RopeParams& rope);
// Softmax attention of one query vector at `position` over the positions it sees. keys, values: [>
// position][stride], the head at offset 0. Returns [head_dim].
std::vector<double> Attend(std::span<const float> q, const float* keys, const float* values,
                           int64_t stride, int32_t position, const AttentionParams& params);

// What a KV cache of that type gives for one head's keys or values at one position. fp8 and int8:
// code times the least f16 that is amax / 448 (with 8 more bits to its exponent) or amax / 127 and
// no less; a value is rounded to f16 then, a key is not. All is NaN where anything is.
enum class KvPart { kKey, kValue };
std::vector<float> StoredKv(std::span<const float> head, KvType type, KvPart part);
// No element differs from what was stored by more.
double StoreError(double x, double amax, KvType type);

// reference_encoder.cc
// [rows, cols]; `residual` may be without data.
std::vector<double> LayerNorm(const Tensor& x, const Tensor& residual,
                              std::span<const float> weight, std::span<const float> bias,
                              double eps);
double Gelu(double x);
// One vector of the rows of x: [cols]
std::vector<double> Pool(const Tensor& x, Pooling pooling);

// The experts that one row of logits chooses, best first, with their weights.
struct Choice {
  int32_t expert = 0;
  double weight = 0;
};
std::vector<Choice> ChooseExperts(std::span<const float> logits, int32_t num_used,
                                  bool renormalise);

// The raw log-softmax of a row of logits; NaN counts as -infinity.
std::vector<double> LogSoftmax(std::span<const float> logits);

// What one row samples from: candidates in (logit descending, id ascending) order with their
// probabilities after bias, penalties, min_tokens, temperature, top_k, top_p and min_p. Temperature
// 0 gives the one argmax candidate.
struct Candidate {
  int32_t token = 0;
  double probability = 0;
};
std::vector<Candidate> Candidates(std::span<const float> logits, const SlotView& slot,
                                  int32_t num_output_tokens);
// The candidate at which the cumulative probability first exceeds `draw`.
int32_t InverseCdf(std::span<const Candidate> candidates, double draw);

}  // namespace sluice::reference
