// The clock that every time of a run is read from.
#pragma once

#include <time.h>

#include <cstdint>

namespace sluice::load {

// Nanoseconds of CLOCK_MONOTONIC.
inline int64_t NowNs() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{1'000'000'000} * time.tv_sec + time.tv_nsec;
}

}  // namespace sluice::load
