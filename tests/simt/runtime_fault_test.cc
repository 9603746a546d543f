// Devices that fail, that differ, and that are not there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/simt/runtime.h"
#include "tests/simt/runtime_fixture.h"

namespace sluice::simt {
namespace {

using testing::HasSubstr;

class RuntimeFaults : public RuntimeTest {};

TEST_F(RuntimeFaults, AChosenCallFailsOnce) {
  void* p = nullptr;
  InjectFault({.at = "cudaMalloc", .error = cudaErrorMemoryAllocation, .skip = 1});
  EXPECT_WORKS(cudaMalloc(&p, 4));
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaMalloc(&p, 4));
  EXPECT_THAT(LastRefusal(), HasSubstr("injected fault at cudaMalloc"));
  EXPECT_CUDA(cudaErrorMemoryAllocation, cudaGetLastError());
  EXPECT_WORKS(cudaMalloc(&p, 4));
}

TEST_F(RuntimeFaults, AFailedKernelFailsItsDeviceForGood) {
  for (const cudaError_t error : {cudaErrorLaunchFailure, cudaErrorECCUncorrectable}) {
    Reset(1, {DeviceModel{}, DeviceModel{}});
    const cudaStream_t stream = NonBlocking();
    int runs = 0;
    InjectFault({.at = "second", .error = error});
    EXPECT_WORKS(Run(stream, [&] { ++runs; }, "first"));
    EXPECT_WORKS(Run(stream, [&] { ++runs; }, "second"));
    (void)Run(stream, [&] { ++runs; }, "third");
    EXPECT_CUDA(error, cudaStreamSynchronize(stream));
    EXPECT_EQ(runs, 1);
    EXPECT_CUDA(error, cudaGetLastError());
    EXPECT_CUDA(error, cudaGetLastError());  // not cleared
    void* p = nullptr;
    EXPECT_CUDA(error, cudaMalloc(&p, 4));
    EXPECT_THAT(LastRefusal(), HasSubstr("in the kernel second"));
    EXPECT_CUDA(error, cudaDeviceSynchronize());
    EXPECT_WORKS(cudaStreamDestroy(stream));
    int count = 0;
    EXPECT_WORKS(cudaGetDeviceCount(&count));
    EXPECT_WORKS(cudaSetDevice(1));  // the other one works
    EXPECT_WORKS(Run(nullptr, [] {}));
    EXPECT_WORKS(cudaDeviceSynchronize());
  }
}

TEST_F(RuntimeFaults, ALastingErrorAtACallStays) {
  InjectFault({.at = "cudaMemsetAsync", .error = cudaErrorECCUncorrectable});
  int* const x = OnDevice<int>(1);
  EXPECT_CUDA(cudaErrorECCUncorrectable, cudaMemsetAsync(x, 0, 4, nullptr));
  EXPECT_CUDA(cudaErrorECCUncorrectable, cudaMemsetAsync(x, 0, 4, nullptr));
}

TEST_F(RuntimeFaults, AFindingFailsTheDevice) {
  const int kernel = 0;
  EXPECT_WORKS(EnqueueKernel(&kernel, {.kernel = "diverges", .block = {64}}, nullptr, [] {
    if (Place().thread.x < 32) Barrier(0, 0, {"here.cu", 12});
  }));
  EXPECT_CUDA(cudaErrorLaunchFailure, cudaDeviceSynchronize());
  EXPECT_THAT(LastRefusal(), HasSubstr("here.cu:12: barrier: kernel diverges"));
  const std::vector<Finding> findings = TakeFindings();
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].kind, FindingKind::kBarrier);
  EXPECT_TRUE(TakeFindings().empty());
}

