// Streams and events of the emulated runtime: what may run when, and what a missing dependency
// does.
#include "kernels/simt/runtime.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/simt/runtime_fixture.h"

namespace sluice::simt {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RuntimeStreams : public RuntimeTest {};

TEST_F(RuntimeStreams, NothingRunsBeforeSomebodyWaits) {
  const cudaStream_t stream = NonBlocking();
  int runs = 0;
  EXPECT_WORKS(Run(stream, [&] { ++runs; }));
  EXPECT_WORKS(Run(stream, [&] { ++runs; }));
  EXPECT_EQ(runs, 0);
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  EXPECT_EQ(runs, 2);
}

TEST_F(RuntimeStreams, WorkOfOneStreamRunsInItsOrderUnderEverySeed) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Reset(seed);
    const cudaStream_t stream = NonBlocking();
    std::vector<int> order;
    for (int i = 0; i < 5; ++i) EXPECT_WORKS(Run(stream, [&order, i] { order.push_back(i); }));
    EXPECT_WORKS(cudaDeviceSynchronize());
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
  }
}

// a writes 8 where b reads.
bool ChainIsWrong(bool with_event, cudaStream_t a, cudaStream_t b, cudaEvent_t event, int* x) {
  int host = 7, out = 0;
  EXPECT_WORKS(cudaMemcpyAsync(x, &host, sizeof(int), cudaMemcpyHostToDevice, a));
  static const char kernel = 0;
  EXPECT_WORKS(EnqueueKernel(&kernel, {.kernel = "add"}, a, [x] { *x += 1; }));
  if (with_event) {
    EXPECT_WORKS(cudaEventRecord(event, a));
    EXPECT_WORKS(cudaStreamWaitEvent(b, event, 0));
  }
  EXPECT_WORKS(cudaMemcpyAsync(&out, x, sizeof(int), cudaMemcpyDeviceToHost, b));
  EXPECT_WORKS(cudaStreamSynchronize(b));
  EXPECT_WORKS(cudaStreamSynchronize(a));
  return out != 8;
}

TEST_F(RuntimeStreams, AMissingEventGivesAWrongValueForSomeSeedsAndAnEventNever) {
  const auto wrong = [](bool with_event) {
    return CountSeeds([with_event] {
      return ChainIsWrong(with_event, NonBlocking(), NonBlocking(), NewEvent(), OnDevice<int>(1));
    });
  };
  EXPECT_GT(wrong(false), 5);
  EXPECT_EQ(wrong(true), 0);
}

// The dependency is violated only if 1 operation is later than 50 of the other stream.
TEST_F(RuntimeStreams, SomeSeedsLeaveAStreamFarBehind) {
  const int late = CountSeeds([] {
    const cudaStream_t a = NonBlocking(), b = NonBlocking();
    bool ran = false, late = false;
    EXPECT_WORKS(Run(a, [&] { ran = true; }));
    for (int i = 0; i < 50; ++i) EXPECT_WORKS(Run(b, [] {}));
    EXPECT_WORKS(Run(b, [&] { late = !ran; }));
    EXPECT_WORKS(cudaDeviceSynchronize());
    return late;
  });
  EXPECT_GT(late, 2);
}

TEST_F(RuntimeStreams, AnEventMeansTheLastRecordBeforeTheWait) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Reset(seed);
    const cudaStream_t a = NonBlocking(), b = NonBlocking();
    const cudaEvent_t event = NewEvent();
    int steps = 0, seen = -1;
    EXPECT_WORKS(cudaStreamWaitEvent(b, event, 0));  // never recorded: no wait
    for (int i = 0; i < 3; ++i) {
      EXPECT_WORKS(Run(a, [&] { ++steps; }));
      EXPECT_WORKS(cudaEventRecord(event, a));
    }
    EXPECT_WORKS(cudaStreamWaitEvent(b, event, 0));
    EXPECT_WORKS(Run(b, [&] { seen = steps; }));
    EXPECT_WORKS(cudaStreamSynchronize(b));
    EXPECT_EQ(seen, 3) << "seed " << seed;
  }
}

