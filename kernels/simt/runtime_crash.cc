#include "kernels/simt/runtime_crash.h"

#include <signal.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <memory>

#include "kernels/simt/runtime_state.h"

namespace sluice::simt {
namespace {

constexpr size_t kStackOfHandler = 64 * 1024;

void Say(const void* address) {
  const Runtime& runtime = Runtime::Get();
  char text[512];
  int length = std::snprintf(text, sizeof(text), "access to %p", address);
  const auto append = [&](const char* format, auto... values) {
    const auto left = sizeof(text) - static_cast<size_t>(length);
    length += std::snprintf(text + length, left, format, values...);
  };
  if (running != nullptr) {
    const ThreadPlace& at = running->current().place;
    append(" by kernel %s, block (%u, %u, %u), thread %u", runtime.running_kernel, at.block.x,
           at.block.y, at.block.z, running->current().index);
  } else {
    append("%s", ", not by a kernel");
  }
  const auto* const p = static_cast<const std::byte*>(address);
  constexpr std::ptrdiff_t kNear = 1 << 16;
  const MemoryBlock* nearest = nullptr;
  std::ptrdiff_t distance = kNear;
  for (const auto& [begin, block] : runtime.memory.blocks()) {
    const std::ptrdiff_t to = p < begin ? begin - p : p < block.end() ? 0 : p - block.end() + 1;
    if (to >= distance) continue;
    distance = to;
    nearest = &block;
  }
  if (nearest != nullptr) {
    append("; it is byte %td of an allocation of %zu bytes on device %d", p - nearest->begin,
           nearest->bytes, nearest->device);
  }
  append("%c", '\n');
  (void)!write(STDERR_FILENO, text, static_cast<size_t>(length));
}

void OnCrash(int signal, siginfo_t* info, void*) {
  static volatile sig_atomic_t said = 0;
  const bool first = said == 0;
  said = 1;
  if (first) Say(info->si_addr);
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  sigaction(signal, &standard, nullptr);  // the access is repeated and ends the process
}

}  // namespace

void ExplainCrashes() {
  static const bool ours = [] {
    struct sigaction present = {};
    sigaction(SIGSEGV, nullptr, &present);
    if ((present.sa_flags & SA_SIGINFO) != 0 || present.sa_handler != SIG_DFL) return false;
    struct sigaction action = {};
    action.sa_sigaction = OnCrash;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    return true;
  }();
  if (!ours) return;
  // Kernels' stacks are small, and the access may have been beyond one.
  thread_local const auto stack = [] {
    auto bytes = std::make_unique_for_overwrite<char[]>(kStackOfHandler);
    const stack_t alternative = {.ss_sp = bytes.get(), .ss_flags = 0, .ss_size = kStackOfHandler};
    sigaltstack(&alternative, nullptr);
    return bytes;
  }();
  (void)stack;
}

}  // namespace sluice::simt
