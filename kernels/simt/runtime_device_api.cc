// Devices, kernels' attributes, versions and errors.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/simt/runtime_state.h"

namespace sluice::simt {
namespace {

bool Exists(const Runtime& runtime, int device) {
  return device >= 0 && device < static_cast<int>(runtime.devices.size());
}

void Describe(const Device& device, int index, cudaDeviceProp& prop) {
  prop = {};
  const DeviceModel& model = device.model;
  std::snprintf(prop.name, sizeof(prop.name), "%s", model.name.c_str());
  prop.major = model.major;
  prop.minor = model.minor;
  prop.totalGlobalMem = model.memory_bytes;
  prop.multiProcessorCount = model.multiprocessors;
  prop.l2CacheSize = model.l2_bytes;
  prop.warpSize = static_cast<int>(kWarpThreads);
  prop.maxThreadsPerBlock = static_cast<int>(kMaxBlockThreads);
  prop.maxThreadsPerMultiProcessor = 2048;
  prop.maxThreadsDim[0] = prop.maxThreadsDim[1] = static_cast<int>(kMaxBlockThreads);
  prop.maxThreadsDim[2] = 64;
  prop.maxGridSize[0] = INT32_MAX;
  prop.maxGridSize[1] = prop.maxGridSize[2] = static_cast<int>(kMaxGridYZ);
  prop.sharedMemPerBlock = size_t{48} << 10;
  prop.sharedMemPerBlockOptin = device.max_shared_bytes();
  prop.sharedMemPerMultiprocessor = device.max_shared_bytes() + 1024;
  prop.reservedSharedMemPerBlock = 1024;
  prop.regsPerBlock = prop.regsPerMultiprocessor = 65536;
  prop.pciBusID = index + 1;
  prop.unifiedAddressing = 1;
  prop.concurrentKernels = 1;
  prop.asyncEngineCount = 2;
  prop.canMapHostMemory = 1;
}

// False: not known here.
bool FindAttribute(const Device& device, int index, cudaDeviceAttr attribute, int& value) {
  cudaDeviceProp prop;
  Describe(device, index, prop);
  using Known = std::pair<cudaDeviceAttr, int>;
  const Known known[] = {
      {cudaDevAttrComputeCapabilityMajor, prop.major},
      {cudaDevAttrComputeCapabilityMinor, prop.minor},
      {cudaDevAttrMultiProcessorCount, prop.multiProcessorCount},
      {cudaDevAttrMaxThreadsPerBlock, prop.maxThreadsPerBlock},
      {cudaDevAttrMaxThreadsPerMultiProcessor, prop.maxThreadsPerMultiProcessor},
      {cudaDevAttrMaxSharedMemoryPerBlock, static_cast<int>(prop.sharedMemPerBlock)},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, static_cast<int>(prop.sharedMemPerBlockOptin)},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor,
       static_cast<int>(prop.sharedMemPerMultiprocessor)},
      {cudaDevAttrReservedSharedMemoryPerBlock, static_cast<int>(prop.reservedSharedMemPerBlock)},
      {cudaDevAttrMaxRegistersPerBlock, prop.regsPerBlock},
      {cudaDevAttrMaxRegistersPerMultiprocessor, prop.regsPerMultiprocessor},
      {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
      {cudaDevAttrWarpSize, prop.warpSize},
      {cudaDevAttrL2CacheSize, prop.l2CacheSize},
      {cudaDevAttrPciBusId, prop.pciBusID},
      {cudaDevAttrPciDeviceId, 0},
      {cudaDevAttrPciDomainId, 0},
      {cudaDevAttrMaxGridDimX, prop.maxGridSize[0]},
      {cudaDevAttrMaxGridDimY, prop.maxGridSize[1]},
      {cudaDevAttrMaxGridDimZ, prop.maxGridSize[2]},
      {cudaDevAttrUnifiedAddressing, 1},
      {cudaDevAttrConcurrentKernels, 1},
      {cudaDevAttrAsyncEngineCount, prop.asyncEngineCount},
      {cudaDevAttrCanMapHostMemory, 1},
      {cudaDevAttrHostRegisterSupported, 1},
      {cudaDevAttrMemoryPoolsSupported, 1},
      {cudaDevAttrIntegrated, 0},
      {cudaDevAttrComputeMode, cudaComputeModeDefault},
  };
  const auto* const found = std::ranges::find(known, attribute, &Known::first);
  if (found == std::end(known)) return false;
  value = found->second;
  return true;
}

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
#define SLUICE_ERROR(error, text) {error, #error, text}
constexpr ErrorText kErrors[] = {
    SLUICE_ERROR(cudaSuccess, "no error"),
    SLUICE_ERROR(cudaErrorInvalidValue, "an argument out of its range"),
    SLUICE_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    SLUICE_ERROR(cudaErrorInitializationError, "the driver could not start"),
    SLUICE_ERROR(cudaErrorInsufficientDriver, "the driver is absent or too old"),
    SLUICE_ERROR(cudaErrorNoDevice, "there is no device"),
    SLUICE_ERROR(cudaErrorInvalidDevice, "there is no device of this number"),
    SLUICE_ERROR(cudaErrorInvalidConfiguration, "a grid or block of an impossible size"),
    SLUICE_ERROR(cudaErrorInvalidDeviceFunction, "there is no such kernel for this device"),
    SLUICE_ERROR(cudaErrorInvalidResourceHandle, "no such stream, event or graph"),
    SLUICE_ERROR(cudaErrorIllegalState, "not in this state"),
    SLUICE_ERROR(cudaErrorNotReady, "not ready yet"),
    SLUICE_ERROR(cudaErrorIllegalAddress, "an access to memory that is not there"),
    SLUICE_ERROR(cudaErrorMisalignedAddress, "a misaligned access"),
    SLUICE_ERROR(cudaErrorLaunchFailure, "a kernel failed while it ran"),
    SLUICE_ERROR(cudaErrorLaunchTimeout, "the work took too long"),
    SLUICE_ERROR(cudaErrorLaunchOutOfResources, "too many resources for a launch"),
    SLUICE_ERROR(cudaErrorECCUncorrectable, "an uncorrectable error of memory (ECC)"),
    SLUICE_ERROR(cudaErrorNvlinkUncorrectable, "an uncorrectable error of NVLink"),
    SLUICE_ERROR(cudaErrorHardwareStackError, "an error in a kernel's call stack"),
    SLUICE_ERROR(cudaErrorAssert, "a kernel's assertion failed"),
    SLUICE_ERROR(cudaErrorHostMemoryAlreadyRegistered, "the memory is pinned already"),
    SLUICE_ERROR(cudaErrorHostMemoryNotRegistered, "the memory was not pinned"),
    SLUICE_ERROR(cudaErrorNotPermitted, "not permitted here"),
    SLUICE_ERROR(cudaErrorNotSupported, "not supported"),
    SLUICE_ERROR(cudaErrorStreamCaptureUnsupported, "not allowed while a stream captures"),
    SLUICE_ERROR(cudaErrorStreamCaptureInvalidated, "the capture was ended by an earlier error"),
    SLUICE_ERROR(cudaErrorStreamCaptureMerge, "two captures would become one"),
    SLUICE_ERROR(cudaErrorStreamCaptureUnmatched, "the capture began elsewhere"),
    SLUICE_ERROR(cudaErrorStreamCaptureUnjoined, "the capture has work that nobody waits for"),
    SLUICE_ERROR(cudaErrorStreamCaptureIsolation, "a capture cannot wait for what is outside it"),
    SLUICE_ERROR(cudaErrorStreamCaptureImplicit, "the default stream is not captured"),
    SLUICE_ERROR(cudaErrorStreamCaptureWrongThread, "the capture began in another thread"),
    SLUICE_ERROR(cudaErrorCapturedEvent, "the event belongs to a capture"),
    SLUICE_ERROR(cudaErrorUnknown, "an unknown error"),
};
#undef SLUICE_ERROR

const ErrorText* FindText(cudaError_t error) {
  const auto* const found = std::ranges::find(kErrors, error, &ErrorText::error);
  return found == std::end(kErrors) ? nullptr : found;
}

cudaError_t SetAttribute(Runtime& runtime, const void* kernel, cudaFuncAttribute attribute,
                         int value) {
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0) {
    return cudaErrorInvalidValue;
  }
  Device& device = runtime.device();
  if (static_cast<size_t>(value) > device.max_shared_bytes()) {
    return Runtime::Refuse(
        cudaErrorInvalidValue,
        fmt::format("{} bytes of shared memory; compute capability {}.{} has {}", value,
                    device.model.major, device.model.minor, device.max_shared_bytes()));
  }
  device.dynamic_shared[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}

// The error that stays, if there is one, else the thread's last.
cudaError_t LastError(bool clear) {
  Runtime& runtime = Runtime::Get();
  Runtime::ThreadState& thread = Runtime::thread();
  if (!thread.in_host_function) {
    MutexLock lock(runtime.mutex);
    if (thread.device < static_cast<int>(runtime.devices.size()) &&
        runtime.device().failed != cudaSuccess) {
      return runtime.device().failed;
    }
  }
  return clear ? std::exchange(thread.last_error, cudaSuccess) : thread.last_error;
}

}  // namespace
}  // namespace sluice::simt

