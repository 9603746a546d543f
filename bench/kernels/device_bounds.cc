// bench_device_bounds --device=h100|h200|a100|l4 [--model=llama-3.1-8b|llama-3.2-1b|smollm2-135m]
// [--type=Q4_K|Q8_0|F16] [--rows=1] [--tokens=1] [--context=1024]: lower bounds of a step's time.
//
// Runs one step of a model of two layers, with the model's own shapes and random weights, through
// the CUDA backend over the checked emulator, which counts what every launch moves and multiplies.
// The counts are exact for these kernels; the times are bounds: no kernel can be faster on a device
// that does what its maker says, and real ones are slower by a factor that is not known here.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/profile.h"
#include "kernels/simt/runtime.h"
#include "model/transformer.h"

namespace sluice::bench {
namespace {

// What the makers say. Sources: NVIDIA H100 (SXM), H200, A100 (80 GB SXM) and L4 data sheets, dense
// f16; clock: boost. The rate of 16-bit matrix instructions of one warp at a time (mma.sync) is
// that of the data sheet on A100 and L4 and 0.62 of it on Hopper (arXiv:2402.13499 measured 62.9
// %), whose full rate takes wgmma.
struct Device {
  const char* name;
  double dram_bytes, f16_flops, clock;
  int multiprocessors;
  double mma_share;
};
constexpr Device kDevices[] = {{"h100", 3.35e12, 989.4e12, 1.98e9, 132, 0.62},
                               {"h200", 4.8e12, 989.4e12, 1.98e9, 132, 0.62},
                               {"a100", 2.039e12, 312e12, 1.41e9, 108, 1},
                               {"l4", 300e9, 121e12, 2.04e9, 58, 1}};

struct Shape {
  const char* name;
  int32_t dim, ffn, vocab, layers, q_heads, kv_heads, head_dim;
  bool tied;
};
constexpr Shape kShapes[] = {{"llama-3.1-8b", 4096, 14336, 128256, 32, 32, 8, 128, false},
                             {"llama-3.2-1b", 2048, 8192, 128256, 16, 32, 8, 64, true},
                             {"smollm2-135m", 576, 1536, 49152, 30, 9, 3, 64, true}};

struct Options {
  const Device* device = nullptr;
  const Shape* shape = &kShapes[0];
  DType type = DType::kQ4K;
  int32_t rows = 1, tokens = 1, context = 1024;
};

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "bench_device_bounds: %s\n", message.c_str());
  std::exit(1);
}
template <class T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) Die(std::string(value.status().message()));
  return *std::move(value);
}

template <class T, size_t kSize>
const T* Find(const T (&table)[kSize], std::string_view name) {
  for (const T& entry : table) {
    if (entry.name == name) return &entry;
  }
  Die("there is no " + std::string(name));
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const size_t equals = arg.find('=');
    if (equals == std::string_view::npos) Die("arguments are --name=value");
    const std::string_view name = arg.substr(0, equals);
    const std::string value(arg.substr(equals + 1));
    if (name == "--device") {
      options.device = Find(kDevices, value);
    } else if (name == "--model") {
      options.shape = Find(kShapes, value);
    } else if (name == "--type") {
      bool found = false;
      for (const DType type : {DType::kQ4K, DType::kQ4_0, DType::kQ8_0, DType::kQ6K, DType::kF16}) {
        if (GetDTypeInfo(type).name != value) continue;
        options.type = type;
        found = true;
      }
      if (!found) Die("type is " + value + "; it may be Q4_K, Q4_0, Q8_0, Q6_K or F16");
    } else if (name == "--rows") {
      options.rows = std::max(std::atoi(value.c_str()), 1);
    } else if (name == "--tokens") {
      options.tokens = std::max(std::atoi(value.c_str()), 1);
    } else if (name == "--context") {
      options.context = std::max(std::atoi(value.c_str()), 1);
    } else {
      Die("unknown argument " + std::string(name));
    }
  }
  if (options.device == nullptr) Die("--device=h100|h200|a100|l4 is missing");
  const int32_t block = GetDTypeInfo(options.type).block_elements;
  if (options.shape->dim % block != 0 || options.shape->ffn % block != 0)
    Die(fmt::format("{} has blocks of {}; rows of {} have {} and {} columns",
                    GetDTypeInfo(options.type).name, block, options.shape->name, options.shape->dim,
                    options.shape->ffn));
  options.context = std::max(options.context, options.tokens);
  return options;
}

