// Plain views over memory that somebody else owns. Letters: T tokens and R rows of the step, D
// model_dim, F ffn_dim, V vocab_size, L layers, Hq and Hkv query and KV heads, H head_dim.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

namespace sluice {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,
  kIq4Nl,
  // e4m3 codes of a folder with an f32 scale for every 32, which its file shares by more: for a
  // backend that keeps them. kFp8A8: their maker meant x to be rounded to e4m3 for the product.
  kFp8,
  kFp8A8,
};
[[nodiscard]] constexpr bool IsFp8(DType dtype) {
  return dtype == DType::kFp8 || dtype == DType::kFp8A8;
}

struct DTypeInfo {
  std::string_view name;
  int32_t block_elements;  // the least number of elements that stands alone; 1: not quantised
  int32_t block_bytes;
};
[[nodiscard]] constexpr DTypeInfo GetDTypeInfo(DType dtype) {
  constexpr DTypeInfo kInfo[] = {
      {"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},     {"Q8_0", 32, 34},
      {"Q4_0", 32, 18},   {"Q4_1", 32, 20},   {"Q5_0", 32, 22},   {"Q5_1", 32, 24},
      {"Q2_K", 256, 84},  {"Q3_K", 256, 110}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176},
      {"Q6_K", 256, 210}, {"IQ4_NL", 32, 18}, {"FP8", 32, 36},    {"FP8_A8", 32, 36}};
  return kInfo[static_cast<int>(dtype)];
}

class WeightSource;

// A tensor as it lies in a model file: row-major, rows x cols, cols a multiple of the dtype's
// block. 1-D: rows == 1.
struct WeightView {
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  const void* data = nullptr;
  // Set: the file holds the matrix in a form of its own, whose first byte `data` is; who loads it
  // makes the rows first (src/model/weight_source.h). No op takes such a view.
  const WeightSource* source = nullptr;

  [[nodiscard]] int64_t row_bytes() const {
    const DTypeInfo info = GetDTypeInfo(dtype);
    return cols / info.block_elements * info.block_bytes;
  }
};

// Activations, row-major. stride in elements between rows. f32 on the CPU backend.
struct Tensor {
  float* data = nullptr;
  int32_t rows = 0, cols = 0, stride = 0;

  [[nodiscard]] float* row(int64_t r) const { return data + r * stride; }
  // Columns [begin, begin + n) of every row.
  [[nodiscard]] Tensor Columns(int32_t begin, int32_t n) const {
    return {data + begin, rows, n, stride};
  }
  [[nodiscard]] Tensor Rows(int32_t n) const { return {data, n, cols, stride}; }
};

// y = W x over weights in the backend's own layout; made by Ops::LoadLinear, owned by the Ops.
struct Linear {
  int32_t rows = 0, cols = 0;  // outputs, inputs
  const void* impl = nullptr;
  explicit operator bool() const { return impl != nullptr; }
};

// A matrix whose rows are looked up; made by Ops::LoadTable. `file` keeps the shape.
struct Table {
  WeightView file;
  const void* impl = nullptr;  // of a backend that does not read the file's bytes
};

// One matrix an expert, all of one shape; made by Ops::LoadExperts, owned by the Ops.
struct Experts {
  int32_t num_experts = 0, rows = 0, cols = 0;
  const void* impl = nullptr;
  explicit operator bool() const { return impl != nullptr; }
};

// The factors of one low-rank addition to a linear op, as a file holds them: A [rank, K] and
// B [N, rank], F32 or F16. rank 0: this adapter adds nothing to the op.
inline constexpr int32_t kMaxAdapterRank = 64;
struct AdapterView {
  int32_t rank = 0;
  float scale = 1;
  WeightView a, b;
};
// What a model's adapters add to one linear op; made by Ops::LoadAdapters, owned by the Ops.
struct Adapters {
  int32_t count = 0, rows = 0, cols = 0;  // N, K
  const void* impl = nullptr;
  explicit operator bool() const { return impl != nullptr; }
};

// Which experts the rows of an op chose; filled by Ops::RouteExperts in memory of the backend. Each
// of T rows makes k choices: choice j = t * k + c is row t's c-th. A place is a choice's rank when
// all are sorted by expert, then by j: an expert's places are a range.
struct Routing {
  int32_t num_experts = 0, num_used = 0;  // E, k
  int32_t* experts = nullptr;             // [T*k] by choice; a row's by descending logit
  float* weights = nullptr;               // [T*k] by choice
  int32_t* place = nullptr;               // [T*k] by choice
  int32_t* choice = nullptr;              // [T*k] by place
  int32_t* begin = nullptr;               // [E+1] expert e has places [begin[e], begin[e+1])
  int32_t* active = nullptr;              // [1+E] how many experts were chosen, then which
};

