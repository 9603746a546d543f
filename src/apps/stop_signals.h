// Ctrl-C and SIGTERM as something to ask, so that a run ends with its report.
#pragma once

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

namespace sluice {

class StopSignals {
 public:
  // Before other threads start: they inherit the mask.
  StopSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    fd_ = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  }
  ~StopSignals() { close(fd_); }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool Seen() {
    signalfd_siginfo info;
    seen_ = seen_ || read(fd_, &info, sizeof(info)) == sizeof(info);
    return seen_;
  }

 private:
  int fd_ = -1;
  bool seen_ = false;
};

}  // namespace sluice
