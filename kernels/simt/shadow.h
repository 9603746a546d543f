// What the checked build keeps of every byte that kernels share: who wrote it last and who has read
// it since. Private to this folder.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "base/check.h"

namespace sluice::simt {

// Counts what orders threads (checked_order.h), over all launches; 0: before all of them.
using Time = uint32_t;

// One access.
struct Mark {
  Time time = 0;  // 0: there was none
  uint16_t thread : 10 = 0;
  bool atomic : 1 = false;
  bool in_flight : 1 = false;  // of an asynchronous copy that nobody has waited for
  uint16_t site = 0;           // checked_site.h
};
static_assert(sizeof(Mark) == 8);

// Two readers, of different warps where there are such: a write that waited for both but not for a
// third is not seen.
struct Cell {
  Mark written, read[2];
};

// Zeroed memory that costs only what is touched of it.
template <class T>
class LazyArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit LazyArray(size_t size) : bytes_(size * sizeof(T)) {
    void* const p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    SLUICE_CHECK(p != MAP_FAILED, "no memory for {} bytes of the checked build's notes", bytes_);
    data_ = static_cast<T*>(p);
  }
  ~LazyArray() { munmap(data_, bytes_); }
  LazyArray(const LazyArray&) = delete;
  LazyArray& operator=(const LazyArray&) = delete;
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  size_t bytes_;
};

// One piece of global memory.
struct Allocation {
  Allocation(uintptr_t address, size_t size)
      : begin(address), bytes(size), written(size), cells(size) {}
  uintptr_t begin;
  size_t bytes;
  LazyArray<uint8_t> written;  // by byte, whether anybody has
  LazyArray<Cell> cells;       // by byte, of launches
};

// What there is now, by address. Shared by the table and by a launch that has begun: freeing memory
// under it must not take its notes away.
[[nodiscard]] std::vector<std::shared_ptr<Allocation>> KnownMemory();

}  // namespace sluice::simt
