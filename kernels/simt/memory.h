// What the checked build knows of global memory: which addresses a kernel may touch, and which of
// their bytes somebody has written. Whoever hands out memory to kernels (the runtime, a test) tells
// it here. Does nothing in a program without checked kernels. Thread-safe.
#pragma once

#include <cstddef>

namespace sluice::simt {

// Whether the program holds kernels that were compiled with access hooks (see checked.h).
[[nodiscard]] bool KernelsAreChecked();

// [p, p + bytes) belongs to kernels from now on, until MemoryFreed(p). Nobody has written it yet.
void MemoryAllocated(void* p, size_t bytes);
void MemoryFreed(void* p);

// The host, or a copy, has written [p, p + bytes), a part of one allocation. What is not in one is
// left alone, so that callers need not tell host memory from a device's.
void MemoryWritten(const void* p, size_t bytes);

}  // namespace sluice::simt
