// cudaMalloc, cudaMemcpy, cudaMemset and their kin.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/simt/memory.h"
#include "kernels/simt/runtime_state.h"

namespace sluice::simt {
namespace {

constexpr int kUnderWay = 0xDB;        // what the target of a copy holds until it runs
constexpr size_t kChargedBytes = 512;  // in steps of which a card hands out its memory

size_t Charge(size_t bytes) { return (bytes + kChargedBytes - 1) / kChargedBytes * kChargedBytes; }

cudaError_t AllocateOnDevice(Runtime& runtime, void** pointer, size_t bytes) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  Device& device = runtime.device();
  const size_t left = device.model.memory_bytes - device.used_bytes;
  if (bytes > left || Charge(bytes) > left) {
    return Runtime::Refuse(
        cudaErrorMemoryAllocation,
        fmt::format("{} bytes; {} of {} are left", bytes, left, device.model.memory_bytes));
  }
  *pointer = runtime.memory.Allocate(Runtime::thread().device, bytes);
  if (*pointer == nullptr) {
    return Runtime::Refuse(cudaErrorMemoryAllocation, "the host has no memory for it");
  }
  device.used_bytes += Charge(bytes);
  size_t& peak = runtime.statistics.peak_memory_bytes;
  peak = std::max(peak, device.used_bytes);
  return cudaSuccess;
}

// The block that begins at `pointer`, of a device or of the host.
const MemoryBlock* FindBegin(const Runtime& runtime, const void* pointer, bool of_device) {
  const MemoryBlock* const block = runtime.memory.Find(pointer);
  return block != nullptr && block->begin == pointer && (block->device >= 0) == of_device ? block
                                                                                          : nullptr;
}

void Release(Runtime& runtime, const MemoryBlock& block) {
  if (block.device >= 0) {
    runtime.devices[static_cast<size_t>(block.device)].used_bytes -= Charge(block.bytes);
  }
  runtime.memory.Free(block.begin);
}

cudaError_t AllocatePinned(Runtime& runtime, void** pointer, size_t bytes) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = bytes == 0 ? nullptr : runtime.memory.Allocate(kHostMemory, bytes);
  return bytes == 0 || *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

// `height` rows of `width` bytes, `*_pitch` apart.
struct Transfer {
  std::byte* to = nullptr;
  size_t to_pitch = 0;
  const std::byte* from = nullptr;
  size_t from_pitch = 0, width = 0, height = 1;
  int to_device = kHostMemory, from_device = kHostMemory;
  bool to_pinned = false, from_pinned = false;

