#include "kernels/simt/fiber.h"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the emulator's switch is written for x86-64"
#endif

extern "C" void sluice_simt_switch(void** save_sp, void* sp);

asm(R"(
.text
.globl sluice_simt_switch
.hidden sluice_simt_switch
.type sluice_simt_switch, @function
sluice_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sluice_simt_switch, . - sluice_simt_switch
)");

namespace sluice::simt {

void PrepareFiber(Fiber& fiber, std::byte* stack, void (*main)()) {
  fiber = {.stack = stack, .stack_bytes = kStackBytes};
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, kStackBytes);  // of frames that were left, not returned from
#endif
  const auto top = reinterpret_cast<uintptr_t>(stack + kStackBytes) & ~uintptr_t{15};
  auto* sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;  // where main's caller would stand: main begins with rsp % 16 == 8
  *--sp = reinterpret_cast<void*>(main);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;  // the registers that the switch pops
  fiber.sp = sp;
}

void SwitchFiber(Fiber& from, Fiber& to, [[maybe_unused]] bool from_ended) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(from_ended ? nullptr : &from.asan_frames, to.stack,
                                 to.stack_bytes);
#endif
  sluice_simt_switch(&from.sp, to.sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.asan_frames, nullptr, nullptr);
#endif
}

void FiberBegan([[maybe_unused]] Fiber& previous) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (previous.stack != nullptr) return;
  previous.stack = static_cast<std::byte*>(const_cast<void*>(stack));
  previous.stack_bytes = bytes;
#endif
}

}  // namespace sluice::simt