// A learned vector, f32, in the backend's memory; made by Ops::LoadVector, owned by the Ops. data
// == nullptr: not there.
struct Vector {
  const float* data = nullptr;
  int32_t size = 0;
  explicit operator bool() const { return data != nullptr; }
};

struct NormParams {
  float eps = 0;
  int32_t group = 0;  // columns normed together, a divisor of the row's; 0: the whole row
};

struct RopeParams {
  int32_t rope_dim = 0;  // leading elements of each head that rotate; even
  bool interleaved =
      false;  // pairs (2i, 2i+1), as GGUF llama files store them; else (i, i + rope_dim/2)
  // cos and sin by position: [max_position][rope_dim/2] each, computed in double, rounded to f32
  // (see model/rope.cc).
  const float* cos = nullptr;
  const float* sin = nullptr;
};

enum class Activation : uint8_t { kSilu, kGeluTanh };

struct AttentionParams {
  float scale = 0;     // of q . k
  int32_t window = 0;  // a query at p sees positions (p - window, p]; 0: [0, p]
  float softcap = 0;   // scores become cap * tanh(score / cap); 0: they stay
  bool causal = true;  // false, without a window: a query sees all of its row's context
};

// What stands for a whole sequence: the vector of its first or last token, or all tokens' mean.
enum class Pooling : uint8_t { kFirst, kLast, kMean };

// How keys and values are stored; fp8 is e4m3, and it and int8 have a scale for each head's keys,
// or values, at a position.
enum class KvType : uint8_t { kF16, kBf16, kFp8, kInt8 };
inline constexpr std::string_view kKvTypeNames[] = {"f16", "bf16", "fp8", "int8"};
[[nodiscard]] constexpr std::string_view KvTypeName(KvType type) {
  return kKvTypeNames[static_cast<int>(type)];
}

// One layer's KV cache: num_blocks KV blocks of block_tokens positions. The layout inside a block
// is the backend's.
struct KvLayer {
  void* data = nullptr;
  int32_t num_blocks = 0, block_tokens = 0, num_kv_heads = 0, head_dim = 0;
  KvType type = KvType::kF16;
};

// The step's plan as arrays (see src/step/batch_plan.h for their meaning); valid until Ops::Finish
// returns.
struct BatchView {
  int32_t num_tokens = 0, num_rows = 0;
  const int32_t* tokens = nullptr;       // [T]; -1: the token last sampled in the row's slot
  const int32_t* positions = nullptr;    // [T]
  const int32_t* row_begin = nullptr;    // [R+1]
  const int32_t* context_len = nullptr;  // [R]
  const int32_t* blocks = nullptr;       // [block_begin[R]]
  const int32_t* block_begin = nullptr;  // [R+1]
  const int32_t* slots = nullptr;        // [R]
  int32_t num_outputs = 0;               // rows that sample
  const int32_t* output_rows =
      nullptr;  // [num_outputs] ascending row indexes; the row's last token is the one sampled from
  const int32_t* adapters = nullptr;  // [R] each row's adapter, -1: none; null: no row has one
};

// How one slot samples. Pointers are copied from by Ops::InitSlot.
struct SlotView {
  int32_t slot = 0;
  float temperature = 1, top_p = 1, min_p = 0;
  int32_t top_k = 0;  // 0: off
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;
  uint32_t choice = 0;
  int32_t min_tokens = 0;     // the stop tokens cannot be sampled before that many output tokens
  int32_t num_logprobs = -1;  // -1: none
  const int32_t* stop_tokens = nullptr;
  int32_t num_stop_tokens = 0;
  const std::pair<int32_t, float>* bias = nullptr;  // ascending by id
  int32_t num_bias = 0;
  const int32_t* prompt_tokens = nullptr;  // history, for penalties only
  int32_t num_prompt_tokens = 0;
  const int32_t* output_tokens = nullptr;
  int32_t num_output_tokens = 0;
};

inline constexpr int32_t kMaxLogprobs = 20;
struct SampleOut {
  int32_t token = 0;
  float logprob = 0;  // log-softmax of the raw logits at `token`; only if the slot wants logprobs
  int32_t num_top = 0;
  int32_t top_tokens[kMaxLogprobs] = {};
  float top_logprobs[kMaxLogprobs] = {};
};

}  // namespace sluice
