#include "http/shard.h"

#include <unistd.h>

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/logging.h"
#include "http/session.h"

namespace sluice {
namespace {

// Streams written before epoll is looked at again: 1,000 writes take 5 ms, too long for a new
// connection or a disconnect to wait.
constexpr int kWritesPerTurn = 128;

std::mt19937_64 SeededRandom() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device(),
                     device(), device(), device(), device()};
  return std::mt19937_64(seed);
}

}  // namespace

Shard::Shard(ServerContext* context, std::shared_ptr<Stage> stage)
    : context_(*context),
      thread_(&context->config, context->clock, std::move(stage),
              [this](SteadyTime now) {
                for (Session* session : sessions_) session->Sweep(now);
              }),
      random_(SeededRandom()) {}

Shard::~Shard() = default;

void Shard::Publish(std::vector<StreamEvent> events) {
  {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(events));
    if (std::exchange(drain_posted_, true)) return;
  }
  PostDrain();
}

void Shard::PostDrain() {
  asio::post(io(), [this] { Drain(); });
}

void Shard::Drain() {
  std::vector<std::vector<StreamEvent>> batches;
  {
    MutexLock lock(mutex_);
    batches.swap(queue_);
    drain_posted_ = false;
  }
  if (++num_drains_ == PlantedStall(context_.config.plant_fault, "io")) {
    Log(LogLevel::kWarn, "planted_stall");
    absl::SleepFor(kPlantedStall);
  }
  for (std::vector<StreamEvent>& batch : batches) {
    for (StreamEvent& event : batch) Apply(event);
  }
  for (int i = 0; i < kWritesPerTurn && !dirty_.empty(); ++i) {
    const auto it = streams_.find(dirty_.front());
    dirty_.pop_front();
    if (it == streams_.end()) continue;
    it->second.dirty = false;
    it->second.sink->Flush(thread_.batch());
  }
  if (thread_.batch() != nullptr) thread_.batch()->Run();
  if (dirty_.empty()) return;
  {
    MutexLock lock(mutex_);
    if (std::exchange(drain_posted_, true)) return;
  }
  PostDrain();
}

void Shard::Apply(StreamEvent& event) {
  const auto it = streams_.find(event.tag);
  if (it == streams_.end()) {
    Log(LogLevel::kError, "http_event_without_stream");
    return;
  }
  if (std::holds_alternative<End>(event.event)) context_.metrics->orphans.StreamClosed();
  it->second.sink->Push(event);
  if (!std::exchange(it->second.dirty, true)) dirty_.push_back(event.tag);
}

StreamTag Shard::Register(StreamSink* sink) {
  context_.metrics->orphans.StreamOpened();
  const StreamTag tag = next_tag_++;
  streams_.emplace(tag, Stream{sink, false});
  return tag;
}

void Shard::Unregister(StreamTag tag) { streams_.erase(tag); }

void Shard::Adopt(int fd, bool admin) {
  context_.metrics->SetConnections("http", context_.num_connections.fetch_add(1) + 1);
  asio::post(io(), [this, fd, admin] {
    boost::system::error_code error;
    asio::ip::tcp::socket socket(io());
    socket.assign(asio::ip::tcp::v4(), fd, error);  // the family is not looked at again
    SslPtr ssl;
    const bool tls = context_.tls != nullptr && !admin;  // the admin port is loopback only
    if (tls) ssl = context_.tls->NewConnection(fd);
    if (error || (tls && ssl == nullptr)) {
      if (error) ::close(fd);
      context_.metrics->SetConnections("http", context_.num_connections.fetch_sub(1) - 1);
      return;
    }
    auto session = std::make_shared<Session>(&context_, this,
                                             Transport(std::move(socket), std::move(ssl)), admin);
    sessions_.insert(session.get());
    Session::Spawn(std::move(session));
  });
}

void Shard::Remove(Session* session) {
  sessions_.erase(session);
  context_.metrics->SetConnections("http", context_.num_connections.fetch_sub(1) - 1);
}

void Shard::CloseSessions(bool hard) {
  asio::post(io(), [this, hard] {
    for (Session* session : sessions_) session->Stop(hard);
  });
}

std::string Shard::RandomHex(size_t bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes);
  for (uint64_t bits = 0; out.size() < 2 * bytes; bits >>= 4) {
    if (out.size() % 16 == 0) bits = random_();
    out += kHex[bits & 15];
  }
  return out;
}

const std::string& Shard::HttpDate() {
  const absl::Time now = context_.clock->Now();
  const int64_t second = absl::ToUnixSeconds(now);
  if (second != date_second_ || date_.empty()) {
    date_ = absl::FormatTime("%a, %d %b %E4Y %H:%M:%S GMT", now, absl::UTCTimeZone());
    date_second_ = second;
  }
  return date_;
}

}  // namespace sluice
