// Capture and launch of graphs in the emulated runtime.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "kernels/simt/runtime.h"
#include "tests/simt/runtime_fixture.h"

namespace sluice::simt {
namespace {

class RuntimeGraphs : public RuntimeTest {
 protected:
  // Of what `enqueue` puts on `stream`.
  static cudaGraphExec_t Capture(cudaStream_t stream, const std::function<void()>& enqueue) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t program = nullptr;
    EXPECT_WORKS(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    enqueue();
    EXPECT_WORKS(cudaStreamEndCapture(stream, &graph));
    EXPECT_WORKS(cudaGraphInstantiate(&program, graph, 0));
    EXPECT_WORKS(cudaGraphDestroy(graph));
    return program;
  }
};

TEST_F(RuntimeGraphs, CapturedWorkRunsOnceALaunchAndNotBefore) {
  const cudaStream_t stream = NonBlocking();
  int runs = 0;
  const cudaGraphExec_t program = Capture(stream, [&] {
    EXPECT_WORKS(Run(stream, [&] { ++runs; }));
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    EXPECT_WORKS(cudaStreamIsCapturing(stream, &status));
    EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  });
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  EXPECT_EQ(runs, 0);
  for (int i = 0; i < 3; ++i) EXPECT_WORKS(cudaGraphLaunch(program, stream));
  EXPECT_EQ(runs, 0);
  EXPECT_WORKS(cudaGraphExecDestroy(program));  // what is launched still runs
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  EXPECT_EQ(runs, 3);
  EXPECT_CUDA(cudaErrorInvalidValue, cudaGraphLaunch(program, stream));
  EXPECT_EQ(TakeStatistics().graph_launches, 3U);
}

TEST_F(RuntimeGraphs, CopiesReadTheirSourceAtEachLaunch) {
  const cudaStream_t stream = NonBlocking();
  int *const source = Pinned<int>(1), *const x = OnDevice<int>(1);
  int* const out = Pinned<int>(1);
  const cudaGraphExec_t program = Capture(stream, [&] {
    EXPECT_WORKS(cudaMemcpyAsync(x, source, sizeof(int), cudaMemcpyHostToDevice, stream));
    EXPECT_WORKS(Run(stream, [x] { *x *= 2; }));
    EXPECT_WORKS(cudaMemcpyAsync(out, x, sizeof(int), cudaMemcpyDeviceToHost, stream));
  });
  for (const int value : {4, 5}) {
    *source = value;
    EXPECT_WORKS(cudaGraphLaunch(program, stream));
    EXPECT_WORKS(cudaStreamSynchronize(stream));
    EXPECT_EQ(*out, 2 * value);
  }
}

// Two branches that both follow `first` and precede `last`.
struct Fork {
  std::vector<int> order;
  cudaStream_t a, b;
  cudaEvent_t forked, joined;
};

void EnqueueFork(Fork& f, bool join) {
  static const char kernel = 0;
  const auto note = [&f](cudaStream_t stream, int what) {
    EXPECT_WORKS(EnqueueKernel(&kernel, {.kernel = "note"}, stream,
                               [&f, what] { f.order.push_back(what); }));
  };
  note(f.a, 0);
  EXPECT_WORKS(cudaEventRecord(f.forked, f.a));
  EXPECT_WORKS(cudaStreamWaitEvent(f.b, f.forked, 0));
  note(f.a, 1);
  note(f.b, 2);
  EXPECT_WORKS(cudaEventRecord(f.joined, f.b));
  if (join) EXPECT_WORKS(cudaStreamWaitEvent(f.a, f.joined, 0));
  note(f.a, 3);
}

TEST_F(RuntimeGraphs, BranchesRunInAnyOrderBetweenForkAndJoin) {
  const int reversed = CountSeeds([] {
    Fork f{.a = NonBlocking(), .b = NonBlocking(), .forked = NewEvent(), .joined = NewEvent()};
    const cudaGraphExec_t program = Capture(f.a, [&] { EnqueueFork(f, true); });
    EXPECT_WORKS(cudaGraphLaunch(program, f.b));
    EXPECT_WORKS(cudaStreamSynchronize(f.b));
    EXPECT_EQ(f.order.front(), 0);
    EXPECT_EQ(f.order.back(), 3);
    return f.order == std::vector<int>{0, 2, 1, 3};
  });
  EXPECT_GT(reversed, 5);
  EXPECT_LT(reversed, 35);
}

TEST_F(RuntimeGraphs, ABranchThatNobodyJoinsIsRefused) {
  Fork f{.a = NonBlocking(), .b = NonBlocking(), .forked = NewEvent(), .joined = NewEvent()};
  EXPECT_WORKS(cudaStreamBeginCapture(f.a, cudaStreamCaptureModeThreadLocal));
  EnqueueFork(f, false);
  cudaGraph_t graph = nullptr;
  EXPECT_CUDA(cudaErrorStreamCaptureUnmatched, cudaStreamEndCapture(f.b, &graph));
  EXPECT_CUDA(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(f.a, &graph));
  EXPECT_WORKS(cudaStreamBeginCapture(f.a, cudaStreamCaptureModeThreadLocal));
  EnqueueFork(f, false);
  EXPECT_CUDA(cudaErrorStreamCaptureUnjoined, cudaStreamEndCapture(f.a, &graph));
  EXPECT_EQ(graph, nullptr);
  EXPECT_WORKS(cudaStreamSynchronize(f.b));
  EXPECT_TRUE(f.order.empty());
}

// Launched in two streams, one program still runs in one place at a time.
TEST_F(RuntimeGraphs, AProgramDoesNotOverlapItself) {
  const int overlaps = CountSeeds([] {
    const cudaStream_t a = NonBlocking(), b = NonBlocking();
    int inside = 0;
    bool overlapped = false;
    const cudaGraphExec_t program = Capture(a, [&] {
      EXPECT_WORKS(Run(a, [&] { overlapped |= ++inside > 1; }));
      for (int i = 0; i < 20; ++i) EXPECT_WORKS(Run(a, [] {}));
      EXPECT_WORKS(Run(a, [&] { --inside; }));
    });
    EXPECT_WORKS(cudaGraphLaunch(program, a));
    EXPECT_WORKS(cudaGraphLaunch(program, b));
    EXPECT_WORKS(cudaDeviceSynchronize());
    return overlapped;
  });
  EXPECT_EQ(overlaps, 0);
}

TEST_F(RuntimeGraphs, OtherStreamsRunBetweenTheNodesOfALaunch) {
  const int between = CountSeeds([] {
    const cudaStream_t a = NonBlocking(), b = NonBlocking();
    int done = 0, seen = -1;
    const cudaGraphExec_t program = Capture(a, [&] {
      for (int i = 0; i < 4; ++i) EXPECT_WORKS(Run(a, [&] { ++done; }));
    });
    EXPECT_WORKS(cudaGraphLaunch(program, a));
    EXPECT_WORKS(Run(b, [&] { seen = done; }));
    EXPECT_WORKS(cudaDeviceSynchronize());
    return seen > 0 && seen < 4;
  });
  EXPECT_GT(between, 2);
}

TEST_F(RuntimeGraphs, WhatACaptureForbidsEndsIt) {
  const cudaStream_t stream = NonBlocking();
  cudaStream_t blocking = nullptr;
  EXPECT_WORKS(cudaStreamCreate(&blocking));
  const cudaEvent_t outside = NewEvent(), inside = NewEvent();
  EXPECT_WORKS(cudaEventRecord(outside, stream));
  void* p = nullptr;
  int value = 0;
  const struct {
    cudaStream_t captures;
    std::function<cudaError_t()> call;
    cudaError_t error;
  } cases[] = {
      {stream, [&] { return cudaMalloc(&p, 4); }, cudaErrorStreamCaptureUnsupported},
      {stream, [&] { return cudaMemcpy(&value, &value, 4, cudaMemcpyDefault); },
       cudaErrorStreamCaptureUnsupported},
      {stream, [&] { return cudaDeviceSynchronize(); }, cudaErrorStreamCaptureUnsupported},
      {stream, [&] { return cudaStreamSynchronize(stream); }, cudaErrorStreamCaptureUnsupported},
      {stream, [&] { return cudaStreamQuery(stream); }, cudaErrorStreamCaptureUnsupported},
      {stream, [&] { return cudaStreamWaitEvent(stream, outside, 0); },
       cudaErrorStreamCaptureIsolation},
      {blocking, [&] { return Run(nullptr, [] {}); }, cudaErrorStreamCaptureImplicit},
  };
  for (const auto& c : cases) {
    EXPECT_WORKS(cudaStreamBeginCapture(c.captures, cudaStreamCaptureModeThreadLocal));
    EXPECT_CUDA(c.error, c.call());
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(c.captures, &graph));
  }
  EXPECT_CUDA(cudaErrorStreamCaptureUnsupported,
              cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal));
  EXPECT_WORKS(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  EXPECT_WORKS(cudaMalloc(&p, 4));  // relaxed
  EXPECT_WORKS(cudaEventRecord(inside, stream));
  EXPECT_CUDA(cudaErrorCapturedEvent, cudaEventSynchronize(inside));
  EXPECT_CUDA(cudaErrorIllegalState, cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  cudaGraph_t graph = nullptr;
  EXPECT_WORKS(cudaStreamEndCapture(stream, &graph));
  EXPECT_CUDA(cudaErrorIllegalState, cudaStreamEndCapture(stream, &graph));
}

// A thread's capture does not disturb another's calls; a global one does.
TEST_F(RuntimeGraphs, TheModeSaysWhoseCallsAreForbidden) {
  for (const auto mode : {cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeGlobal}) {
    const cudaStream_t stream = NonBlocking();
    EXPECT_WORKS(cudaStreamBeginCapture(stream, mode));
    std::thread([mode] {
      void* p = nullptr;
      EXPECT_CUDA(
          mode == cudaStreamCaptureModeGlobal ? cudaErrorStreamCaptureUnsupported : cudaSuccess,
          cudaMalloc(&p, 4));
    }).join();
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(
        mode == cudaStreamCaptureModeGlobal ? cudaErrorStreamCaptureInvalidated : cudaSuccess,
        cudaStreamEndCapture(stream, &graph));
  }
}

TEST_F(RuntimeGraphs, AnEmptyGraphIsLaunched) {
  const cudaStream_t stream = NonBlocking();
  const cudaGraphExec_t program = Capture(stream, [] {});
  bool ran = false;
  EXPECT_WORKS(cudaGraphLaunch(program, stream));
  EXPECT_WORKS(Run(stream, [&] { ran = true; }));
  EXPECT_WORKS(cudaStreamSynchronize(stream));
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace sluice::simt
