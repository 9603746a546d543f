#include "bench/serve/connection_load.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "bench/serve/http_response.h"
#include "bench/serve/monotonic.h"
#include "bench/serve/transport.h"

namespace sluice::load {
namespace {

constexpr int64_t kTimeoutNs = 5'000'000'000;
constexpr int kAtOnce = 64;  // so that those which are open get their turn

}  // namespace

class ConnectionLoad::Connection final : public Pollable {
 public:
  Connection(ConnectionLoad& owner, int64_t due_ns) : owner_(owner), due_ns_(due_ns) {}

  [[nodiscard]] bool over() const { return over_; }
  [[nodiscard]] int64_t due_ns() const { return due_ns_; }

  void Open() {
    const absl::Status status = socket_.Connect(owner_.endpoint_, 0);
    if (!status.ok()) return Fail("connect_failed", std::string(status.message()));
    // Edges: one registration serves the whole short life.
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET,
                      .data = {.ptr = static_cast<Pollable*>(this)}};
    epoll_ctl(owner_.epoll_, EPOLL_CTL_ADD, socket_.fd(), &event);
  }
  void OnEvents(uint32_t events, int64_t now_ns) override;
  void GiveUp() { Fail(answered_ ? "not_closed" : "timeout", ""); }

 private:
  void Read(int64_t now_ns);
  void Close() {
    socket_.Close();
    over_ = true;
    --owner_.num_open_;
  }
  void Fail(const std::string& kind, const std::string& message) {
    Close();
    owner_.Failed(due_ns_, kind, message);
  }

  ConnectionLoad& owner_;
  const int64_t due_ns_;
  Socket socket_;
  HttpResponseReader response_;
  size_t sent_ = 0;
  int64_t answered_ns_ = 0;
  bool connected_ = false, answered_ = false, over_ = false;
};

void ConnectionLoad::Connection::OnEvents(uint32_t events, int64_t now_ns) {
  if (over_) return;
  if (!connected_) {
    const int error = socket_.ConnectError();
    if (error != 0)
      return Fail(error == ECONNREFUSED ? "connect_refused" : "connect_failed", strerror(error));
    connected_ = (events & EPOLLOUT) != 0;
    if (!connected_) return;
  }
  while (sent_ < owner_.request_.size()) {
    size_t size = owner_.request_.size() - sent_;
    const Socket::Io result = socket_.Write(owner_.request_.data() + sent_, size);
    if (result == Socket::Io::kAgain) return;
    if (result != Socket::Io::kOk)
      return Fail(socket_.in_handshake() ? "tls_failed" : "closed_early", "");
    sent_ += size;
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Read(now_ns);
}

void ConnectionLoad::Connection::Read(int64_t now_ns) {
  char buffer[4096];
  for (;;) {
    size_t size = sizeof(buffer);
    const Socket::Io result = socket_.Read(buffer, size);
    if (result == Socket::Io::kAgain) return;
    if (result != Socket::Io::kOk) break;
    response_.Feed({buffer, size}, [](std::string_view) {});
    if (!response_.error().empty()) return Fail(response_.error(), "");
    if (!response_.done() || answered_) continue;
    answered_ = true;
    answered_ns_ = now_ns;
  }
  if (!answered_) return Fail("closed_early", "");
  if (response_.status() != 200) return Fail(fmt::format("http_{}", response_.status()), "");
  Close();
  owner_.Answered(due_ns_, answered_ns_);
}

ConnectionLoad::ConnectionLoad(double rate, const Endpoint& endpoint, int epoll)
    : gap_ns_(1e9 / rate),
      endpoint_(endpoint),
      epoll_(epoll),
      request_(fmt::format("GET /livez HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                           endpoint.host_port)) {}

ConnectionLoad::~ConnectionLoad() = default;

void ConnectionLoad::Begin(int64_t start_ns, int64_t window_ns, int64_t stop_ns) {
  start_ns_ = start_ns;
  window_ns_ = window_ns;
  stop_ns_ = stop_ns;
}

int64_t ConnectionLoad::NextNs() const {
  const int64_t next = start_ns_ + static_cast<int64_t>(gap_ns_ * static_cast<double>(num_due_));
  return next < stop_ns_ ? next : INT64_MAX;
}

void ConnectionLoad::RunDue(int64_t now_ns) {
  for (const auto& connection : connections_) {  // the oldest first
    if (connection->due_ns() > now_ns - kTimeoutNs) break;
    if (!connection->over()) connection->GiveUp();
  }
  for (int i = 0; i < kAtOnce && NextNs() <= now_ns; ++i) {
    const int64_t due_ns = NextNs();
    ++num_due_;
    if (num_open_ >= kMaxOpen) {
      Failed(due_ns, "too_many_open", fmt::format("{} are open already", num_open_));
      continue;
    }
    if (due_ns >= window_ns_) counts_.late.Record(now_ns - due_ns);
    ++num_open_;
    connections_.push_back(std::make_unique<Connection>(*this, due_ns));
    connections_.back()->Open();
  }
}

void ConnectionLoad::CollectClosed() {
  while (!connections_.empty() && connections_.front()->over()) connections_.pop_front();
}

void ConnectionLoad::Answered(int64_t due_ns, int64_t now_ns) {
  if (now_ns >= window_ns_ && now_ns < stop_ns_) ++counts_.answered_inside;
  if (due_ns < window_ns_) return;
  ++counts_.answered;
  counts_.latency.Record(now_ns - due_ns);
}

void ConnectionLoad::Failed(int64_t due_ns, const std::string& kind, const std::string& message) {
  if (due_ns < window_ns_) return;
  ++counts_.failed;
  ErrorCount& count = counts_.errors[kind];
  if (count.count++ == 0) count.example = message;
  count.after.Record(NowNs() - due_ns);
}

}  // namespace sluice::load
