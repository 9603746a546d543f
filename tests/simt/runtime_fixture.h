// What the tests of the emulated runtime share: a fresh machine for each, and short ways to launch.
#pragma once

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/simt/grid.h"
#include "kernels/simt/runtime.h"

namespace sluice::simt {

#define EXPECT_CUDA(error, call)                                                            \
  do {                                                                                      \
    const cudaError_t cuda_error_ = (call);                                                 \
    EXPECT_EQ(cuda_error_, error) << #call << ": " << cudaGetErrorName(cuda_error_) << ": " \
                                  << LastRefusal();                                         \
  } while (0)
#define EXPECT_WORKS(call) EXPECT_CUDA(cudaSuccess, call)

class RuntimeTest : public testing::Test {
 protected:
  void SetUp() override { Reset(0); }
  void TearDown() override {
    Reset(0);
    SetStallTimeout(absl::Seconds(20));
  }

  static void Reset(uint64_t seed, std::vector<DeviceModel> devices = {DeviceModel{}}) {
    SetDevices(std::move(devices));
    SetSeed(seed);
  }
  static cudaStream_t NonBlocking() {
    cudaStream_t stream = nullptr;
    EXPECT_WORKS(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  }
  static cudaEvent_t NewEvent() {
    cudaEvent_t event = nullptr;
    EXPECT_WORKS(cudaEventCreate(&event));
    return event;
  }
  template <class T>
  static T* OnDevice(size_t count) {
    void* p = nullptr;
    EXPECT_WORKS(cudaMalloc(&p, count * sizeof(T)));
    return static_cast<T*>(p);
  }
  template <class T>
  static T* Pinned(size_t count) {
    void* p = nullptr;
    EXPECT_WORKS(cudaMallocHost(&p, count * sizeof(T)));
    return static_cast<T*>(p);
  }
  // One thread that runs f.
  static cudaError_t Run(cudaStream_t stream, std::function<void()> f, const char* name = "test") {
    static const char kernel = 0;
    return EnqueueKernel(&kernel, {.kernel = name}, stream, std::move(f));
  }
  // What is at `p` on the device once `stream` is done.
  template <class T>
  static T Read(const T* p, cudaStream_t stream) {
    T value{};
    EXPECT_WORKS(cudaMemcpyAsync(&value, p, sizeof(T), cudaMemcpyDeviceToHost, stream));
    EXPECT_WORKS(cudaStreamSynchronize(stream));
    return value;
  }
  // Of seeds 1 to 40: for how many is wrong() true, each on a fresh machine?
  static int CountSeeds(const std::function<bool()>& wrong) {
    int count = 0;
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      Reset(seed);
      count += wrong() ? 1 : 0;
    }
    return count;
  }
};

}  // namespace sluice::simt
