// Memory of the device and pinned memory of the host, owned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sluice::cuda {

// The one place where an error of the runtime becomes a status. OK for cudaSuccess; else
// ResourceExhausted for memory, Internal for the rest, with the call and the error's name.
absl::Status ToStatus(cudaError_t error, std::string_view call);

// Allocations of one device that live until this ends. One thread at a time.
class DeviceArena {
 public:
  explicit DeviceArena(int device) : device_(device) {}
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;
  ~DeviceArena();

  // Aligned to 256 bytes, not filled; makes the device the calling thread's. Errors:
  // ResourceExhausted with what was asked for and is free.
  absl::StatusOr<void*> Allocate(int64_t bytes);

 private:
  const int device_;
  std::vector<void*> blocks_;
};

enum class MemoryKind { kDevice, kPinned };

// One growing block; its content is lost when it grows. T is trivially copyable.
template <class T, MemoryKind kKind>
class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { Free(); }

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] int64_t size() const { return size_; }
  // At least `count` elements. The device must not be using the block. Errors: those of ToStatus.
  absl::Status Reserve(int64_t count) {
    if (count <= size_) return absl::OkStatus();
    Free();
    void* data = nullptr;
    const auto bytes = static_cast<size_t>(count) * sizeof(T);
    const cudaError_t error =
        kKind == MemoryKind::kDevice ? cudaMalloc(&data, bytes) : cudaMallocHost(&data, bytes);
    if (error != cudaSuccess) return ToStatus(error, "allocating a step's memory");
    data_ = static_cast<T*>(data);
    size_ = count;
    return absl::OkStatus();
  }

 private:
  void Free() {
    if (data_ == nullptr) return;
    kKind == MemoryKind::kDevice ? cudaFree(data_) : cudaFreeHost(data_);
    data_ = nullptr;
    size_ = 0;
  }

  T* data_ = nullptr;
  int64_t size_ = 0;
};
template <class T>
using DeviceBlock = Block<T, MemoryKind::kDevice>;
template <class T>
using PinnedBlock = Block<T, MemoryKind::kPinned>;

}  // namespace sluice::cuda
