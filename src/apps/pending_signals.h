// Signals as something to ask and to wait for: blocked in every thread and read here, so that none
// is lost between a check and a wait.
#pragma once

#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace sluice {

class PendingSignals {
 public:
  // Before other threads start: they inherit the mask.
  PendingSignals(std::initializer_list<int> numbers) {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : numbers) sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    fd_ = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  }
  ~PendingSignals() { close(fd_); }
  PendingSignals(const PendingSignals&) = delete;
  PendingSignals& operator=(const PendingSignals&) = delete;

  // Readable while a signal is pending.
  [[nodiscard]] int fd() const { return fd_; }
  // Whether one is pending; it stays so until it is taken.
  [[nodiscard]] bool Any() const {
    pollfd readable{fd_, POLLIN, 0};
    return poll(&readable, 1, 0) > 0;
  }
  // Whether one was pending; the next call tells of another.
  [[nodiscard]] bool Take() const {
    signalfd_siginfo info{};
    return read(fd_, &info, sizeof(info)) == sizeof(info);
  }

 private:
  int fd_ = -1;
};

}  // namespace sluice
