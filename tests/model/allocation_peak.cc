#include "tests/model/allocation_peak.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {
thread_local size_t held = 0, peak = 0, allocations = 0;
}  // namespace

void* operator new(size_t size) {
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  ++allocations;
  held += malloc_usable_size(memory);
  peak = std::max(peak, held);
  return memory;
}

// std::stable_sort asks this way; the library's own would not match the delete below under ASan.
void* operator new(size_t size, const std::nothrow_t& /*tag*/) noexcept {
  void* memory = std::malloc(size);
  if (memory != nullptr) held += malloc_usable_size(memory);
  ++allocations;
  peak = std::max(peak, held);
  return memory;
}

void operator delete(void* memory) noexcept {
  if (memory != nullptr) held -= std::min(held, malloc_usable_size(memory));
  std::free(memory);
}

void operator delete(void* memory, size_t /*size*/) noexcept { operator delete(memory); }

namespace sluice {

AllocationPeak::AllocationPeak() { held = peak = allocations = 0; }
size_t AllocationPeak::bytes() const { return peak; }
size_t AllocationPeak::count() const { return allocations; }

}  // namespace sluice
