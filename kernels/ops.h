// The contract of every operation: what it computes, over which shapes, which arguments may alias,
// and in which order it reduces. How is each kernel file's business. Backends implement this class;
// src/model/transformer.cc is its caller.
//
// Order rule (promise 3): an output element is reduced in an order that depends only on the op, K
// and absolute KV positions, never on T, R, row length, chunking or threads. The CPU backend's ISA
// forms give equal bits too.
//
// An Ops is driven by one thread. Load* and Allocate* are for start-up. Between BeginStep and
// Finish the ops only enqueue: their views must stay valid, and results are there, only when Finish
// returns. The first failure is returned once, by Finish. No step allocates. Memory of a backend,
// tensors too, may be a device's: the host reads it by Read alone.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/view.h"

namespace sluice {

class Ops {
 public:
  virtual ~Ops() = default;

  // Stacks parts with equal cols into one linear op whose output columns follow each other; repacks
  // where it pays. The parts' memory must outlive the Ops. Errors: InvalidArgument for shapes the
  // backend cannot hold.
  virtual absl::StatusOr<Linear> LoadLinear(std::span<const WeightView> parts) = 0;
  // One linear op an expert: parts is [num_experts][parts of one], parts stacked as by LoadLinear.
  // Errors: those of LoadLinear; InvalidArgument for experts of unequal shapes or types.
  virtual absl::StatusOr<Experts> LoadExperts(std::span<const WeightView> parts,
                                              int32_t num_experts) = 0;
  // Low-rank additions to a linear op of `rows` outputs and `cols` inputs, one an adapter of the
  // model; the factors are copied. Errors: InvalidArgument for a rank above kMaxAdapterRank, other
  // shapes or types.
  virtual absl::StatusOr<Adapters> LoadAdapters(std::span<const AdapterView> adapters, int32_t rows,
                                                int32_t cols) = 0;
  // What Embed looks rows up in. A backend with memory of its own keeps one copy of a table and a
  // linear op over the same bytes, if the table is loaded first; else the view's memory must
  // outlive the Ops.
  virtual absl::StatusOr<Table> LoadTable(const WeightView& table) = 0;
  // 1-D weights (F32, F16 or BF16), converted to f32 and copied one after the other into one
  // vector.
  virtual absl::StatusOr<Vector> LoadVector(std::span<const WeightView> parts) = 0;
  absl::StatusOr<Vector> LoadVector(const WeightView& weight) { return LoadVector({&weight, 1}); }
  // Zeroed memory of the backend, 64-byte aligned, freed with the Ops. Errors: ResourceExhausted.
  virtual absl::StatusOr<void*> Allocate(int64_t bytes) = 0;
  // Bytes of one KV block of such a layer; its data and num_blocks do not count.
  [[nodiscard]] virtual int64_t KvBlockBytes(const KvLayer& kv) const = 0;
  // Slots [0, max_rows) for sampling over vocab_size logits. Once, before the first step.
  virtual absl::Status AllocateSlots(int32_t max_rows, int32_t vocab_size) = 0;

  // How many steps may be begun and not finished; they run, and finish, in order.
  [[nodiscard]] virtual int max_steps_in_flight() const { return 1; }
  // Starts a step over `batch`; later ops take T, R, tokens, positions and tables from it.
  virtual void BeginStep(const BatchView& batch) = 0;
  // Resets a slot: parameters, and penalty counts from the history. Runs before the step's Sample,
  // after BeginStep.
  virtual void InitSlot(const SlotView& slot) = 0;

  // out[t] = scale * table[tokens[t]], dequantised. out [T,D] f32; table [V,D].
  virtual void Embed(const Table& table, float scale, Tensor out) = 0;

  // out[r,i] = x[r,i] * weight[i] / sqrt(mean(x[r,j]^2 over i's group) + eps), plus residual[r,i]
  // if residual.data. Groups are params.group columns each (heads, say), or the whole row. x, out,
  // residual [rows,D]; weight [D]; out may be x or residual. Sum of squares: 16 partial sums (lane
  // = j mod 16, ascending), then a fixed tree; the residual is added last. Source: arXiv:1910.07467
  // eq. 4.
  virtual void RmsNorm(Tensor x, Vector weight, const NormParams& params, Tensor residual,
                       Tensor out) = 0;