using namespace sluice::simt;  // NOLINT(google-build-using-namespace): what follows is CUDA's

cudaError_t cudaGetDeviceCount(int* count) {
  if (count != nullptr) *count = 0;
  return Call("cudaGetDeviceCount", CallKind::kHarmless, [&](Runtime& runtime) {
    if (count == nullptr) return cudaErrorInvalidValue;
    *count = static_cast<int>(runtime.devices.size());
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return Call("cudaSetDevice", CallKind::kHarmless, [&](Runtime& runtime) {
    if (!Exists(runtime, device)) return cudaErrorInvalidDevice;
    Runtime::thread().device = device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return Call("cudaGetDevice", CallKind::kHarmless, [&](Runtime&) {
    if (device == nullptr) return cudaErrorInvalidValue;
    *device = Runtime::thread().device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int device) {
  return Call("cudaGetDeviceProperties", CallKind::kHarmless, [&](Runtime& runtime) {
    if (!Exists(runtime, device)) return cudaErrorInvalidDevice;
    if (prop == nullptr) return cudaErrorInvalidValue;
    Describe(runtime.devices[static_cast<size_t>(device)], device, *prop);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return Call("cudaDeviceGetAttribute", CallKind::kHarmless, [&](Runtime& runtime) {
    if (!Exists(runtime, device)) return cudaErrorInvalidDevice;
    const Device& asked = runtime.devices[static_cast<size_t>(device)];
    if (value == nullptr || !FindAttribute(asked, device, attribute, *value)) {
      return Runtime::Refuse(cudaErrorInvalidValue, fmt::format("attribute {} is not emulated",
                                                                static_cast<int>(attribute)));
    }
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int bytes, int device) {
  return Call("cudaDeviceGetPCIBusId", CallKind::kHarmless, [&](Runtime& runtime) {
    if (!Exists(runtime, device)) return cudaErrorInvalidDevice;
    if (text == nullptr || bytes < 13) return cudaErrorInvalidValue;
    std::snprintf(text, static_cast<size_t>(bytes), "0000:%02X:00.0",
                  static_cast<unsigned>(device + 1));
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return Call("cudaDeviceCanAccessPeer", CallKind::kHarmless, [&](Runtime& runtime) {
    if (!Exists(runtime, device) || !Exists(runtime, peer)) return cudaErrorInvalidDevice;
    if (can == nullptr) return cudaErrorInvalidValue;
    *can = 0;
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return Call("cudaMemGetInfo", CallKind::kOrdinary, [&](Runtime& runtime) {
    if (free == nullptr || total == nullptr) return cudaErrorInvalidValue;
    *total = runtime.device().model.memory_bytes;
    *free = *total - runtime.device().used_bytes;
    return cudaSuccess;
  });
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  return Call("cudaFuncSetAttribute", CallKind::kOrdinary,
              [&](Runtime& runtime) { return SetAttribute(runtime, kernel, attribute, value); });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  return Call("cudaFuncGetAttributes", CallKind::kOrdinary, [&](Runtime& runtime) {
    if (attributes == nullptr) return cudaErrorInvalidValue;
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    *attributes = {};
    const Device& device = runtime.device();
    const auto asked = device.dynamic_shared.find(kernel);
    attributes->maxDynamicSharedSizeBytes =
        asked == device.dynamic_shared.end() ? 48 << 10 : static_cast<int>(asked->second);
    attributes->maxThreadsPerBlock = static_cast<int>(kMaxBlockThreads);
    attributes->binaryVersion = attributes->ptxVersion = device.capability();
    return cudaSuccess;
  });
}

cudaError_t cudaGetLastError() { return LastError(true); }
cudaError_t cudaPeekAtLastError() { return LastError(false); }

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* const found = FindText(error);
  return found == nullptr ? "unrecognized error code" : found->name;
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* const found = FindText(error);
  return found == nullptr ? "unrecognized error code" : found->text;
}

cudaError_t cudaDriverGetVersion(int* version) {
  if (version == nullptr) return cudaErrorInvalidValue;
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  if (version == nullptr) return cudaErrorInvalidValue;
  *version = CUDART_VERSION;
  return cudaSuccess;
}
