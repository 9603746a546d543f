// bench_kernels [--isa=auto] [--threads=N] [--clock=cpu]
// [--group=linear|quants|step|rows|attention]: times the ops of the CPU backend after checking
// their results, and prints GB/s, GOP/s and percent of what this machine was measured to reach.
//
// Shapes are those of SmolLM2-135M (D 576, F 1536, 9 query and 3 KV heads of 64, V 49152, 30
// layers) with random weights: values do not change the speed. Times are the best and the median of
// many runs; a shared machine makes the best the steadier of the two.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "bench/kernels/ceilings.h"
#include "kernels/cpu/cpu_ops.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/weight_bytes.h"

namespace sluice::bench {
namespace {

constexpr int32_t kD = 576;
constexpr int32_t kF = 1536;
constexpr int32_t kQkv = 960;
constexpr int32_t kVocab = 49152;
constexpr int32_t kHead = 64;
constexpr int32_t kQueryHeads = 9;
constexpr int32_t kKvHeads = 3;
constexpr int32_t kBlockTokens = 16;
constexpr int kLayers = 30;

struct Options {
  CpuIsa isa = BestCpuIsa();
  int32_t threads = 2;
  std::string group;
};

struct Peaks {
  double bytes = 0, integer = 0, fma = 0;
};

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "bench_kernels: %s\n", message.c_str());
  std::exit(1);
}
template <class T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) Die(std::string(value.status().message()));
  return *std::move(value);
}