// An error of the work within a graph, with nodes left.
TEST_F(RuntimeFaults, AGraphsNodeMayFail) {
  const cudaStream_t stream = NonBlocking();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t program = nullptr;
  int runs = 0;
  EXPECT_WORKS(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  EXPECT_WORKS(EnqueueWork("fails", stream, [] { FailWork(cudaErrorIllegalAddress, "broken"); }));
  EXPECT_WORKS(Run(stream, [&] { ++runs; }));
  EXPECT_WORKS(cudaStreamEndCapture(stream, &graph));
  EXPECT_WORKS(cudaGraphInstantiate(&program, graph, 0));
  EXPECT_WORKS(cudaGraphLaunch(program, stream));
  EXPECT_WORKS(cudaGraphLaunch(program, stream));
  EXPECT_CUDA(cudaErrorIllegalAddress, cudaStreamSynchronize(stream));
  EXPECT_EQ(LastRefusal(), "broken");
  EXPECT_EQ(runs, 0);
}

TEST_F(RuntimeFaults, WhoWaitsForAFailedDeviceIsNotLeftWaiting) {
  Reset(0, {DeviceModel{}, DeviceModel{}});
  const cudaStream_t stream = NonBlocking();
  const cudaEvent_t event = NewEvent();
  EXPECT_WORKS(EnqueueWork("fails", stream, [] { FailWork(cudaErrorLaunchFailure, "broken"); }));
  EXPECT_WORKS(cudaEventRecord(event, stream));
  EXPECT_WORKS(cudaSetDevice(1));
  const cudaStream_t other = NonBlocking();
  EXPECT_WORKS(cudaStreamWaitEvent(other, event, 0));
  EXPECT_WORKS(cudaStreamSynchronize(other));
  EXPECT_CUDA(cudaErrorLaunchFailure, cudaEventSynchronize(event));
}

class RuntimeDevices : public RuntimeTest {};

TEST_F(RuntimeDevices, AMachineWithoutDevicesSaysSo) {
  Reset(0, {});
  int count = -1;
  void* p = nullptr;
  EXPECT_CUDA(cudaErrorNoDevice, cudaGetDeviceCount(&count));
  EXPECT_EQ(count, 0);
  EXPECT_CUDA(cudaErrorNoDevice, cudaMalloc(&p, 4));
  EXPECT_CUDA(cudaErrorNoDevice, cudaSetDevice(0));
  EXPECT_STREQ(cudaGetErrorName(cudaErrorNoDevice), "cudaErrorNoDevice");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorNoDevice), "there is no device");
}

TEST_F(RuntimeDevices, PropertiesAreTheModels) {
  const struct {
    DeviceModel model;
    int shared_bytes;
  } cases[] = {
      {{.name = "A100", .major = 8, .minor = 0, .memory_bytes = size_t{40} << 30}, 163 << 10},
      {{.name = "L4", .major = 8, .minor = 9, .multiprocessors = 58}, 99 << 10},
      {{.name = "H100", .major = 9, .minor = 0, .l2_bytes = 50 << 20}, 227 << 10},
      {{.name = "B200", .major = 10, .minor = 0}, 227 << 10},
      {{.name = "RTX", .major = 12, .minor = 0}, 99 << 10},
  };
  std::vector<DeviceModel> models;
  for (const auto& c : cases) models.push_back(c.model);
  Reset(0, models);
  int count = 0;
  EXPECT_WORKS(cudaGetDeviceCount(&count));
  ASSERT_EQ(count, 5);
  for (int i = 0; i < count; ++i) {
    const auto& c = cases[i];
    cudaDeviceProp prop;
    EXPECT_WORKS(cudaGetDeviceProperties(&prop, i));
    EXPECT_EQ(prop.name, c.model.name);
    EXPECT_EQ(prop.totalGlobalMem, c.model.memory_bytes);
    const struct {
      cudaDeviceAttr attribute;
      int value;
    } attributes[] = {{cudaDevAttrComputeCapabilityMajor, c.model.major},
                      {cudaDevAttrComputeCapabilityMinor, c.model.minor},
                      {cudaDevAttrMultiProcessorCount, c.model.multiprocessors},
                      {cudaDevAttrL2CacheSize, c.model.l2_bytes},
                      {cudaDevAttrMaxSharedMemoryPerBlockOptin, c.shared_bytes},
                      {cudaDevAttrPciBusId, i + 1}};
    for (const auto& a : attributes) {
      int value = -1;
      EXPECT_WORKS(cudaDeviceGetAttribute(&value, a.attribute, i));
      EXPECT_EQ(value, a.value) << c.model.name << " " << a.attribute;
    }
    char bus[16];
    EXPECT_WORKS(cudaDeviceGetPCIBusId(bus, sizeof(bus), i));
    EXPECT_EQ(std::string(bus), "0000:0" + std::to_string(i + 1) + ":00.0");
  }
  int value = 0;
  EXPECT_CUDA(cudaErrorInvalidDevice, cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 5));
  EXPECT_CUDA(cudaErrorInvalidValue,
              cudaDeviceGetAttribute(&value, cudaDevAttrMaxTexture1DWidth, 0));
}

}  // namespace
}  // namespace sluice::simt