TEST_F(RuntimeStreams, TheDefaultStreamWaitsForBlockingStreamsAndNotForOthers) {
  const auto wrong = [](unsigned flags) {
    return CountSeeds([flags] {
      cudaStream_t stream = nullptr;
      EXPECT_WORKS(cudaStreamCreateWithFlags(&stream, flags));
      int before = 0, between = -1, after = -1;
      EXPECT_WORKS(Run(stream, [&] { before = 1; }));
      EXPECT_WORKS(Run(nullptr, [&] { between = before; }));
      EXPECT_WORKS(Run(stream, [&] { after = between; }));
      EXPECT_WORKS(cudaStreamSynchronize(stream));
      EXPECT_WORKS(cudaDeviceSynchronize());
      return between != 1 || after != 1;
    });
  };
  EXPECT_EQ(wrong(cudaStreamDefault), 0);
  EXPECT_GT(wrong(cudaStreamNonBlocking), 5);
}

TEST_F(RuntimeStreams, PollingGetsThere) {
  for (const uint64_t seed : {0, 1, 2}) {
    Reset(seed);
    const cudaStream_t a = NonBlocking(), b = NonBlocking();
    const cudaEvent_t event = NewEvent();
    EXPECT_WORKS(cudaEventQuery(event));
    for (int i = 0; i < 20; ++i) {
      EXPECT_WORKS(Run(a, [] {}));
      EXPECT_WORKS(Run(b, [] {}));
    }
    EXPECT_WORKS(cudaEventRecord(event, a));
    EXPECT_CUDA(cudaErrorNotReady, cudaEventQuery(event));
    while (cudaEventQuery(event) == cudaErrorNotReady) {
    }
    while (cudaStreamQuery(b) == cudaErrorNotReady) {
    }
    EXPECT_WORKS(cudaStreamQuery(a));
    EXPECT_WORKS(cudaGetLastError());  // "not ready" is none
  }
}

TEST_F(RuntimeStreams, TimeIsAMicrosecondAnOperation) {
  const cudaStream_t stream = NonBlocking();
  const cudaEvent_t begin = NewEvent(), end = NewEvent();
  EXPECT_WORKS(cudaEventRecord(begin, stream));
  for (int i = 0; i < 9; ++i) EXPECT_WORKS(Run(stream, [] {}));
  EXPECT_WORKS(cudaEventRecord(end, stream));
  float milliseconds = 0;
  EXPECT_CUDA(cudaErrorNotReady, cudaEventElapsedTime(&milliseconds, begin, end));
  EXPECT_WORKS(cudaEventSynchronize(end));
  EXPECT_WORKS(cudaEventElapsedTime(&milliseconds, begin, end));
  EXPECT_FLOAT_EQ(milliseconds, 0.010F);
  cudaEvent_t untimed = nullptr;
  EXPECT_WORKS(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
  EXPECT_WORKS(cudaEventRecord(untimed, stream));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&milliseconds, begin, untimed));
}

TEST_F(RuntimeStreams, ADestroyedStreamsWorkStillRuns) {
  const cudaStream_t stream = NonBlocking();
  const cudaEvent_t event = NewEvent();
  bool ran = false;
  EXPECT_WORKS(Run(stream, [&] { ran = true; }));
  EXPECT_WORKS(cudaEventRecord(event, stream));
  EXPECT_WORKS(cudaEventDestroy(event));
  EXPECT_WORKS(cudaStreamDestroy(stream));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, Run(stream, [] {}));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaEventRecord(event, nullptr));
  EXPECT_WORKS(cudaDeviceSynchronize());
  EXPECT_TRUE(ran);
}