struct Timing {
  double best = 1e30, median = 0;  // seconds
};
// On a shared machine and with one thread, the thread's processor time leaves out what other
// programs take.
bool use_processor_time = false;
double Now() {
  timespec now{};
  clock_gettime(use_processor_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Timing Time(int runs, const std::function<void()>& work) {
  std::vector<double> seconds;
  work();
  for (int i = 0; i < runs; ++i) {
    const double begin = Now();
    work();
    seconds.push_back(Now() - begin);
  }
  std::ranges::sort(seconds);
  return {seconds.front(), seconds[seconds.size() / 2]};
}

// Memory of the backend, filled with N(0, 1).
float* Noise(Ops& ops, int64_t count) {
  auto* p = static_cast<float*>(Must(ops.Allocate(count * 4)));
  std::mt19937 random(1);
  std::normal_distribution<float> value;
  for (int64_t i = 0; i < count; ++i) p[i] = value(random);
  return p;
}

Linear RandomLinear(Ops& ops, DType dtype, int32_t rows, int32_t cols, uint32_t seed = 1) {
  const std::vector<uint8_t> bytes = RandomWeightBytes(dtype, rows, cols, seed);
  const WeightView view{dtype, rows, cols, bytes.data()};
  const Linear linear = Must(ops.LoadLinear({&view, 1}));
  if (seed != 1) return linear;
  // The check before timing: three rows against double precision.
  const int32_t m = 3;
  float* x = Noise(ops, m * cols);
  auto* y = static_cast<float*>(Must(ops.Allocate(int64_t{m} * rows * 4)));
  const Tensor in{x, m, cols, cols};
  ops.BeginStep(BatchView{});
  ops.MatMul(in, linear, {}, {y, m, rows, rows});
  if (!ops.Finish().ok()) Die("a matmul failed");
  const WeightView some{dtype, std::min(rows, 200), cols, bytes.data()};
  const bool quantised = GetDTypeInfo(dtype).block_elements > 1;
  const auto want =
      quantised ? reference::MatMulInt8(in, {&some, 1}) : reference::MatMul(in, {&some, 1});
  const auto magnitude = reference::MatMulMagnitude(in, {&some, 1});
  for (int64_t i = 0; i < m * some.rows; ++i) {
    const auto at = static_cast<size_t>(i);
    if (std::abs(y[i / some.rows * rows + i % some.rows] - want[at]) >
        magnitude[at] * 1e-5 + 1e-30) {
      Die("a matmul differs from double precision");
    }
  }
  return linear;
}

void PrintRate(const std::string& name, const Timing& time, int64_t count, double bytes,
               double operations, const Peaks& peaks, double peak_operations) {
  const auto n = static_cast<double>(count);
  std::printf("%-34s %10.2f us (median %10.2f)  %6.1f GB/s %3.0f%%  %7.1f GOP/s %3.0f%%\n",
              name.c_str(), time.best / n * 1e6, time.median / n * 1e6,
              bytes * n / time.best * 1e-9, 100 * bytes * n / time.best / peaks.bytes,
              operations * n / time.best * 1e-9,
              peak_operations > 0 ? 100 * operations * n / time.best / peak_operations : 0.0);
  std::fflush(stdout);
}

void BenchLinear(Ops& ops, const Peaks& peaks) {
  struct Shape {
    DType dtype;
    int32_t rows, cols;
  };
  std::printf(
      "\nlinear, weights hot in cache but for the head; percent of read bandwidth and of the dot "
      "or fma peak\n");
  for (const Shape s :
       {Shape{DType::kQ4_1, kQkv, kD}, Shape{DType::kQ4_1, kD, kD}, Shape{DType::kQ4_1, 2 * kF, kD},
        Shape{DType::kQ4_1, kD, kF}, Shape{DType::kQ4_0, kQkv, kD}, Shape{DType::kQ8_0, kQkv, kD},
        Shape{DType::kF32, kQkv, kD}, Shape{DType::kF16, kQkv, kD}, Shape{DType::kBF16, kQkv, kD},
        Shape{DType::kQ8_0, kVocab, kD}}) {
    const Linear w = RandomLinear(ops, s.dtype, s.rows, s.cols);
    const DTypeInfo info = GetDTypeInfo(s.dtype);
    const double weight_bytes = double(s.rows) * s.cols / info.block_elements * info.block_bytes;
    for (const int32_t m : {1, 2, 4, 8, 16, 32, 128, 512}) {
      if (s.rows == kVocab && m > 32) continue;
      float* x = Noise(ops, int64_t{m} * s.cols);
      auto* y = static_cast<float*>(Must(ops.Allocate(int64_t{m} * s.rows * 4)));
      const double operations = 2.0 * m * s.rows * s.cols;
      const auto inner = std::clamp<int64_t>(static_cast<int64_t>(1e8 / operations), 1, 100);
      const Timing time = Time(61, [&] {
        ops.BeginStep(BatchView{});
        for (int64_t i = 0; i < inner; ++i)
          ops.MatMul({x, m, s.cols, s.cols}, w, {}, {y, m, s.rows, s.rows});
        if (!ops.Finish().ok()) Die("a matmul failed");
      });
      const std::string name = std::string(info.name) + " " + std::to_string(s.rows) + "x" +
                               std::to_string(s.cols) + " M " + std::to_string(m);
      PrintRate(name, time, inner, weight_bytes + 4.0 * m * (s.rows + s.cols), operations, peaks,
                info.block_elements > 1 ? peaks.integer : peaks.fma);
    }
  }
}

// Every quantised type at one shape hot in cache and, on one row, from memory.
void BenchQuants(Ops& ops, const Peaks& peaks) {
  std::printf("\nquantised types; percent of read bandwidth and of the dot peak\n");
  for (const DType dtype :
       {DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kIq4Nl,
        DType::kQ2K, DType::kQ3K, DType::kQ4K, DType::kQ5K, DType::kQ6K}) {
    constexpr int32_t kCols = 768;
    const DTypeInfo info = GetDTypeInfo(dtype);
    for (const int32_t rows : {kQkv, 2 * kVocab}) {
      const Linear w = RandomLinear(ops, dtype, rows, kCols);
      const double weight_bytes = double(rows) * kCols / info.block_elements * info.block_bytes;
      for (const int32_t m : {1, 12, 128}) {
        if (rows != kQkv && m > 1) continue;
        float* x = Noise(ops, int64_t{m} * kCols);
        auto* y = static_cast<float*>(Must(ops.Allocate(int64_t{m} * rows * 4)));
        const double operations = 2.0 * m * rows * kCols;
        const auto inner = std::clamp<int64_t>(static_cast<int64_t>(1e8 / operations), 1, 100);
        const Timing time = Time(31, [&] {
          ops.BeginStep(BatchView{});
          for (int64_t i = 0; i < inner; ++i)
            ops.MatMul({x, m, kCols, kCols}, w, {}, {y, m, rows, rows});
          if (!ops.Finish().ok()) Die("a matmul failed");
        });
        const std::string name = std::string(info.name) + " " + std::to_string(rows) + "x" +
                                 std::to_string(kCols) + " M " + std::to_string(m);
        PrintRate(name, time, inner, weight_bytes + 4.0 * m * (rows + kCols), operations, peaks,
                  peaks.integer);
      }
    }
  }
}

void BenchStep(Ops& ops, const Peaks& peaks) {
  std::printf(
      "\nall matmuls of one step, 30 layers of Q4_1 and the Q8_0 head (on 1 row from M 100), from "
      "memory\n");
  struct Layer {
    Linear qkv, o, gate_up, down;
  };
  std::vector<Layer> layers;
  for (int l = 0; l < kLayers; ++l) {
    layers.push_back({RandomLinear(ops, DType::kQ4_1, kQkv, kD, 2),
                      RandomLinear(ops, DType::kQ4_1, kD, kD, 2),
                      RandomLinear(ops, DType::kQ4_1, 2 * kF, kD, 2),
                      RandomLinear(ops, DType::kQ4_1, kD, kF, 2)});
  }
  const Linear head = RandomLinear(ops, DType::kQ8_0, kVocab, kD, 2);
  const double layer_weights = double(kD) * (kQkv + kD + 3 * kF);
  const double head_weights = double(kD) * kVocab;
  float* x = Noise(ops, int64_t{512} * kF);
  float* y = Noise(ops, int64_t{512} * 2 * kF);
  auto* logits = static_cast<float*>(Must(ops.Allocate(int64_t{64} * kVocab * 4)));
  for (const int32_t m : {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512}) {
    const int32_t head_rows = m > 100 ? 1 : m;
    const Timing time = Time(m > 100 ? 9 : 31, [&] {
      ops.BeginStep(BatchView{});
      for (const Layer& layer : layers) {
        ops.MatMul({x, m, kD, kD}, layer.qkv, {}, {y, m, kQkv, kQkv});
        ops.MatMul({x, m, kD, kD}, layer.o, {}, {y, m, kD, kD});
        ops.MatMul({x, m, kD, kD}, layer.gate_up, {}, {y, m, 2 * kF, 2 * kF});
        ops.MatMul({x, m, kF, kF}, layer.down, {}, {y, m, kD, kD});
      }
      ops.MatMul({x, head_rows, kD, kD}, head, {}, {logits, head_rows, kVocab, kVocab});
      if (!ops.Finish().ok()) Die("a step failed");
    });
    PrintRate("step M " + std::to_string(m), time, 1,
              kLayers * layer_weights * 20 / 32 + head_weights * 34 / 32,
              2 * (kLayers * layer_weights * m + head_weights * head_rows), peaks, peaks.integer);
    std::printf("%-34s %10.0f rows/s\n", "", m / time.best);
  }
}

void BenchRows(Ops& ops, const Peaks& peaks) {
  std::printf("\nrow ops, data hot in cache\n");
  const std::vector<float> ones(kD, 1.0F);
  const Vector weight = Must(ops.LoadVector({DType::kF32, 1, kD, ones.data()}));
  float* x = Noise(ops, int64_t{512} * 2 * kF);
  float* y = Noise(ops, int64_t{512} * kF);
  for (const int32_t m : {1, 16, 512}) {
    constexpr int64_t kInner = 20;
    const Timing norm = Time(31, [&] {
      ops.BeginStep(BatchView{});
      for (int64_t i = 0; i < kInner; ++i)
        ops.RmsNorm({x, m, kD, kD}, weight, {.eps = 1e-5F}, {}, {y, m, kD, kD});
      if (!ops.Finish().ok()) Die("a norm failed");
    });
    PrintRate("RmsNorm M " + std::to_string(m), norm, kInner, 8.0 * m * kD, 4.0 * m * kD, peaks,
              peaks.fma);
    const Timing silu = Time(31, [&] {
      ops.BeginStep(BatchView{});
      for (int64_t i = 0; i < kInner; ++i)
        ops.GateMul({x, m, 2 * kF, 2 * kF}, Activation::kSilu, {y, m, kF, kF});
      if (!ops.Finish().ok()) Die("a silu failed");
    });
    PrintRate("SiluMul M " + std::to_string(m), silu, kInner, 12.0 * m * kF, 30.0 * m * kF, peaks,
              peaks.fma);
  }
}

// `rows` rows of `new_tokens` tokens on top of a context, over as many layers as fit 64 MB or all.
void BenchAttentionOf(Ops& ops, const Peaks& peaks, int32_t rows, int32_t new_tokens,
                      int32_t context) {
  const int32_t row_blocks = (context + kBlockTokens - 1) / kBlockTokens;
  KvLayer kv{nullptr, rows * row_blocks, kBlockTokens, kKvHeads, kHead};
  const int64_t layer_bytes = ops.KvBlockBytes(kv) * kv.num_blocks;
  std::vector<void*> layers;
  for (int l = 0; l < kLayers; ++l) layers.push_back(Must(ops.Allocate(layer_bytes)));
  std::vector<int32_t> positions, row_begin = {0}, context_len, blocks, block_begin = {0}, outputs,
                                  slots;
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t i = context - new_tokens; i < context; ++i) positions.push_back(i);
    for (int32_t b = 0; b < row_blocks; ++b) blocks.push_back(r * row_blocks + b);
    row_begin.push_back(static_cast<int32_t>(positions.size()));
    block_begin.push_back(static_cast<int32_t>(blocks.size()));
    context_len.push_back(context);
    slots.push_back(r);
  }
  const auto tokens = static_cast<int32_t>(positions.size());
  const std::vector<int32_t> ids(positions.size(), 0);
  const BatchView batch{tokens,           rows,
                        ids.data(),       positions.data(),
                        row_begin.data(), context_len.data(),
                        blocks.data(),    block_begin.data(),
                        slots.data()};
  float* qkv = Noise(ops, int64_t{tokens} * kQkv);
  auto* out = static_cast<float*>(Must(ops.Allocate(int64_t{tokens} * kD * 4)));
  const Timing time = Time(new_tokens > 1 ? 7 : 15, [&] {
    ops.BeginStep(batch);
    for (void* layer : layers) {
      kv.data = layer;
      ops.Attention(Tensor{qkv, tokens, kQkv, kQkv}.Columns(0, kD), kQueryHeads, {.scale = 0.125F},
                    kv, {out, tokens, kD, kD});
    }
    if (const absl::Status status = ops.Finish(); !status.ok()) Die(std::string(status.message()));
  });
  double pairs = 0;
  for (const int32_t p : positions) pairs += p + 1;
  PrintRate("attention R " + std::to_string(rows) + " new " + std::to_string(new_tokens) +
                " context " + std::to_string(context),
            time, 1, static_cast<double>(layer_bytes) * kLayers, 4.0 * pairs * kD * kLayers, peaks,
            peaks.fma);
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg.starts_with("--isa=")) {
      options.isa = Must(ParseCpuIsa(arg.substr(6)));
    } else if (arg.starts_with("--threads=")) {
      options.threads = std::atoi(argv[i] + 10);
    } else if (arg == "--clock=cpu") {
      use_processor_time = true;
    } else if (arg.starts_with("--group=")) {
      options.group = arg.substr(8);
    } else {
      Die("usage: bench_kernels [--isa=auto|avx512|avx2|scalar] [--threads=N] [--clock=cpu] "
          "[--group=linear|quants|step|rows|attention]");
    }
  }
  std::string line;
  for (std::ifstream cpu("/proc/cpuinfo"); std::getline(cpu, line);) {
    if (line.starts_with("model name")) break;
  }
  if (use_processor_time && options.threads != 1) Die("--clock=cpu needs --threads=1");
  const Peaks peaks{ReadBandwidth(options.threads), IntegerPeak(options.isa, options.threads),
                    FloatPeak(options.isa, options.threads)};
  std::printf(
      "%s; %s; %d threads; read %.1f GB/s; int8 dot peak %.0f GOP/s; fma peak %.0f GFLOP/s\n",
      line.c_str(), std::string(CpuIsaName(options.isa)).c_str(), options.threads,
      peaks.bytes * 1e-9, peaks.integer * 1e-9, peaks.fma * 1e-9);
  const auto wants = [&](std::string_view group) {
    return options.group.empty() || options.group == group;
  };
  const auto fresh = [&] { return Must(CreateCpuOps({options.isa, options.threads})); };
  if (wants("linear")) BenchLinear(*fresh(), peaks);
  if (wants("quants")) BenchQuants(*fresh(), peaks);
  if (wants("step")) BenchStep(*fresh(), peaks);
  if (wants("rows")) BenchRows(*fresh(), peaks);
  if (wants("attention")) {
    std::printf("\nattention, 30 layers of f16 KV\n");
    for (const int32_t context : {160, 256, 1024}) {
      for (const int32_t rows : {1, 4, 16, 32}) BenchAttentionOf(*fresh(), peaks, rows, 1, context);
    }
    BenchAttentionOf(*fresh(), peaks, 1, 512, 512);
  }
  return 0;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) { return sluice::bench::Main(argc, argv); }
