// Runs a kernel's grid on the CPU, thread by thread: every thread is a fiber, a block's fibers take
// turns at barriers and at operations of their warp. What a card leaves open (the order of blocks,
// of warps and of lanes) is chosen by a seed, so that a kernel that needs an order fails for some.
//
// Not emulated: time, clusters, cooperative launches. A launch runs on the calling thread; launches
// of different threads do not know of each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/simt/profile.h"

namespace sluice::simt {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  [[nodiscard]] uint64_t count() const { return uint64_t{x} * y * z; }
};

// Where a call stands in a kernel's source.
struct Site {
  const char* file = "";
  uint32_t line = 0;
  friend bool operator==(const Site&, const Site&) = default;
};

enum class FindingKind : uint8_t {
  kLaunch,        // a configuration that no card takes
  kSharedMemory,  // more than a block may have
  kBarrier,       // reached by some threads only, or at different places
  kWarp,          // an operation of a warp whose lanes do not agree, or are not there
  kDeadlock,
  kMisaligned,
  kCopy,  // an asynchronous copy that nobody waits for, or not before touching what it copies
  // Of the checked build only (checked.h):
  kOutOfBounds,
  kUninitialised,  // a read of what nobody has written
  kRace,
};
[[nodiscard]] const char* FindingKindName(FindingKind kind);

// What is wrong with a kernel.
struct Finding {
  FindingKind kind = FindingKind::kLaunch;
  std::string message;  // one sentence, without what follows
  std::string kernel;
  Site site;
  Dim3 block;           // its index
  uint32_t thread = 0;  // in the block, x fastest
  [[nodiscard]] std::string ToString() const;
};

struct Launch {
  const char* kernel = "";  // name, for findings
  Dim3 grid, block;         // sizes
  size_t dynamic_shared_bytes = 0;
  // What a block may use in all; above 48 KiB a kernel must ask for it (cudaFuncSetAttribute).
  size_t max_shared_bytes = 48 * 1024;
  uint64_t seed = 0;  // 0: blocks and lanes in ascending order
};

struct LaunchReport {
  std::vector<Finding> findings;  // the launch ends at the first
  uint64_t blocks = 0, threads = 0, barriers = 0, warp_operations = 0, switches = 0;
  uint64_t matrix_instructions = 0;  // of warps
  MemoryCounters memory;             // of the checked build, if asked for (profile.h)
};

// thread(context): the kernel with its arguments, called once for each thread.
LaunchReport RunGrid(const Launch& launch, void (*thread)(const void* context),
                     const void* context);

template <class F>
LaunchReport RunGrid(const Launch& launch, const F& thread) {
  return RunGrid(launch, [](const void* context) { (*static_cast<const F*>(context))(); }, &thread);
}

// --- For the device functions: the thread that is running. Only inside RunGrid. ---

inline constexpr uint32_t kWarpThreads = 32, kMaxBlockThreads = 1024, kNumBarriers = 16;

struct ThreadPlace {
  Dim3 thread, block;  // indices
  Dim3 block_size, grid_size;
  uint32_t lane = 0, warp = 0;  // of the block
};
[[nodiscard]] const ThreadPlace& Place();

// Waits for `count` threads of the block (a multiple of 32; 0: all of it) at barrier `id`.
void Barrier(uint32_t id, uint32_t count, Site site);

// An operation that the lanes of `mask` do together: each hands in its `argument`, and the last to
// come runs operation(arguments [32], mask) for all of them. `operation` names it, too: lanes of
// one mask that come with different ones have diverged.
using WarpOperation = void (*)(void** arguments, uint32_t mask);
void Together(uint32_t mask, void* argument, WarpOperation operation, Site site);
// The only one that orders what the lanes do to memory.
void WarpBarrier(uint32_t mask, Site site);
void CountMatrixInstruction();  // once for the warp

// An asynchronous copy of 16 bytes from global to shared memory; zeros if not `filled`. Its bytes
// are there after a wait and may be read from `from` at any time before: until then `to` holds NaN.
// Copies are waited for in groups, as PTX's cp.async has them.
void CopyAsync(void* to, const void* from, bool filled, Site site);
void EndCopyGroup();
// Until at most `groups` of the calling thread's last groups are under way.
void WaitForCopies(uint32_t groups);

enum class AccessKind : uint8_t { kRead, kWrite, kAtomic, kAtomicRead };

// An access of several bytes at once, which must be aligned to their number. Wrappers whose access
// the compiler does not see as the calling thread's, for another lane or this folder's code makes
// it, announce it so to the checked build.
void CheckAligned(const void* address, size_t bytes, Site site);
void Announce(const void* address, size_t bytes, AccessKind kind, Site site);

// As one access where the checked build splits a copy of a struct into its members.
void LoadAtOnce(void* to, const void* from, size_t bytes, Site site);
void StoreAtOnce(void* to, const void* from, size_t bytes, Site site);

// What the calling thread wrote before is seen by whoever sees what it writes after.
void Fence();

// The same memory for every thread of a block, by key; aligned to 16 bytes or more. Filled with a
// pattern at the block's begin, as a card's holds what was left there.
void* SharedMemory(const void* key, size_t bytes, size_t alignment, Site site);
void* DynamicSharedMemory();

}  // namespace sluice::simt