  [[nodiscard]] size_t to_bytes() const { return to_pitch * (height - 1) + width; }
  [[nodiscard]] size_t from_bytes() const { return from_pitch * (height - 1) + width; }
  void Run(const std::byte* source) const {
    for (size_t row = 0; row < height; ++row) {
      std::memmove(to + row * to_pitch, source + row * from_pitch, width);
      MemoryWritten(to + row * to_pitch, width);
    }
  }
};

struct Place {
  int device = kHostMemory;
  bool pinned = false;
};

cudaError_t FindPlace(const Runtime& runtime, const std::byte* begin, size_t bytes, Place& place) {
  if (begin == nullptr) return Runtime::Refuse(cudaErrorInvalidValue, "a copy with a null pointer");
  const MemoryBlock* const block = runtime.memory.Find(begin);
  if (block == nullptr || (begin == block->end() && block->device < 0)) return cudaSuccess;
  if (bytes > static_cast<size_t>(block->end() - begin)) {
    return Runtime::Refuse(cudaErrorInvalidValue,
                           fmt::format("{} bytes at offset {} of an allocation of {}", bytes,
                                       begin - block->begin, block->bytes));
  }
  place = {.device = block->device, .pinned = true};
  return cudaSuccess;
}

cudaError_t CheckKind(const Transfer& t, cudaMemcpyKind kind) {
  const bool to_device = t.to_device >= 0, from_device = t.from_device >= 0;
  const bool fits = kind == cudaMemcpyDefault ||
                    (kind == cudaMemcpyHostToHost && !to_device && !from_device) ||
                    (kind == cudaMemcpyHostToDevice && to_device && !from_device) ||
                    (kind == cudaMemcpyDeviceToHost && !to_device && from_device) ||
                    (kind == cudaMemcpyDeviceToDevice && to_device && from_device);
  if (fits) return cudaSuccess;
  // Pinned memory has an address on the device: it may stand on either side.
  const bool as_device = (to_device || t.to_pinned) && (from_device || t.from_pinned);
  if (kind == cudaMemcpyDeviceToDevice && as_device) return cudaSuccess;
  return Runtime::Refuse(
      cudaErrorInvalidValue,
      fmt::format("a copy of kind {} from {} to {} memory", static_cast<int>(kind),
                  from_device ? "device" : "host", to_device ? "device" : "host"));
}

void Count(Statistics& statistics, const Transfer& t) {
  const uint64_t bytes = uint64_t{t.width} * t.height;
  if (t.to_device >= 0 && t.from_device >= 0) {
    statistics.device_to_device_bytes += bytes;
  } else if (t.to_device >= 0) {
    statistics.host_to_device_bytes += bytes;
  } else if (t.from_device >= 0) {
    statistics.device_to_host_bytes += bytes;
  }
}

// What every copy needs to know before it is enqueued. `of_stream`: whose memory it may touch.
cudaError_t Place2(const Runtime& runtime, Transfer& t, cudaMemcpyKind kind, int of_stream) {
  Place to, from;
  if (const cudaError_t error = FindPlace(runtime, t.to, t.to_bytes(), to); error != cudaSuccess) {
    return error;
  }
  if (const cudaError_t error = FindPlace(runtime, t.from, t.from_bytes(), from);
      error != cudaSuccess) {
    return error;
  }
  t.to_device = to.device, t.to_pinned = to.pinned;
  t.from_device = from.device, t.from_pinned = from.pinned;
  for (const int device : {t.to_device, t.from_device}) {
    if (device >= 0 && device != of_stream) {
      return Runtime::Refuse(
          cudaErrorInvalidValue,
          fmt::format("memory of device {} in a copy on a stream of device {}", device, of_stream));
    }
  }
  return CheckKind(t, kind);
}

bool StageNow(Runtime& runtime, const Transfer& t, bool synchronous, bool captured) {
  const bool from_pageable = t.from_device < 0 && !t.from_pinned;
  return from_pageable && !captured && (synchronous || runtime.queues.Choose(2) == 0);
}

// Whether the call returns only when the copy has run. See the head of runtime.h.
bool Waits(Runtime& runtime, const Transfer& t, bool synchronous, bool captured) {
  if (captured) return false;
  const bool to_host = t.to_device < 0, from_host = t.from_device < 0;
  if (to_host && from_host) return true;
  if (synchronous) return to_host || (from_host && t.from_pinned);
  return to_host && !t.to_pinned && runtime.queues.Choose(2) == 1;
}

cudaError_t EnqueueTransfer(Runtime& runtime, Stream& stream, cudaStream_t handle,
                            const Transfer& t, bool synchronous) {
  const bool captured = stream.capture != nullptr;
  const int device = stream.device;
  const auto milestone = std::make_shared<Milestone>();
  Operation operation{.milestone = milestone};
  if (StageNow(runtime, t, synchronous, captured)) {
    if (synchronous) {
      const Stream* const waited = &stream;
      const cudaError_t error =
          runtime.RunUntil(device, [waited] { return waited->queue.empty(); });
      if (error != cudaSuccess) return error;
    }
    auto staged = std::make_shared<std::vector<std::byte>>(t.from, t.from + t.from_bytes());
    operation.run = [&runtime, t, staged = std::move(staged)] {
      t.Run(staged->data());
      Count(runtime.statistics, t);
    };
  } else {
    operation.run = [&runtime, t] {
      t.Run(t.from);
      Count(runtime.statistics, t);
    };
    if (t.from_device < 0) operation.reads = {t.from, t.from_bytes()};
  }
  if (t.to_device < 0 && t.from_device >= 0 && !captured &&
      !runtime.queues.MayRead({t.to, t.to_bytes()})) {
    for (size_t row = 0; row < t.height; ++row) {
      std::memset(t.to + row * t.to_pitch, kUnderWay, t.width);
    }
  }
  const bool waits = Waits(runtime, t, synchronous, captured);
  const cudaError_t error = runtime.Enqueue(handle, std::move(operation));
  if (error != cudaSuccess || !waits) return error;
  return runtime.RunUntil(device, [&milestone] { return milestone->reached; });
}

cudaError_t CopyMemory(const char* name, Transfer t, cudaMemcpyKind kind, cudaStream_t handle,
                       bool synchronous) {
  const CallKind call = synchronous ? CallKind::kNotInCapture : CallKind::kOrdinary;
  return Call(name, call, [&](Runtime& runtime) -> cudaError_t {
    if (t.width == 0 || t.height == 0) return cudaSuccess;
    Stream* const stream = runtime.FindStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t error = Place2(runtime, t, kind, stream->device);
    return error == cudaSuccess ? EnqueueTransfer(runtime, *stream, handle, t, synchronous) : error;
  });
}

Transfer Row(void* to, const void* from, size_t bytes) {
  return {.to = static_cast<std::byte*>(to),
          .from = static_cast<const std::byte*>(from),
          .width = bytes};
}

cudaError_t FillMemory(const char* name, void* to, int value, size_t bytes, cudaStream_t handle) {
  return Call(name, CallKind::kOrdinary, [&](Runtime& runtime) -> cudaError_t {
    if (bytes == 0) return cudaSuccess;
    const Stream* const stream = runtime.FindStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    Place place;
    const cudaError_t error = FindPlace(runtime, static_cast<const std::byte*>(to), bytes, place);
    if (error != cudaSuccess) return error;
    if (!place.pinned || (place.device >= 0 && place.device != stream->device)) {
      return Runtime::Refuse(cudaErrorInvalidValue, "the memory is not the stream's device's");
    }
    return runtime.Enqueue(handle, {.run = [to, value, bytes] {
                             std::memset(to, value, bytes);
                             MemoryWritten(to, bytes);
                           }});
  });
}

}  // namespace
}  // namespace sluice::simt

