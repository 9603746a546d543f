// The table of CPU kernels: one a form (scalar, AVX2, AVX-512), filled in isa/table.cc, which is
// compiled three times.
//
// A kernel computes items [begin, end) of its op. Items are independent, so how they are shared
// among threads never changes a bit. Arguments are plain structs, copied into the command list; the
// memory they point at outlives the step. This header is included by the files compiled for each
// form: plain data only, no functions.
#pragma once

#include <cstdint>

#include "kernels/cpu/packing.h"
#include "kernels/cpu/sampling_slot.h"
#include "kernels/view.h"

namespace sluice::cpu {

// The thread a kernel runs on.
struct Worker {
  int32_t thread = 0;       // [0, number of threads)
  char* scratch = nullptr;  // 64-byte aligned, this thread's own, contents not kept between calls
  int64_t scratch_bytes = 0;
};

template <class Args>
using Kernel = void (*)(const Args& args, int64_t begin, int64_t end, const Worker& worker);

// --- Linear (isa/quantise.cc, isa/linear_q.cc, isa/linear_float.cc) ---

// Items are rows of x. cols is a multiple of 32.
struct QuantiseArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t rows = 0, cols = 0;
  QuantisedRows out;
};

// Items are (chunk of rows, panel) pairs, chunk by chunk.
struct MatMulArgs {
  const float* x = nullptr;  // float packings
  int64_t x_stride = 0;
  QuantisedRows quantised;  // Q packings
  const uint8_t* panels = nullptr;
  Packing packing = Packing::kF32;
  int32_t rows = 0, cols = 0;  // of x
  int32_t num_outputs = 0;     // of this part
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  float* out = nullptr;  // this part's first column
  int64_t out_stride = 0;
};