  // out[r,n] = sum_k W[n,k] x[r,k], plus residual[r,n] if residual.data. x [rows,K]; out, residual
  // [rows,N]; a residual of stride 0 is one row for all (a bias); out may be residual, neither may
  // alias x. Residual is added last. Quantised weights: x is rounded to int8 a with one f32 scale
  // sx per 32 (amax/127, ties to even); blocks of 32 ascending, one accumulator: acc =
  // fma(float(I), (d*s)*sx, acc), then for types with minima acc = fma(m*t, sx*sum(a), acc). I is
  // the exact integer dot; d and m are the f16 numbers of the block or super-block, s and t the
  // block's small integers (1 but for the K types), whose products are exact in f32. Where the
  // halves of a block have their own s and t: I = s0*I0 + s1*I1, below 2^24, acc = fma(float(I),
  // d*sx, acc) (Q3_K, Q6_K, Q2_K), then Q2_K acc = fma(float(t0*sum0(a) + t1*sum1(a)), m*sx, acc).
  // Float weights: see kernels/cpu/isa/linear_float.cc.
  virtual void MatMul(Tensor x, const Linear& w, Tensor residual, Tensor out) = 0;

  // out[t] += scale_a B_a (A_a x[t]), a the adapter of t's row in the step's plan; tokens without
  // one stay as they are. x [T,K]; out [T,N], no alias. A_a x is f32 sums in an order of the
  // backend's that depends on K alone; an output is one chain of fma over the rank ascending, then
  // fma(scale, sum, out). Source: arXiv:2106.09685 eq. 3; an adapter a row: arXiv:2310.18547.
  virtual void AddAdapters(Tensor x, const Adapters& adapters, Tensor out) = 0;

  // Rotates the q and k heads of qkv [T, (Hq + 2 Hkv) * H] by each token's position, in place, and
  // stores k and v into the row's KV blocks at that position. Source: arXiv:2104.09864 eq. 34.
  virtual void RopeAndStoreKv(Tensor qkv, int32_t num_q_heads, const RopeParams& rope,
                              const KvLayer& kv) = 0;

  // out[t, h*H..] = softmax(cap(scale * q[t,h] . K[p])) V[p] over the row's cached and new
  // positions p that t sees (causal, within the window; all of the context if not causal). q [T,
  // Hq*H] (a column range of qkv); out [T, Hq*H]; query head h reads KV head h / (Hq/Hkv). KV
  // positions are cut in partitions of 256 from 0, whatever the window; each gives max, sum and
  // weighted V over the positions seen; partitions with any combine ascending (PagedAttention,
  // arXiv:2309.06180; combination as in arXiv:2205.14135; window: arXiv:2310.06825; cap:
  // arXiv:2408.00118).
  virtual void Attention(Tensor q, int32_t num_q_heads, const AttentionParams& params,
                         const KvLayer& kv, Tensor out) = 0;

  // out[t,f] = act(gate_up[t,f]) * gate_up[t,F+f]. kSilu: z / (1 + exp(-z)); kGeluTanh: z/2 (1 +
  // tanh(sqrt(2/pi) (z + 0.044715 z^3))). gate_up [T,2F]; out [T,F], no alias.
  virtual void GateMul(Tensor gate_up, Activation activation, Tensor out) = 0;

  // x = cap * tanh(x / cap), in place; cap > 0.
  virtual void SoftCap(Tensor x, float cap) = 0;