TEST_F(RuntimeStreams, AHostFunctionRunsInTurnAndMustNotCallTheRuntime) {
  const cudaStream_t stream = NonBlocking();
  struct Seen {
    int value = 0, at_call = -1;
    cudaError_t error = cudaSuccess;
  } seen;
  EXPECT_WORKS(Run(stream, [&] { seen.value = 1; }));
  EXPECT_WORKS(cudaLaunchHostFunc(
      stream,
      [](void* data) {
        auto& s = *static_cast<Seen*>(data);
        s.at_call = s.value;
        s.error = cudaStreamSynchronize(nullptr);
      },
      &seen));
  EXPECT_WORKS(Run(stream, [&] { seen.value = 2; }));
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  EXPECT_EQ(seen.at_call, 1);
  EXPECT_EQ(seen.error, cudaErrorNotPermitted);
}

TEST_F(RuntimeStreams, WorkThatNobodyCanBeginIsReportedAndAnotherThreadsIsAwaited) {
  const cudaStream_t a = NonBlocking(), b = NonBlocking();
  std::atomic<bool> begun = false;
  EXPECT_WORKS(EnqueueWork("waits", a, nullptr, [&] { return begun.load(); }));
  SetStallTimeout(absl::Milliseconds(1));
  EXPECT_CUDA(cudaErrorLaunchTimeout, cudaStreamSynchronize(a));
  EXPECT_THAT(LastRefusal(), HasSubstr("waits for work that nobody enqueues"));
  SetStallTimeout(absl::Seconds(20));
  std::thread other([&] { EXPECT_WORKS(Run(b, [&] { begun = true; })); });
  EXPECT_WORKS(cudaStreamSynchronize(a));
  other.join();
}

TEST_F(RuntimeStreams, ThreadsHaveTheirOwnDeviceAndLastError) {
  Reset(1, {DeviceModel{}, DeviceModel{}});
  EXPECT_WORKS(cudaSetDevice(1));
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaSetDevice(2));
  std::thread([] {
    int device = -1;
    EXPECT_WORKS(cudaGetDevice(&device));
    EXPECT_EQ(device, 0);
    EXPECT_WORKS(cudaGetLastError());
  }).join();
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaPeekAtLastError());
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaGetLastError());
  EXPECT_WORKS(cudaGetLastError());
}

TEST_F(RuntimeStreams, ManyThreadsMayEnqueueAndWait) {
  Reset(3);
  std::atomic<int> runs = 0;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      const cudaStream_t stream = NonBlocking();
      for (int i = 0; i < 50; ++i) EXPECT_WORKS(Run(stream, [&] { ++runs; }));
      EXPECT_WORKS(cudaStreamSynchronize(stream));
      EXPECT_WORKS(cudaStreamDestroy(stream));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(runs, 200);
}

class RuntimeLaunches : public RuntimeTest {};

TEST_F(RuntimeLaunches, ConfigurationsThatNoCardTakesAreRefused) {
  const struct {
    Launch launch;
    cudaError_t error;
  } cases[] = {
      {{.kernel = "k", .grid = {0}}, cudaErrorInvalidConfiguration},
      {{.kernel = "k", .grid = {1, 65536}}, cudaErrorInvalidConfiguration},
      {{.kernel = "k", .block = {0}}, cudaErrorInvalidConfiguration},
      {{.kernel = "k", .block = {1025}}, cudaErrorInvalidConfiguration},
      {{.kernel = "k", .block = {1, 1, 65}}, cudaErrorInvalidConfiguration},
      {{.kernel = "k", .dynamic_shared_bytes = 49153}, cudaErrorInvalidValue},
      {{.kernel = "k", .dynamic_shared_bytes = 49152}, cudaSuccess},
  };
  const int kernel = 0;
  for (const auto& c : cases) {
    EXPECT_CUDA(c.error, EnqueueKernel(&kernel, c.launch, nullptr, [] {}));
    EXPECT_CUDA(c.error, cudaGetLastError());
  }
  EXPECT_WORKS(cudaDeviceSynchronize());
  EXPECT_TRUE(TakeFindings().empty());
}

