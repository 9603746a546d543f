#include "base/sleep.h"

#include <sys/prctl.h>

#include <cerrno>
#include <ctime>

namespace sluice {

void SleepUntil(absl::Time time) {
  // The kernel may wake a thread later by its slack, 50 us unless it says otherwise.
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  const timespec until = absl::ToTimespec(time);
  while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

}  // namespace sluice
