// What code compiled with -fsanitize=thread calls, in place of ThreadSanitizer's library, which is
// never linked: each hook hands the access to the launch that is running, if one is. The names and
// meanings are the compiler's (GCC's sanitizer.def); the program's own ThreadSanitizer build has no
// checked kernels, and there this file is empty.
#if !defined(__SANITIZE_THREAD__)

#include <cstddef>
#include <cstdint>

#include "kernels/simt/checked.h"
#include "kernels/simt/runner.h"

namespace sluice::simt {
namespace {

inline void Plain(const void* address, size_t bytes, AccessKind kind, bool aligned,
                  const void* code) {
  if (running == nullptr) return;
  Checker* const checker = running->checker();
  if (checker != nullptr) checker->Plain(address, bytes, kind, aligned, code);
}

// The access itself is not preempted: the checker lets others go on before it or not at all.
template <class T, class Step>
inline T Atomic(volatile T* address, const void* code, Step step) {
  Plain(const_cast<T*>(address), sizeof(T), AccessKind::kAtomic, true, code);
  const T before = *address;
  *address = step(before);
  return before;
}

template <class T>
inline int Exchange(volatile T* address, T* expected, T value, const void* code) {
  const T before = Atomic(address, code, [=](T now) { return now == *expected ? value : now; });
  if (before == *expected) return 1;
  *expected = before;
  return 0;
}

}  // namespace
}  // namespace sluice::simt

using sluice::simt::AccessKind;
using sluice::simt::Atomic;
using sluice::simt::Exchange;
using sluice::simt::Plain;

#define SLUICE_HERE __builtin_return_address(0)

extern "C" {

// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier,bugprone-macro-parentheses)

void __tsan_init() { sluice::simt::NoteThatKernelsAreChecked(); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define SLUICE_HOOKS(bytes)                                                                     \
  void __tsan_read##bytes(void* p) { Plain(p, bytes, AccessKind::kRead, true, SLUICE_HERE); }   \
  void __tsan_write##bytes(void* p) { Plain(p, bytes, AccessKind::kWrite, true, SLUICE_HERE); } \
  void __tsan_volatile_read##bytes(void* p) {                                                   \
    Plain(p, bytes, AccessKind::kRead, true, SLUICE_HERE);                                      \
  }                                                                                             \
  void __tsan_volatile_write##bytes(void* p) {                                                  \
    Plain(p, bytes, AccessKind::kWrite, true, SLUICE_HERE);                                     \
  }                                                                                             \
  void __tsan_unaligned_read##bytes(void* p) {                                                  \
    Plain(p, bytes, AccessKind::kRead, false, SLUICE_HERE);                                     \
  }                                                                                             \
  void __tsan_unaligned_write##bytes(void* p) {                                                 \
    Plain(p, bytes, AccessKind::kWrite, false, SLUICE_HERE);                                    \
  }                                                                                             \
  void __tsan_unaligned_volatile_read##bytes(void* p) {                                         \
    Plain(p, bytes, AccessKind::kRead, false, SLUICE_HERE);                                     \
  }                                                                                             \
  void __tsan_unaligned_volatile_write##bytes(void* p) {                                        \
    Plain(p, bytes, AccessKind::kWrite, false, SLUICE_HERE);                                    \
  }
SLUICE_HOOKS(1)
SLUICE_HOOKS(2)
SLUICE_HOOKS(4)
SLUICE_HOOKS(8)
SLUICE_HOOKS(16)
#undef SLUICE_HOOKS

void __tsan_read_range(void* p, size_t bytes) {
  Plain(p, bytes, AccessKind::kRead, false, SLUICE_HERE);
}
void __tsan_write_range(void* p, size_t bytes) {
  Plain(p, bytes, AccessKind::kWrite, false, SLUICE_HERE);
}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}

#define SLUICE_ATOMIC_HOOKS(bits, type)                                                           \
  type __tsan_atomic##bits##_load(const volatile type* p, int) {                                  \
    Plain(const_cast<type*>(p), sizeof(type), AccessKind::kAtomicRead, true, SLUICE_HERE);        \
    return *p;                                                                                    \
  }                                                                                               \
  void __tsan_atomic##bits##_store(volatile type* p, type value, int) {                           \
    Atomic(p, SLUICE_HERE, [=](type) { return value; });                                          \
  }                                                                                               \
  type __tsan_atomic##bits##_exchange(volatile type* p, type value, int) {                        \
    return Atomic(p, SLUICE_HERE, [=](type) { return value; });                                   \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_add(volatile type* p, type value, int) {                       \
    return Atomic(p, SLUICE_HERE, [=](type now) { return static_cast<type>(now + value); });      \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_sub(volatile type* p, type value, int) {                       \
    return Atomic(p, SLUICE_HERE, [=](type now) { return static_cast<type>(now - value); });      \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_and(volatile type* p, type value, int) {                       \
    return Atomic(p, SLUICE_HERE, [=](type now) { return static_cast<type>(now & value); });      \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_or(volatile type* p, type value, int) {                        \
    return Atomic(p, SLUICE_HERE, [=](type now) { return static_cast<type>(now | value); });      \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_xor(volatile type* p, type value, int) {                       \
    return Atomic(p, SLUICE_HERE, [=](type now) { return static_cast<type>(now ^ value); });      \
  }                                                                                               \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* p, type* expected, type value, \
                                                    int, int) {                                   \
    return Exchange(p, expected, value, SLUICE_HERE);                                             \
  }                                                                                               \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* p, type* expected, type value,   \
                                                  int, int) {                                     \
    return Exchange(p, expected, value, SLUICE_HERE);                                             \
  }
SLUICE_ATOMIC_HOOKS(8, uint8_t)
SLUICE_ATOMIC_HOOKS(16, uint16_t)
SLUICE_ATOMIC_HOOKS(32, uint32_t)
SLUICE_ATOMIC_HOOKS(64, uint64_t)
#undef SLUICE_ATOMIC_HOOKS

void __tsan_atomic_thread_fence(int) {
  if (sluice::simt::running != nullptr) sluice::simt::running->Fence();
}
void __tsan_atomic_signal_fence(int) {}

// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier,bugprone-macro-parentheses)

}  // extern "C"

#endif