TEST_F(RuntimeLaunches, MoreSharedMemoryMustBeAskedForOnEachDevice) {
  Reset(0, {{.major = 9, .minor = 0}, {.major = 8, .minor = 9}});
  const int kernel = 0;
  const Launch launch{.kernel = "k", .dynamic_shared_bytes = 90000};
  const auto ask = [&](int bytes) {
    return cudaFuncSetAttribute(&kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  EXPECT_WORKS(ask(90000));
  EXPECT_WORKS(EnqueueKernel(&kernel, launch, nullptr, [] {}));
  EXPECT_WORKS(ask(227 * 1024));
  EXPECT_CUDA(cudaErrorInvalidValue, ask(227 * 1024 + 1));
  cudaFuncAttributes attributes;
  EXPECT_WORKS(cudaFuncGetAttributes(&attributes, &kernel));
  EXPECT_EQ(attributes.maxDynamicSharedSizeBytes, 227 * 1024);
  EXPECT_WORKS(cudaSetDevice(1));
  EXPECT_CUDA(cudaErrorInvalidValue, EnqueueKernel(&kernel, launch, nullptr, [] {}));
  EXPECT_CUDA(cudaErrorInvalidValue, ask(100 * 1024));
  EXPECT_THAT(LastRefusal(), HasSubstr("compute capability 8.9 has 101376"));
  EXPECT_WORKS(ask(99 * 1024));
  EXPECT_WORKS(EnqueueKernel(&kernel, launch, nullptr, [] {}));
  EXPECT_WORKS(cudaDeviceSynchronize());
}

TEST_F(RuntimeLaunches, AStreamOfAnotherDeviceIsRefused) {
  Reset(0, {DeviceModel{}, DeviceModel{}});
  const cudaStream_t stream = NonBlocking();
  EXPECT_WORKS(cudaSetDevice(1));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, Run(stream, [] {}));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaEventRecord(NewEvent(), stream));
  int device = -1;
  EXPECT_WORKS(cudaStreamGetDevice(stream, &device));
  EXPECT_EQ(device, 0);
}

TEST_F(RuntimeLaunches, TheSeedDecidesTheOrderOfBlocks) {
  const auto orders = [](uint64_t seed) {
    Reset(seed);
    std::string order;
    const int kernel = 0;
    for (int i = 0; i < 3; ++i) {
      EXPECT_WORKS(EnqueueKernel(&kernel, {.kernel = "k", .grid = {8}}, nullptr,
                                 [&order] { order += static_cast<char>('0' + Place().block.x); }));
    }
    EXPECT_WORKS(cudaDeviceSynchronize());
    return order;
  };
  EXPECT_EQ(orders(0), "012345670123456701234567");
  EXPECT_NE(orders(5), orders(0));
  EXPECT_EQ(orders(5), orders(5));
}

TEST_F(RuntimeLaunches, StatisticsCountByKernelAndByCall) {
  const int kernel = 0;
  for (int i = 0; i < 3; ++i) {
    EXPECT_WORKS(EnqueueKernel(&kernel, {.kernel = "three", .grid = {2}, .block = {64}}, nullptr,
                               [] { Barrier(0, 0, {}); }));
  }
  int* const x = OnDevice<int>(4);
  const int host[4] = {};
  EXPECT_WORKS(cudaMemcpy(x, host, sizeof(host), cudaMemcpyHostToDevice));
  EXPECT_WORKS(cudaDeviceSynchronize());
  const Statistics statistics = TakeStatistics();
  const KernelStatistics& three = statistics.kernels.at("three");
  EXPECT_EQ(three.launches, 3U);
  EXPECT_EQ(three.blocks, 6U);
  EXPECT_EQ(three.threads, 6U * 64);
  EXPECT_EQ(three.barriers, 6U);
  EXPECT_EQ(statistics.calls.at("cudaMalloc"), 1U);
  EXPECT_EQ(statistics.host_to_device_bytes, sizeof(host));
  EXPECT_EQ(statistics.peak_memory_bytes, 512U);
  EXPECT_TRUE(TakeStatistics().kernels.empty());
}

}  // namespace
}  // namespace sluice::simt
