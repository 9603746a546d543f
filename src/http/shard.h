// One I/O thread's share of the server: its io_context, its connections, and the queue its streams'
// events come by.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/api_keys.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/stage_watch.h"
#include "http/stream_sink.h"
#include "metrics/metrics.h"
#include "net/asio.h"
#include "net/io_thread.h"
#include "net/tls.h"
#include "sluice/config.h"
#include "sluice/service.h"

namespace sluice {

class Session;

// What all shards share. Outlives them.
struct ServerContext {
  Config config;
  Service* service = nullptr;
  ApiKeys* keys = nullptr;
  Metrics* metrics = nullptr;
  const Clock* clock = nullptr;
  std::unique_ptr<TlsContext> tls;  // nullptr: plain
  std::atomic<int64_t> num_connections{0};
  std::atomic<bool> closing{false};  // no request after the present one
};

class Shard final : public EventQueue {
 public:
  Shard(ServerContext* context, std::shared_ptr<Stage> stage);
  ~Shard() override;

  void Start() { thread_.Start(); }
  void Join() { thread_.Join(); }  // after Stop
  void Stop() { thread_.Stop(); }  // thread-safe; with no stream left

  // --- Thread-safe
  void Publish(std::vector<StreamEvent> events) override;
  // Takes over a connected, non-blocking socket.
  void Adopt(int fd, bool admin);
  // Cancels what runs and closes what idles; `hard`: closes everything.
  void CloseSessions(bool hard);
  [[nodiscard]] asio::io_context& io() { return thread_.io(); }

  // --- This shard's thread only
  // Before Service::Generate: opens the stream for the audit of orphans; its End closes it.
  StreamTag Register(StreamSink* sink);
  void Unregister(StreamTag tag);
  void Remove(Session* session);
  [[nodiscard]] std::string RandomHex(size_t bytes);
  [[nodiscard]] const std::string& HttpDate();  // now, to the second

 private:
  struct Stream {
    StreamSink* sink;
    bool dirty;
  };
  void PostDrain();
  void Drain();
  void Apply(StreamEvent& event);

  ServerContext& context_;
  IoThread thread_;

  Mutex mutex_;
  std::vector<std::vector<StreamEvent>> queue_ ABSL_GUARDED_BY(mutex_);
  bool drain_posted_ ABSL_GUARDED_BY(mutex_) = false;

  std::unordered_map<StreamTag, Stream> streams_;
  std::deque<StreamTag> dirty_;
  StreamTag next_tag_ = 1;
  std::unordered_set<Session*> sessions_;
  std::mt19937_64 random_;
  std::string date_;
  int64_t date_second_ = 0;
  int64_t num_drains_ = 0;
};

}  // namespace sluice