// Matrices of random bytes whose f16 scales are harmless; values do not change the counts.
class Weights {
 public:
  WeightView Matrix(DType type, int64_t rows, int64_t cols) {
    WeightView view{type, rows, cols, nullptr};
    std::vector<uint8_t>& bytes =
        memory_.emplace_back(static_cast<size_t>(rows * view.row_bytes()));
    for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      const uint32_t word = static_cast<uint32_t>(random_()) & 0x3b3f3b3f;  // halves stay below one
      std::copy_n(reinterpret_cast<const uint8_t*>(&word), 4, bytes.begin() + static_cast<long>(i));
    }
    view.data = bytes.data();
    return view;
  }
  WeightView Ones(int64_t size) {
    const WeightView view = Matrix(DType::kF32, 1, size);
    auto* values = static_cast<float*>(const_cast<void*>(view.data));
    std::fill_n(values, size, 1.0F);
    return view;
  }

 private:
  std::mt19937_64 random_{1};
  std::vector<std::vector<uint8_t>> memory_;
};

using Counts = std::map<std::string, simt::KernelStatistics>;

// The counts of one step of the first `layers` layers.
Counts CountStep(const Options& o, int32_t layers) {
  const Shape& s = *o.shape;
  ModelConfig c;
  c.model_dim = s.dim;
  c.ffn_dim = s.ffn;
  c.vocab_size = s.vocab;
  c.num_layers = layers;
  c.num_q_heads = s.q_heads;
  c.num_kv_heads = s.kv_heads;
  c.head_dim = c.rope.dim = s.head_dim;
  c.max_context = o.context;
  c.norm_eps = 1e-5F;
  c.attention_scale = 0.1F;
  Weights weights;
  WeightViews views;
  views.token_embd = weights.Matrix(o.type, s.vocab, s.dim);
  if (!s.tied) views.head = weights.Matrix(o.type, s.vocab, s.dim);
  views.output_norm = weights.Ones(s.dim);
  for (int32_t l = 0; l < layers; ++l) {
    LayerViews& v = views.layers.emplace_back();
    v.attn_norm = weights.Ones(s.dim);
    v.ffn_norm = weights.Ones(s.dim);
    v.q = weights.Matrix(o.type, c.q_cols(), s.dim);
    v.k = weights.Matrix(o.type, c.kv_cols(), s.dim);
    v.v = weights.Matrix(o.type, c.kv_cols(), s.dim);
    v.o = weights.Matrix(o.type, s.dim, c.q_cols());
    v.gate = weights.Matrix(o.type, s.ffn, s.dim);
    v.up = weights.Matrix(o.type, s.ffn, s.dim);
    v.down = weights.Matrix(o.type, s.dim, s.ffn);
  }
  constexpr int32_t kBlockTokens = 16;
  const int32_t row_blocks = (o.context + kBlockTokens - 1) / kBlockTokens;
  simt::SetDevices(
      {{.memory_bytes = size_t{16} << 30, .multiprocessors = o.device->multiprocessors}});
  std::unique_ptr<Ops> ops = Must(CreateCudaOps({.graphs = false}));
  const int32_t total = o.rows * o.tokens;
  auto model = Must(Transformer::Create(
      c, views, {total, o.rows, o.context, kBlockTokens, row_blocks * o.rows}, *ops));
  std::vector<int32_t> tokens(static_cast<size_t>(total), 1), positions,
      row_begin = {0}, context, blocks, block_begin = {0}, slots, outputs;
  for (int32_t r = 0; r < o.rows; ++r) {
    for (int32_t t = 0; t < o.tokens; ++t) positions.push_back(o.context - o.tokens + t);
    row_begin.push_back((r + 1) * o.tokens);
    context.push_back(o.context);
    for (int32_t b = 0; b < row_blocks; ++b) blocks.push_back(r * row_blocks + b);
    block_begin.push_back(static_cast<int32_t>(blocks.size()));
    slots.push_back(r);
    outputs.push_back(r);
  }
  const BatchView batch{
      total,          o.rows,        tokens.data(),      positions.data(), row_begin.data(),
      context.data(), blocks.data(), block_begin.data(), slots.data(),     o.rows,
      outputs.data()};
  (void)simt::TakeStatistics();
  simt::CountMemory(true);
  ops->BeginStep(batch);
  (void)model->Forward(batch);
  const absl::Status status = ops->Finish();
  simt::CountMemory(false);
  if (!status.ok()) Die(std::string(status.message()));
  Counts counts = simt::TakeStatistics().kernels;
  for (const simt::Finding& finding : simt::TakeFindings()) Die(finding.ToString());
  return counts;
}

