// The stacks that a kernel's threads run on in the emulator, and the switch between them: about
// 10 ns where all park at one call, for `ret` then predicts well. x86-64 System V only. What a
// switch keeps is what a call keeps: callee-saved registers, not the floating-point modes, which
// kernels do not change.
#pragma once

#include <cstddef>

namespace sluice::simt {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr size_t kStackBytes = 128 * 1024 + 320;  // its frames are larger
#else
// An odd number of cache lines spreads the tops of the stacks over the sets of the L1 cache.
inline constexpr size_t kStackBytes = 24 * 1024 + 320;
#endif

struct Fiber {
  void* sp = nullptr;          // where it stands while another runs
  std::byte* stack = nullptr;  // [stack_bytes], lowest address
  size_t stack_bytes = 0;
  void* asan_frames = nullptr;  // of AddressSanitizer, while another runs
};

// Makes a fiber that begins in `main`, which never returns: it ends by a switch with from_ended.
void PrepareFiber(Fiber& fiber, std::byte* stack, void (*main)());

// Saves the running fiber in `from` and goes on in `to`. Comes back when another switches to
// `from`, which after from_ended nobody does.
void SwitchFiber(Fiber& from, Fiber& to, bool from_ended);

// The first call of `main`. previous: whoever switched here; its stack's bounds are noted there if
// they are unknown, as they are of an operating system's thread.
void FiberBegan(Fiber& previous);

}  // namespace sluice::simt
