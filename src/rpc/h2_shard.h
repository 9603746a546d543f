// One I/O thread's share of the gRPC server over nghttp2: its connections and their calls' events.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "metrics/metrics.h"
#include "net/io_thread.h"
#include "net/tls.h"
#include "rpc/event_book.h"
#include "rpc/h2_limits.h"
#include "rpc/h2_stream.h"
#include "sluice/config.h"

namespace sluice::rpc {

class H2Connection;

// What all shards share. Outlives them.
struct H2Context {
  Config config;
  H2Limits limits;
  Metrics* metrics = nullptr;
  const Clock* clock = nullptr;
  std::unique_ptr<TlsContext> tls;                    // nullptr: plain
  std::unordered_map<std::string, H2Method> methods;  // by path
  std::atomic<int64_t> num_connections{0}, num_streams{0};
};

class H2Shard final : public EventBook {
 public:
  H2Shard(H2Context* context, StageWatch* stages);
  ~H2Shard() override;

  void Start() { thread_.Start(); }
  // Ends the thread; what is published from now on is dropped.
  void Stop();

  // --- Thread-safe
  [[nodiscard]] asio::io_context& io() { return thread_.io(); }
  [[nodiscard]] bool OnThread() { return thread_.is_this_thread(); }
  // Takes over a connected, non-blocking socket.
  void Adopt(int fd);
  enum class Farewell : uint8_t {
    kDrain,   // no new streams; connections close once the present ones are over
    kCancel,  // the present ones end
    kBreak,   // connections close now
  };
  void Say(Farewell farewell);

  // --- This shard's thread only
  void MarkDirty(H2Connection* connection);
  void Remove(H2Connection* connection);

 private:
  void Wake() override;
  void Sweep(SteadyTime now);
  void PostFlush();
  void FlushDirty();

  H2Context& context_;
  IoThread thread_;
  std::unordered_set<H2Connection*> connections_;
  std::deque<H2Connection*> dirty_;
  bool draining_ = false;
  bool flush_posted_ = false;
  SteadyTime next_sweep_{};
};

}  // namespace sluice::rpc