struct Bound {
  uint64_t launches = 0;
  double dram = 0, l2 = 0, flops = 0, shared = 0, shared_ideal = 0, l2_ideal = 0, seconds = 0;
  const char* by = "";
};
Bound BoundOf(const simt::KernelStatistics& k, const Device& d) {
  constexpr double kSector = 32, kFlopsOfInstruction = 2 * 16 * 8 * 16;
  Bound b;
  b.launches = k.launches;
  b.dram =
      kSector * static_cast<double>(k.memory.dram_read_sectors + k.memory.dram_written_sectors);
  b.l2 = kSector * static_cast<double>(k.memory.l2_sectors);
  b.l2_ideal = kSector * static_cast<double>(k.memory.l2_ideal_sectors);
  b.flops = kFlopsOfInstruction * static_cast<double>(k.matrix_instructions);
  b.shared = static_cast<double>(k.memory.shared_wavefronts);
  b.shared_ideal = static_cast<double>(k.memory.shared_ideal_wavefronts);
  const double memory = b.dram / d.dram_bytes, matrix = b.flops / (d.f16_flops * d.mma_share);
  const double banks = b.shared / (d.multiprocessors * d.clock);
  b.seconds = std::max({memory, matrix, banks});
  b.by = b.seconds == memory ? "DRAM" : b.seconds == matrix ? "matrix" : "shared";
  return b;
}

void Print(const Options& o) {
  const Counts one = CountStep(o, 1), two = CountStep(o, 2);
  std::printf("%s, %s, %s, %d rows of %d tokens on contexts of %d: bounds, not measurements\n",
              o.device->name, o.shape->name, GetDTypeInfo(o.type).name.data(), o.rows, o.tokens,
              o.context);
  std::printf("%-20s %8s %10s %10s %9s %8s %8s %10s %s\n", "kernel, of a layer", "launches",
              "DRAM KiB", "L2 KiB", "GFLOP", "sectors", "banks", "bound us", "by");
  double layer = 0, rest = 0;
  uint64_t launches = 0;
  for (const auto& [name, of_two] : two) {
    simt::KernelStatistics per = of_two;
    const auto it = one.find(name);
    simt::KernelStatistics base = it == one.end() ? simt::KernelStatistics{} : it->second;
    const Bound b1 = BoundOf(base, *o.device), b2 = BoundOf(per, *o.device);
    // What the second layer added.
    per.launches -= base.launches;
    per.matrix_instructions -= base.matrix_instructions;
    per.memory.dram_read_sectors -= base.memory.dram_read_sectors;
    per.memory.dram_written_sectors -= base.memory.dram_written_sectors;
    per.memory.l2_sectors -= base.memory.l2_sectors;
    per.memory.l2_ideal_sectors -= base.memory.l2_ideal_sectors;
    per.memory.shared_wavefronts -= base.memory.shared_wavefronts;
    per.memory.shared_ideal_wavefronts -= base.memory.shared_ideal_wavefronts;
    const Bound b = BoundOf(per, *o.device);
    layer += b.seconds;
    rest += std::max(b1.seconds - (b2.seconds - b1.seconds), 0.0);
    launches += b.launches;
    if (b.launches == 0) continue;
    const auto percent = [](double ideal, double is) { return is > 0 ? 100 * ideal / is : 100.0; };
    std::printf("%-20s %8llu %10.1f %10.1f %9.3f %7.1f%% %7.1f%% %10.2f %s\n", name.c_str(),
                static_cast<unsigned long long>(b.launches), b.dram / 1024, b.l2 / 1024,
                b.flops / 1e9, percent(b.l2_ideal, b.l2), percent(b.shared_ideal, b.shared),
                b.seconds * 1e6, b.by);
  }
  const double step = layer * o.shape->layers + rest;
  std::printf("a layer: %llu launches, bound %.2f us; embedding and head: bound %.2f us\n",
              static_cast<unsigned long long>(launches), layer * 1e6, rest * 1e6);
  std::printf("a step: bound %.3f ms, so at most %.0f tokens/s; launch times are not in it\n",
              step * 1e3, o.rows * o.tokens / step);
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  sluice::bench::Print(sluice::bench::Parse(argc, argv));
  return 0;
}