  // --- Mixture of experts; x.rows is T, choices and places as in Routing ---
  // For each row of logits [T,E]: the k largest (ties: lowest id) in descending order, with weights
  // exp(l - max) / sum exp(l' - max), the sum over the chosen by choice ascending if `renormalise`,
  // else over all E (16 lanes, e mod 16, then a fixed tree). Routing's arrays hold T rows.
  virtual void RouteExperts(Tensor logits, bool renormalise, const Routing& routing) = 0;
  // out[p] = x[row of place p]. x [T,D]; out [T*k,D], no alias.
  virtual void GatherPlaces(Tensor x, const Routing& routing, Tensor out) = 0;
  // out[p] = W[expert of place p] x[p], each product in MatMul's order. x [T*k,K]; out [T*k,N], no
  // alias.
  virtual void ExpertMatMul(Tensor x, const Experts& w, const Routing& routing, Tensor out) = 0;
  // out[t] = sum_c weight[t,c] * x[place of choice c], c ascending, one chain of fma, plus
  // residual[t] last if residual.data. x [T*k,D]; out, residual [T,D]; out may be residual.
  virtual void CombineExperts(Tensor x, const Routing& routing, Tensor residual, Tensor out) = 0;
  // out[t,i] = x[t,i] / (1 + exp(-gate[t,0])) + residual[t,i]. x, out, residual [T,D]; out may be
  // residual.
  virtual void AddGated(Tensor x, Tensor gate, Tensor residual, Tensor out) = 0;

  // --- Ranks: one model on several devices, each an Ops with its share of the weights ---
  // All ranks enqueue the same ops in the same order over the same batch. With one rank the two
  // exchanges have nothing to do.
  [[nodiscard]] virtual int32_t rank() const { return 0; }
  [[nodiscard]] virtual int32_t num_ranks() const { return 1; }
  // x = the sum of all ranks' x, in place, the same bits on each: one chain of f32 additions, ranks
  // ascending, or in the library's order where a backend does not keep the order rule. x is dense.
  virtual void AllReduce(Tensor /*x*/) {}
  // out[r, s * w + c] = part[r,c] of rank s. part [rows, up to w columns], w its stride, the same
  // on all ranks; out [rows,N], N <= num_ranks * w. With one rank, part is out.
  virtual void AllGather(Tensor /*part*/, Tensor /*out*/) {}

  // --- Encoders and models of vectors ---
  // x[t] = (x[t] + positions[position of t]) + types[token_types[t]], in place. positions [P*D],
  // types [N*D]: tables, row by row; x [T,D].
  virtual void AddPositions(Vector positions, Vector types, std::span<const int32_t> token_types,
                            Tensor x) = 0;
  // out[r,i] = (y[i] - mean(y)) / sqrt(mean((y - mean(y))^2) + eps) * weight[i] + bias[i] with
  // y = x[r] + residual[r] if residual.data, else x[r]. x, residual, out [rows,D]; out may be x or
  // residual. Sums: 16 partial sums (lane = i mod 16, ascending), then a fixed tree. Source:
  // arXiv:1607.06450 eq. 4.
  virtual void LayerNorm(Tensor x, Tensor residual, Vector weight, Vector bias, float eps,
                         Tensor out) = 0;
  // x = x/2 (1 + erf(x / sqrt 2)), in place. Source: arXiv:1606.08415.
  virtual void Gelu(Tensor x) = 0;
  // out[i] = what `pooling` makes of the tokens of row output_rows[i]; a mean is a sum over tokens
  // ascending, then divided. x [T,D]; out [num_outputs,D], no alias.
  virtual void Pool(Tensor x, Pooling pooling, Tensor out) = 0;

  // out[i] = x[last token of output_rows[i]]. x [T,D]; out [num_outputs,D].
  virtual void GatherOutputs(Tensor x, Tensor out) = 0;

  // One token for each output row i from logits [num_outputs,V], by its slot: bias, penalties,
  // min_tokens mask, then temperature 0: argmax (lowest id wins ties); else temperature, top_k,
  // top_p, min_p, and the inverse CDF over the candidates in (logit descending, id ascending) order
  // at a Philox4x32-10 draw keyed by (seed, choice, num_output_tokens[i]). Updates the slot's last
  // token and counts. logits may be overwritten.
  virtual void Sample(Tensor logits, std::span<const int32_t> num_output_tokens,
                      std::span<SampleOut> out) = 0;

  // Copies x, as it is between the ops before and after, to the host: out [x.rows][x.cols].
  virtual void Read(Tensor x, float* out) = 0;

  // Runs or awaits everything enqueued since the BeginStep of the oldest unfinished step.
  virtual absl::Status Finish() = 0;
};

}  // namespace sluice
