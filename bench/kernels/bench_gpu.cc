// bench_gpu: times the CUDA kernels with events on a card and prints one JSON: each product and
// attention as bytes/s and FLOP/s, with the share of what the same run reached in a copy. Medians
// of kRuns; the smallest and the largest beside them. Shapes are Llama 3.1 8B's.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/weight_tile.h"

namespace sluice::cuda {
namespace {

constexpr int kWarmUps = 3, kRuns = 21;

void Must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "bench_gpu: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
T* Allocate(int64_t count, int fill = 0) {
  void* data = nullptr;
  const auto bytes = static_cast<size_t>(count) * sizeof(T);
  Must(cudaMalloc(&data, bytes), "cudaMalloc");
  Must(cudaMemset(data, fill, bytes), "cudaMemset");
  return static_cast<T*>(data);
}

struct Times {
  double median, least, most;  // seconds
};
Times TimeOf(cudaStream_t stream, const std::function<cudaError_t()>& launch) {
  cudaEvent_t begin, end;
  Must(cudaEventCreate(&begin), "cudaEventCreate");
  Must(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<double> seconds;
  for (int i = 0; i < kWarmUps + kRuns; ++i) {
    Must(cudaEventRecord(begin, stream), "cudaEventRecord");
    Must(launch(), "a launch");
    Must(cudaEventRecord(end, stream), "cudaEventRecord");
    Must(cudaEventSynchronize(end), "a kernel");
    float milliseconds = 0;
    Must(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    if (i >= kWarmUps) seconds.push_back(milliseconds * 1e-3);
  }
  Must(cudaEventDestroy(begin), "cudaEventDestroy");
  Must(cudaEventDestroy(end), "cudaEventDestroy");
  std::ranges::sort(seconds);
  return {seconds[kRuns / 2], seconds.front(), seconds.back()};
}

std::string Entry(const std::string& name, const Times& t, double bytes, double flops,
                  double copy_rate) {
  return fmt::format(
      R"({{"name":"{}","us":{:.2f},"us_least":{:.2f},"us_most":{:.2f},"gb_per_s":{:.1f},)"
      R"("share_of_copy":{:.3f},"tflop_per_s":{:.2f}}})",
      name, t.median * 1e6, t.least * 1e6, t.most * 1e6, bytes / t.median * 1e-9,
      bytes / t.median / copy_rate, flops / t.median * 1e-12);
}

// A copy of half a GiB: bytes read and written a second.
double CopyRate(cudaStream_t stream, int64_t bytes) {
  auto* from = Allocate<uint8_t>(bytes);
  auto* to = Allocate<uint8_t>(bytes);
  const Times t = TimeOf(stream, [&] {
    return cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream);
  });
  Must(cudaFree(from), "cudaFree");
  Must(cudaFree(to), "cudaFree");
  return 2 * static_cast<double>(bytes) / t.median;
}

// Weights are written anew between shapes, never between runs: a matrix larger than the L2 cache is
// read from memory each time, a smaller one may not be.
void Products(cudaStream_t stream, double copy_rate, std::vector<std::string>& out) {
  constexpr struct {
    WeightFormat format;
    const char* name;
  } kFormats[] = {{WeightFormat::kInt4Nested, "int4_nested"},
                  {WeightFormat::kInt6, "int6"},
                  {WeightFormat::kInt8, "int8"},
                  {WeightFormat::kHalf, "half"}};
  constexpr int32_t kN = 28672, kK = 4096;
  for (const auto& [format, name] : kFormats) {
    const int64_t bytes = int64_t{kN / kPanelRows} * InfoOf(format).panel_bytes(kK / kTileColumns);
    const auto* weights = Allocate<uint8_t>(bytes, 0x11);
    const auto* row_scale = Allocate<float>(kN);
    for (const int32_t rows : {1, 8, 16, 32, 64, 128, 512, 2048}) {
      const Halves x{Allocate<uint16_t>(int64_t{rows} * kK), Allocate<float>(rows), kK};
      auto* y = Allocate<float>(int64_t{rows} * kN);
      const LinearArgs args{.format = format,
                            .weights = weights,
                            .row_scale = row_scale,
                            .rows = kN,
                            .columns = kK,
                            .x = x,
                            .num_x_rows = rows,
                            .residual = nullptr,
                            .residual_stride = 0,
                            .out = y,
                            .out_stride = kN};
      const double moved = static_cast<double>(bytes) + 2.0 * rows * kK + 4.0 * rows * kN;
      const double flops = 2.0 * rows * kN * kK;
      out.push_back(Entry(fmt::format("linear {} {} rows", name, rows),
                          TimeOf(stream, [&] { return LinearRows(args, stream); }), moved, flops,
                          copy_rate));
      if (rows >= 64) {
        out.push_back(Entry(fmt::format("linear_tiled {} {} rows", name, rows),
                            TimeOf(stream, [&] { return LinearTiled(args, {}, stream); }), moved,
                            flops, copy_rate));
      }
      Must(cudaFree(x.data), "cudaFree");
      Must(cudaFree(x.scale), "cudaFree");
      Must(cudaFree(y), "cudaFree");
    }
    Must(cudaFree(const_cast<uint8_t*>(weights)), "cudaFree");
    Must(cudaFree(const_cast<float*>(row_scale)), "cudaFree");
  }
}

}  // namespace
}  // namespace sluice::cuda

int main() {
  using namespace sluice::cuda;
  const auto devices = sluice::FindCudaDevices();
  if (!devices.ok()) {
    std::fprintf(stderr, "bench_gpu: %s\n", std::string(devices.status().message()).c_str());
    return 3;
  }
  const sluice::CudaDevice& device = devices->front();
  Must(cudaSetDevice(device.index), "cudaSetDevice");
  cudaStream_t stream = nullptr;
  Must(cudaStreamCreate(&stream), "cudaStreamCreate");
  const double copy_rate = CopyRate(stream, int64_t{1} << 29);
  std::vector<std::string> entries;
  Products(stream, copy_rate, entries);
  std::printf(
      "{\"device\":\"%s\",\"compute_capability\":\"%d.%d\",\"copy_gb_per_s\":%.1f,\"kernels\":[\n",
      device.name.c_str(), device.major, device.minor, copy_rate * 1e-9);
  for (size_t i = 0; i < entries.size(); ++i)
    std::printf("%s%s\n", entries[i].c_str(), i + 1 < entries.size() ? "," : "");
  std::printf("]}\n");
  return 0;
}
