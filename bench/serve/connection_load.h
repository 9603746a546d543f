// New connections at a constant rate beside the requests: what accepting one costs a server.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "bench/serve/histogram.h"
#include "bench/serve/measurement.h"
#include "bench/serve/socket.h"

namespace sluice::load {

// Of the connections that were due inside the measured window. One is answered or failed.
struct ConnectionCounts {
  int64_t answered = 0, failed = 0;
  int64_t answered_inside = 0;  // answers that came inside the window, whenever they were due
  Histogram latency;            // from when it was due to the whole answer, ns
  Histogram late;               // of opening, by the harness itself; ns
  std::map<std::string, ErrorCount> errors;
};

// Each connection asks GET /livez with "Connection: close" and waits to be closed. One thread.
class ConnectionLoad {
 public:
  // `endpoint` outlives it; `epoll` reports to Pollables.
  ConnectionLoad(double rate, const Endpoint& endpoint, int epoll);
  ~ConnectionLoad();

  // Connections are due from `start_ns` to `stop_ns`, and count from `window_ns`.
  void Begin(int64_t start_ns, int64_t window_ns, int64_t stop_ns);
  // No more are due from `now_ns` on.
  void Stop(int64_t now_ns) { stop_ns_ = std::min(stop_ns_, now_ns); }
  // Opens what is due, gives up what takes too long.
  void RunDue(int64_t now_ns);
  // When RunDue has something to do; INT64_MAX: never again.
  [[nodiscard]] int64_t NextNs() const;
  // Frees those that are over; none of their events may be pending.
  void CollectClosed();
  // Whether no connection is open or due any more.
  [[nodiscard]] bool Over() const { return num_open_ == 0 && NextNs() == INT64_MAX; }

  [[nodiscard]] const ConnectionCounts& counts() const { return counts_; }
  static constexpr int64_t kMaxOpen = 4096;  // at once; what is due beyond that fails

 private:
  class Connection;

  void Answered(int64_t due_ns, int64_t now_ns);
  void Failed(int64_t due_ns, const std::string& kind, const std::string& message);

  const double gap_ns_;
  const Endpoint& endpoint_;
  const int epoll_;
  const std::string request_;
  int64_t start_ns_ = 0, window_ns_ = 0, stop_ns_ = 0;
  int64_t num_due_ = 0;  // so far
  int64_t num_open_ = 0;
  ConnectionCounts counts_;
  std::deque<std::unique_ptr<Connection>> connections_;  // as they were opened
};

}  // namespace sluice::load