// Items are tokens.
struct AdapterFactors {
  const float *a = nullptr, *b = nullptr;  // [rank][cols], [rank][num_outputs]
  int32_t rank = 0;
  float scale = 1;
};
struct AdapterArgs {
  const BatchView* batch = nullptr;
  const int32_t* token_row = nullptr;
  const AdapterFactors* adapters = nullptr;
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0, num_outputs = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// --- The other ops ---

// Items are rows.
struct RmsNormArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* weight = nullptr;  // [cols]
  float eps = 0;
  int32_t cols = 0, group = 0;  // group divides cols
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Items are tokens of the step.
struct EmbedArgs {
  WeightView table;
  int64_t row_bytes = 0;  // of the table
  const BatchView* batch = nullptr;
  const int32_t* token_row = nullptr;    // [T] the row each token belongs to
  const int32_t* last_tokens = nullptr;  // [slots] for tokens of -1
  float scale = 1;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Items are tokens of the step.
struct RopeStoreKvArgs {
  const BatchView* batch = nullptr;
  const int32_t* token_row = nullptr;  // [T]
  float* qkv = nullptr;
  int64_t stride = 0;
  int32_t num_q_heads = 0;
  int32_t rope_dim = 0;  // as in RopeParams
  bool interleaved = false;
  const float* cos = nullptr;
  const float* sin = nullptr;
  KvLayer kv;
};

// Positions whose attention is one partial result, and the most query vectors of one item.
inline constexpr int32_t kAttentionPartition = 256;
inline constexpr int32_t kAttentionTile = 12;

// Query vectors [first_query, first_query + num_queries) of a row, counted by token and then by
// head of the group that shares a KV head.
struct AttentionTile {
  int32_t row = 0, first_query = 0, num_queries = 0;
  int32_t first_partition = 0;  // the first that one of its queries sees
  int32_t num_partitions = 0;   // the end: of the last query's context
  int32_t partition = 0;        // the one to compute, if the plan is split
  // Index of its first partial result: [partition - first_partition][Hkv][num_queries].
  int32_t first_partial = 0;
};

// Items are (KV head, tile) pairs, head by head.
struct AttentionArgs {
  const BatchView* batch = nullptr;
  const AttentionTile* tiles = nullptr;
  int32_t num_tiles = 0;
  float* partials = nullptr;  // nullptr: tiles are whole; else each is one partition
  const float* q = nullptr;
  int64_t q_stride = 0;
  int32_t num_q_heads = 0;
  AttentionParams params;
  KvLayer kv;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Items are rows.
struct GateMulArgs {
  const float* gate_up = nullptr;
  int64_t gate_up_stride = 0;
  int32_t cols = 0;  // F
  Activation activation = Activation::kSilu;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Columns of one item of the soft cap: about 10 microseconds.
inline constexpr int32_t kSoftCapChunk = 8192;

// Items are (row, chunk of kSoftCapChunk columns) pairs, row by row.
struct SoftCapArgs {
  float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
  float cap = 0;
};

// Items are rows.
struct AddGatedArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* gate = nullptr;
  int64_t gate_stride = 0;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  int32_t cols = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// --- Mixture of experts (isa/experts.cc) ---

// Items of `choose_experts` are rows of logits, of `group_by_expert` one.
struct RouteArgs {
  const float* logits = nullptr;
  int64_t logits_stride = 0;
  int32_t rows = 0;
  bool renormalise = false;
  Routing routing;
};

// Items are places.
struct GatherPlacesArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
  Routing routing;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Items are places; expert by expert the layout of a QuantiseArgs over that expert's rows.
struct QuantisePlacesArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
  Routing routing;
  QuantisedRows out;
};

// The most experts of a layer.
inline constexpr int32_t kMaxExperts = 1024;

// Panels that one item computes.
inline constexpr int32_t kExpertPanels = 4;

// Items are (group of kExpertPanels panels, active expert) pairs, group by group, so that a share
// of the items holds a share of every expert's panels however many rows each has.
struct ExpertMatMulArgs {
  const float* x = nullptr;  // float packings
  int64_t x_stride = 0;
  QuantisedRows quantised;                 // Q packings, as QuantisePlacesArgs leaves them
  const uint8_t* const* panels = nullptr;  // [E]
  Packing packing = Packing::kF32;
  bool is_quantised = false;
  int32_t cols = 0;
  int32_t num_outputs = 0;  // of this part
  int32_t max_active = 0;   // experts that items are numbered for
  Routing routing;
  float* out = nullptr;  // this part's first column
  int64_t out_stride = 0;
};

// Items are tokens.
struct CombineExpertsArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
  Routing routing;
  const float* residual = nullptr;  // or none
  int64_t residual_stride = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// --- Encoders and models of vectors ---

// Items are tokens of the step.
struct AddPositionsArgs {
  const BatchView* batch = nullptr;
  const int32_t* token_types = nullptr;  // [T]
  const float* positions = nullptr;      // [P][cols]
  const float* types = nullptr;          // [N][cols]
  float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
};

// Items are rows.
struct LayerNormArgs {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0;
  int32_t cols = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Items are rows.
struct GeluArgs {
  float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
};

// Items are output rows.
struct PoolArgs {
  const BatchView* batch = nullptr;
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
  Pooling pooling = Pooling::kMean;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Items are output rows.
struct GatherArgs {
  const BatchView* batch = nullptr;
  const float* x = nullptr;
  int64_t x_stride = 0;
  int32_t cols = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Items are output rows.
struct SampleArgs {
  const BatchView* batch = nullptr;
  float* logits = nullptr;
  int64_t logits_stride = 0;
  int32_t vocab_size = 0;
  const int32_t* num_output_tokens = nullptr;  // [num_outputs]
  SampleOut* out = nullptr;                    // [num_outputs]
  SamplingSlot* slots = nullptr;
};

struct Kernels {
  Kernel<QuantiseArgs> quantise = nullptr;
  Kernel<MatMulArgs> matmul_quantised = nullptr;
  Kernel<MatMulArgs> matmul_float = nullptr;
  Kernel<AdapterArgs> add_adapters = nullptr;
  Kernel<RmsNormArgs> rms_norm = nullptr;
  Kernel<EmbedArgs> embed = nullptr;
  Kernel<RopeStoreKvArgs> rope_store_kv = nullptr;
  Kernel<AttentionArgs> attention = nullptr;
  Kernel<AttentionArgs> combine_partitions = nullptr;  // after `attention` with partials
  Kernel<GateMulArgs> gate_mul = nullptr;
  Kernel<SoftCapArgs> soft_cap = nullptr;
  Kernel<AddGatedArgs> add_gated = nullptr;
  Kernel<RouteArgs> choose_experts = nullptr;
  Kernel<RouteArgs> group_by_expert = nullptr;  // after choose_experts; one item
  Kernel<GatherPlacesArgs> gather_places = nullptr;
  Kernel<QuantisePlacesArgs> quantise_places = nullptr;
  Kernel<ExpertMatMulArgs> expert_matmul = nullptr;
  Kernel<CombineExpertsArgs> combine_experts = nullptr;
  Kernel<AddPositionsArgs> add_positions = nullptr;
  Kernel<LayerNormArgs> layer_norm = nullptr;
  Kernel<GeluArgs> gelu = nullptr;
  Kernel<PoolArgs> pool = nullptr;
  Kernel<GatherArgs> gather = nullptr;
  Kernel<SampleArgs> sample = nullptr;
};

namespace scalar {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

}  // namespace sluice::cpu
