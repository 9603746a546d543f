// The memory of emulated devices and the pinned memory of the host: pages of their own with guards
// around them. Private to this folder; the runtime's lock protects it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>

namespace sluice::simt {

inline constexpr int kHostMemory = -1;           // in place of a device
inline constexpr size_t kAllocationBytes = 256;  // allocations are aligned to it, as cudaMalloc's

struct MemoryBlock {
  std::byte* begin = nullptr;
  size_t bytes = 0;
  int device = kHostMemory;
  std::byte* pages = nullptr;  // what can be touched, guards excluded; null: the caller's memory
  size_t page_bytes = 0;
  [[nodiscard]] std::byte* end() const { return begin + bytes; }
};

class GuardedMemory {
 public:
  GuardedMemory() = default;
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  // Filled with 0xCD. It ends at a guard page, but for the padding to kAllocationBytes. Null: the
  // system has no more.
  std::byte* Allocate(int device, size_t bytes);
  // Pageable memory that becomes pinned.
  void Register(std::byte* begin, size_t bytes);
  // `begin` must be a block's. Its addresses stay unusable for a long time.
  void Free(std::byte* begin);

  // The block that `address` lies in, or that begins or ends there; null if none.
  [[nodiscard]] const MemoryBlock* Find(const void* address) const;
  [[nodiscard]] const std::map<const std::byte*, MemoryBlock>& blocks() const { return blocks_; }

  // The memory of one device, of all, or of none can be touched.
  static constexpr int kAllDevices = -1, kNoDevice = -2;
  void Show(int device);

  // A block whose padding somebody wrote to since the last call; null if none. Of shown memory.
  const MemoryBlock* FindDamaged();

 private:
  [[nodiscard]] static bool Shows(int shown, const MemoryBlock& block) {
    return block.device == kHostMemory || shown == kAllDevices || shown == block.device;
  }
  static void Protect(const MemoryBlock& block, bool shown);

  std::map<const std::byte*, MemoryBlock> blocks_;  // by begin
  struct Range {
    std::byte* begin;
    size_t bytes;
  };
  std::deque<Range> freed_;
  int shown_ = kAllDevices;
};

}  // namespace sluice::simt
