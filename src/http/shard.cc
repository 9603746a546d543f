#include "http/shard.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
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

// An eighth of the shortest timeout, so that none is missed by more than that.
SteadyDuration SweepInterval(const Config& config) {
  const double shortest =
      std::min({config.read_timeout_s, config.idle_timeout_s, config.write_timeout_s});
  return std::chrono::milliseconds(
      std::clamp(static_cast<int64_t>(shortest * 125), int64_t{5}, int64_t{250}));
}

std::mt19937_64 SeededRandom() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device(),
                     device(), device(), device(), device()};
  return std::mt19937_64(seed);
}

}  // namespace

Shard::Shard(ServerContext* context, std::shared_ptr<Stage> stage)
    : context_(*context),
      stage_(std::move(stage)),
      work_(asio::make_work_guard(io_)),
      sweep_timer_(io_),
      random_(SeededRandom()) {}

Shard::~Shard() = default;

void Shard::Start() {
  Sweep();
  thread_ = std::thread([this] {
    // Signals are the main thread's; SIGPIPE must not end the process when OpenSSL writes to a
    // closed socket.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    if (context_.config.io_uring) batch_ = SendBatch::Create();
    io_.run();
    batch_.reset();
    stage_->Rest();
  });
}

void Shard::Stop() {
  asio::post(io_, [this] {
    work_.reset();
    io_.stop();
  });
}

void Shard::Join() {
  if (thread_.joinable()) thread_.join();
}

void Shard::Publish(std::vector<StreamEvent> events) {
  {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(events));
    if (std::exchange(drain_posted_, true)) return;
  }
  PostDrain();
}

void Shard::PostDrain() {
  asio::post(io_, [this] { Drain(); });
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
    it->second.sink->Flush(batch_.get());
  }
  if (batch_ != nullptr) batch_->Run();
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
  asio::post(io_, [this, fd, admin] {
    boost::system::error_code error;
    asio::ip::tcp::socket socket(io_);
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
  asio::post(io_, [this, hard] {
    for (Session* session : sessions_) session->Stop(hard);
  });
}

// Comes again at least eight times in the shortest timeout, also when there is nothing to do: that
// it comes is the sign that the thread is well.
void Shard::Sweep() {
  const absl::Duration interval = absl::FromChrono(SweepInterval(context_.config));
  const absl::Duration patience = absl::Seconds(context_.config.stall_timeout_s);
  stage_->Expect(context_.clock->Now() + std::max(patience, 4 * interval));
  const SteadyTime now = std::chrono::steady_clock::now();
  for (Session* session : sessions_) session->Sweep(now);
  sweep_timer_.expires_after(SweepInterval(context_.config));
  sweep_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) Sweep();
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
