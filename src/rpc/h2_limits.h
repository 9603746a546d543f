// What one HTTP/2 connection may ask of the server.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace sluice::rpc {

using SteadyTime = std::chrono::steady_clock::time_point;

struct H2Limits {
  size_t max_message_bytes;
  size_t max_header_bytes;
  uint32_t max_streams;
  absl::Duration read_timeout;   // a whole request, from its first header
  absl::Duration idle_timeout;   // a connection without streams
  absl::Duration write_timeout;  // a stream whose client takes nothing
};

// A peer that vanished without a word is noticed after at most the two together.
inline constexpr std::chrono::seconds kKeepalive{60}, kKeepaliveTimeout{20};
// A client that pings more often while nothing is sent to it is sent away.
inline constexpr std::chrono::seconds kMinClientPing{10};

// Frames that cost the server more than they cost the client: a bucket that fills with time and
// empties with such frames. What clients do by themselves stays far below it: 1,000 calls cancelled
// at once pass.
class FrameBudget {
 public:
  static constexpr int64_t kReset = 10, kSettings = 100, kPing = 10, kWindow = 1, kOther = 10;

  // False: the client has used it up.
  bool Take(int64_t cost, SteadyTime now) {
    const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - filled_).count();
    if (ms > 0) {
      left_ = std::min(kBurst, left_ + ms * kPerMs);
      filled_ = now;
    }
    left_ -= cost;
    return left_ >= 0;
  }

 private:
  static constexpr int64_t kBurst = 12'000, kPerMs = 2;
  int64_t left_ = kBurst;
  SteadyTime filled_ = std::chrono::steady_clock::now();
};

}  // namespace sluice::rpc