using namespace sluice::simt;  // NOLINT(google-build-using-namespace): what follows is CUDA's

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return Call("cudaMalloc", CallKind::kNotInCapture,
              [&](Runtime& runtime) { return AllocateOnDevice(runtime, pointer, bytes); });
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  return Call("cudaMallocAsync", CallKind::kNotInCapture, [&](Runtime& runtime) {
    if (runtime.FindStream(stream) == nullptr) return cudaErrorInvalidResourceHandle;
    return AllocateOnDevice(runtime, pointer, bytes);
  });
}

// Waits for the device, as cudaFree in fact does.
cudaError_t cudaFree(void* pointer) {
  return Call("cudaFree", CallKind::kNotInCapture, [&](Runtime& runtime) -> cudaError_t {
    if (pointer == nullptr) return cudaSuccess;
    const MemoryBlock* const block = FindBegin(runtime, pointer, true);
    if (block == nullptr) {
      return Runtime::Refuse(cudaErrorInvalidValue, "no device allocation begins there");
    }
    const int device = block->device;
    const cudaError_t error =
        runtime.RunUntil(device, [&] { return runtime.queues.IsIdle(device); });
    // Another thread may have freed it meanwhile.
    const MemoryBlock* const still = FindBegin(runtime, pointer, true);
    if (still == nullptr) return cudaErrorInvalidValue;
    Release(runtime, *still);
    return error;
  });
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return Call("cudaFreeAsync", CallKind::kNotInCapture, [&](Runtime& runtime) -> cudaError_t {
    if (pointer == nullptr) return cudaSuccess;
    if (FindBegin(runtime, pointer, true) == nullptr) {
      return Runtime::Refuse(cudaErrorInvalidValue, "no device allocation begins there");
    }
    return runtime.Enqueue(stream, {.run = [&runtime, pointer] {
                             const MemoryBlock* const block = FindBegin(runtime, pointer, true);
                             if (block != nullptr) Release(runtime, *block);
                           }});
  });
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return Call("cudaMallocHost", CallKind::kNotInCapture,
              [&](Runtime& runtime) { return AllocatePinned(runtime, pointer, bytes); });
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return Call("cudaHostAlloc", CallKind::kNotInCapture,
              [&](Runtime& runtime) { return AllocatePinned(runtime, pointer, bytes); });
}

