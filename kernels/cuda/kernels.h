// What the host asks of each kernel file: plain arguments and one function a kernel, which puts the
// work on a stream and returns what the launch returned. All pointers are to device memory.
//
// Row counts that differ from step to step (T, R, output rows) are arguments of a launch; a
// captured launch keeps them, so a graph stands for one shape of step.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/view.h"

namespace sluice::cuda {

// Activations as matrix products read them: f16 [rows][columns], each row divided by a power of two
// of its own so that its largest element is near 2^13. columns is K rounded up to 64; what is past
// K is zero. Within every 32 columns element 8j + 2t + e is at 8t + 2j + e: the order in which a
// lane of a matrix instruction needs them.
struct Halves {
  uint16_t* data = nullptr;
  float* scale = nullptr;  // [rows] element = stored * scale
  int32_t columns = 0;
};
inline constexpr int32_t kHalvesTile = 64;
[[nodiscard]] constexpr int32_t HalvesColumns(int32_t k) {
  return (k + kHalvesTile - 1) / kHalvesTile * kHalvesTile;
}

// The same rows as e4m3, in the same order: element = stored * scale with scale = max|row| / 448,
// which the row's largest element is then near.
struct Fp8Rows {
  uint8_t* data = nullptr;
  float* scale = nullptr;  // [rows]
  int32_t columns = 0;
};

// The step's plan in device memory. Launches of a graph are made for more tokens and rows than a
// step may have; what a kernel would write beyond its rows' own memory it must not write for those.
struct DeviceBatch {
  const int32_t* counts = nullptr;       // T, R, num_outputs; null: those of the launches
  const int32_t* tokens = nullptr;       // [T]
  const int32_t* positions = nullptr;    // [T]
  const int32_t* token_row = nullptr;    // [T] the row each token belongs to
  const int32_t* row_begin = nullptr;    // [R+1]
  const int32_t* context_len = nullptr;  // [R]
  const int32_t* blocks = nullptr;
  const int32_t* block_begin = nullptr;        // [R+1]
  const int32_t* slots = nullptr;              // [R]
  const int32_t* output_rows = nullptr;        // [num_outputs]
  const int32_t* num_output_tokens = nullptr;  // [num_outputs]
  const int32_t* adapters = nullptr;           // [R] -1: none
};

// --- norm.cu ---
struct RmsNormArgs {
  Tensor x;
  const float* weight;
  float eps;
  int32_t group;    // columns normed together
  Tensor residual;  // data may be null
  Tensor out;
  Halves halves;  // of out, for whole rows only; data may be null
  Fp8Rows fp8;    // in place of halves; data may be null
};
cudaError_t RmsNorm(const RmsNormArgs& args, cudaStream_t stream);
struct LayerNormArgs {
  Tensor x, residual;  // residual.data may be null
  const float *weight, *bias;
  float eps;
  Tensor out;
  Halves halves;  // of out; data may be null
};
cudaError_t LayerNorm(const LayerNormArgs& args, cudaStream_t stream);

// --- activation.cu ---
struct GateMulArgs {
  Tensor gate_up;
  Activation activation;
  Tensor out;
  Halves halves;  // of out; data may be null
  Fp8Rows fp8;    // in place of halves; data may be null
};
cudaError_t GateMul(const GateMulArgs& args, cudaStream_t stream);
cudaError_t ToHalves(Tensor x, const Halves& halves, cudaStream_t stream);
cudaError_t SoftCap(Tensor x, float cap, cudaStream_t stream);
// out[r,n] = out[r,n] * row_scale[n] * x_scale[r] (+ residual[r,n]): the end of a product of f16
// that another made. residual is null or has rows of residual_stride.
struct ScaleProductArgs {
  Tensor out;
  const float *row_scale, *x_scale, *residual;
  int32_t residual_stride;
};
cudaError_t ScaleProduct(const ScaleProductArgs& args, cudaStream_t stream);
cudaError_t Gelu(Tensor x, cudaStream_t stream);
cudaError_t AddGated(Tensor x, Tensor gate, Tensor residual, Tensor out, cudaStream_t stream);

// --- gather.cu ---
// out[i] = x[last token of output row i]
cudaError_t GatherOutputs(Tensor x, const DeviceBatch& batch, Tensor out, cudaStream_t stream);
cudaError_t GatherPlaces(Tensor x, const Routing& routing, Tensor out, cudaStream_t stream);
struct AddPositionsArgs {
  const float *positions, *types;
  const int32_t* token_types;  // [T]
  DeviceBatch batch;
  Tensor x;
};
cudaError_t AddPositions(const AddPositionsArgs& args, cudaStream_t stream);
cudaError_t Pool(Tensor x, Pooling pooling, const DeviceBatch& batch, Tensor out,
                 cudaStream_t stream);

// --- experts.cu ---
inline constexpr int32_t kMaxExperts = 1024;
cudaError_t RouteExperts(Tensor logits, bool renormalise, const Routing& routing,
                         cudaStream_t stream);
cudaError_t CombineExperts(Tensor x, const Routing& routing, Tensor residual, Tensor out,
                           cudaStream_t stream);

// --- ranks.cu ---
// x[r,i] = sum over s ascending of parts[s][r,i]; parts [num_ranks][x.rows][x.cols].
cudaError_t SumRanks(const float* parts, int32_t num_ranks, Tensor x, cudaStream_t stream);
// out[r, s * width + c] = parts[s][r,c]; parts [ranks][out.rows][width].
cudaError_t JoinRanks(const float* parts, int32_t width, Tensor out, cudaStream_t stream);
// Finds the functions of NCCL that go with these kernels; null: those of the library.
using FindPointer = void* (*)(const char* name);
FindPointer FindCollectives();

// --- rope.cu ---
struct RopeArgs {
  DeviceBatch batch;
  Tensor qkv;
  int32_t num_q_heads;
  RopeParams rope;
  KvLayer kv;
  const float* qk_norm;  // [(Hq + Hkv) * H] RMS norm of every q and k head first, or null
  float eps;
};
cudaError_t RopeAndStoreKv(const RopeArgs& args, cudaStream_t stream);

// --- attention.cu ---
inline constexpr int32_t kAttentionPartition = 256;
// A piece of a step's attention, for every KV head: neighbouring tokens of one row over some of its
// partitions of 256 positions, or over all of them.
struct AttentionItem {
  int32_t row, first_token, num_tokens;  // num_tokens * (Hq / Hkv) query vectors
  int32_t first_partition, num_partitions;
  // Of a row that is cut: its partitions [row_first_partition, + row_partitions) are dealt to
  // num_parts items, partition p of the i-th token gives partial `partial` + i * row_partitions + p
  // - row_first_partition, and the blocks that have ended are counted in counter `counter`.
  // num_parts == 0: what the partitions give is merged and goes straight to out.
  int32_t row_first_partition, row_partitions, partial, num_parts, counter;
};
// Of a step, for one kind of layer. The count is in device memory so that a captured launch serves
// steps with other counts up to the most.
struct AttentionPlanView {
  const AttentionItem* items;
  const int32_t* num_items;
  int32_t max_items;
  bool long_rows;  // some item has more than 16 query vectors
};
struct AttentionArgs {
  DeviceBatch batch;
  AttentionPlanView plan;
  Tensor q;
  int32_t num_q_heads;
  AttentionParams params;
  KvLayer kv;
  float* partials;  // [partial][Hq][head_dim + 2]: weighted values, maximum, sum of weights
  uint32_t* ended;  // [counter][Hq] zero, and zero again when the launch ends
  Tensor out;
  Halves halves;  // of out; data may be null
};
// Tokens that an item may have.
[[nodiscard]] int32_t MaxItemTokens(bool long_rows, int32_t group, int32_t head_dim, KvType type);
cudaError_t Attention(const AttentionArgs& args, cudaStream_t stream);

// --- linear.cu ---
// How a matrix's numbers lie in device memory; see packed_linear.h.
enum class WeightFormat : uint8_t {
  kHalf,     // f16
  kInt8,     // (code - 128) s, s for every 32
  kInt4,     // (code - 8) s, s for every 32
  kInt4Min,  // code s + m, both for every 32
  kInt5,     // (code - 16) s, s for every 32
  kInt5Min,  // code s + m, both for every 32
  kInt6,     // (code - 32) s, s for every 16
  kInt3,     // (code - 4) s, s for every 16
  kInt2Min,  // code s + m, both for every 16
  kTable4,   // IQ4_NL's value of the code s, s for every 32
  // code (d i) + d' j: 8-bit i and j for every 32, d and d' for every 256
  kInt4Nested,
  kInt5Nested,
  kFp8,  // e4m3 s, an f32 s for every 8 rows x 32 columns
};
struct LinearArgs {
  WeightFormat format;
  const uint8_t* weights;
  const float* row_scale;  // [rows padded to 16]
  int32_t rows, columns;   // outputs; K padded to 64
  Halves x;
  int32_t num_x_rows;
  const float* residual;  // [num_x_rows] rows of residual_stride, or null
  int32_t residual_stride;
  float* out;
  int32_t out_stride;
  // Of experts: matrix e has weights + e * expert_bytes and row_scale + e * padded rows; `begin`
  // and `active` as in Routing. Else null.
  const int32_t *begin = nullptr, *active = nullptr;
  int64_t expert_bytes = 0;
  int32_t max_active = 0;  // no more experts than this have rows
};
// For few rows of x, and for experts.
cudaError_t LinearRows(const LinearArgs& args, cudaStream_t stream);
// --- linear_tiled.cu --- The same for many rows, not of experts, in another order of sums.
// K may be cut in ranges, `count` <= its tiles, which need memory that only this launch uses. A
// place is a block's outputs and rows.
inline constexpr int32_t kTiledSums = 128 * 128;
struct TiledRanges {
  int32_t count = 1;
  float* sums = nullptr;        // [places][count][kTiledSums]
  uint32_t* arrived = nullptr;  // [places] zeros, before and after
};
// How many ranges are best; places * ranges <= max(multiprocessors, places).
[[nodiscard]] int32_t TiledRangesFor(const LinearArgs& args, int32_t multiprocessors);
cudaError_t LinearTiled(const LinearArgs& args, const TiledRanges& ranges, cudaStream_t stream);
// --- linear_fp8.cu ---
cudaError_t ToFp8(Tensor x, const Fp8Rows& rows, cudaStream_t stream);
// The product of a matrix of kFp8 by x, for any number of rows and for experts; args.x is not read.
// Compute capability 8.9 and later.
cudaError_t LinearFp8(const LinearArgs& args, const Fp8Rows& x, cudaStream_t stream);
// out[t] = scale * row tokens[t] of the matrix. format, weights, row_scale, rows and columns of
// `table` count.
struct EmbedArgs {
  LinearArgs table;
  DeviceBatch batch;
  const int32_t* last_tokens;  // by slot
  float scale;
  Tensor out;
};
cudaError_t Embed(const EmbedArgs& args, cudaStream_t stream);

// --- adapters.cu ---
struct DeviceAdapter {
  const void *a, *b;  // [rank][K], [rank][N]
  int32_t rank;
  float scale;
};
// out[t] += scale (B (A x[t])) with the adapter of t's row. Two launches.
struct AdapterArgs {
  DeviceBatch batch;
  const DeviceAdapter* adapters;
  int32_t max_rank;
  bool halfs;  // the factors are f16, else f32
  Tensor x;
  float* shrunk;  // [x.rows][kMaxAdapterRank]
  Tensor out;
};
cudaError_t AddAdapters(const AdapterArgs& args, cudaStream_t stream);

// --- sample.cu ---
struct DeviceSlot {
  float temperature, top_p, min_p;
  int32_t top_k;
  float repetition_penalty, presence_penalty, frequency_penalty;
  uint32_t choice;
  uint64_t seed;
  int32_t min_tokens, num_logprobs;
  int32_t num_stop_tokens, num_bias;
  int32_t penalties;  // whether counts are kept
  int32_t padding;
};
struct TokenBias {
  int32_t token;
  float bias;
};
inline constexpr int32_t kMaxSlotBias = 1024, kMaxSlotStops = 256;
// What is set in a slot before a step: `history` tokens count in its penalties, of which the last
// num_output are output.
struct SlotUpdate {
  int32_t slot;
  DeviceSlot values;
  int32_t bias_begin, stop_begin;  // in the update's arrays
  int32_t history_begin, num_history, num_output;
  int32_t last_token;  // -1: leave it
};
struct SlotTable {
  DeviceSlot* slots = nullptr;     // [max_rows]
  TokenBias* bias = nullptr;       // [max_rows][kMaxSlotBias]
  int32_t* stop_tokens = nullptr;  // [max_rows][kMaxSlotStops]
  uint32_t* counts = nullptr;      // [max_rows][V] 2 * times in the output + 1 if seen at all
  int32_t* last_tokens = nullptr;  // [max_rows]
  int32_t max_rows = 0, vocab = 0;
};
cudaError_t UpdateSlots(const SlotTable& table, const SlotUpdate* updates, int32_t num_updates,
                        const TokenBias* bias, const int32_t* stop_tokens, const int32_t* history,
                        cudaStream_t stream);
cudaError_t Sample(const SlotTable& table, const DeviceBatch& batch, Tensor logits, float* scratch,
                   SampleOut* out, cudaStream_t stream);

}  // namespace sluice::cuda
