// Waiting for many descriptors, to the nanosecond where the kernel can.
#pragma once

#include <sys/epoll.h>
#include <time.h>

#include <cerrno>
#include <cstdint>

namespace sluice::load {

// As epoll_wait, for `wait_ns` at most. Kernels before 5.11 know milliseconds only: there the wait
// is rounded down, so that nothing is late for it.
inline int WaitForEvents(int epoll, epoll_event* events, int size, int64_t wait_ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  const timespec timeout{.tv_sec = wait_ns / kSecond, .tv_nsec = wait_ns % kSecond};
  const int count = epoll_pwait2(epoll, events, size, &timeout, nullptr);
  if (count >= 0 || errno != ENOSYS) return count;
  return epoll_wait(epoll, events, size, static_cast<int>(wait_ns / 1'000'000));
}

}  // namespace sluice::load