cudaError_t cudaFreeHost(void* pointer) {
  return Call("cudaFreeHost", CallKind::kNotInCapture, [&](Runtime& runtime) -> cudaError_t {
    if (pointer == nullptr) return cudaSuccess;
    const MemoryBlock* const block = FindBegin(runtime, pointer, false);
    if (block == nullptr || block->pages == nullptr) {
      return Runtime::Refuse(cudaErrorInvalidValue, "no pinned allocation begins there");
    }
    for (int device = 0; device < static_cast<int>(runtime.devices.size()); ++device) {
      (void)runtime.RunUntil(device, [&] { return runtime.queues.IsIdle(device); });
    }
    runtime.memory.Free(static_cast<std::byte*>(pointer));
    return cudaSuccess;
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  return Call("cudaHostRegister", CallKind::kNotInCapture, [&](Runtime& runtime) {
    if (pointer == nullptr || bytes == 0) return cudaErrorInvalidValue;
    const MemoryBlock* const block = runtime.memory.Find(pointer);
    if (block != nullptr && pointer != block->end()) return cudaErrorHostMemoryAlreadyRegistered;
    runtime.memory.Register(static_cast<std::byte*>(pointer), bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return Call("cudaHostUnregister", CallKind::kNotInCapture, [&](Runtime& runtime) {
    const MemoryBlock* const block = FindBegin(runtime, pointer, false);
    if (block == nullptr || block->pages != nullptr) return cudaErrorHostMemoryNotRegistered;
    runtime.memory.Free(static_cast<std::byte*>(pointer));
    return cudaSuccess;
  });
}

cudaError_t cudaHostGetDevicePointer(void** on_device, void* pointer, unsigned) {
  return Call("cudaHostGetDevicePointer", CallKind::kOrdinary, [&](Runtime& runtime) {
    const MemoryBlock* const block = runtime.memory.Find(pointer);
    if (on_device == nullptr || block == nullptr || block->device >= 0) {
      return cudaErrorInvalidValue;
    }
    *on_device = pointer;
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return Call("cudaPointerGetAttributes", CallKind::kOrdinary, [&](Runtime& runtime) {
    if (attributes == nullptr) return cudaErrorInvalidValue;
    *attributes = {};
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -1;
    const MemoryBlock* const block = runtime.memory.Find(pointer);
    if (block == nullptr || pointer == block->end()) return cudaSuccess;
    const bool on_device = block->device >= 0;
    attributes->type = on_device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    attributes->device = on_device ? block->device : Runtime::thread().device;
    attributes->devicePointer = const_cast<void*>(pointer);
    attributes->hostPointer = on_device ? nullptr : const_cast<void*>(pointer);
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return CopyMemory("cudaMemcpy", Row(to, from, bytes), kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return CopyMemory("cudaMemcpyAsync", Row(to, from, bytes), kind, stream, false);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) to = nullptr;  // refused as a null pointer is
  Transfer t = Row(to, from, width);
  t.to_pitch = to_pitch, t.from_pitch = from_pitch, t.height = height;
  return CopyMemory("cudaMemcpy2DAsync", t, kind, stream, false);
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return FillMemory("cudaMemset", to, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return FillMemory("cudaMemsetAsync", to, value, bytes, stream);
}
