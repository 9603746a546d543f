#include "bench/serve/http_transport.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/status_macros.h"
#include "bench/serve/chunk_reader.h"
#include "bench/serve/http_response.h"

namespace sluice::load {
namespace {

constexpr size_t kReadBytes = 64 << 10;
constexpr int kSlowReceiveBuffer = 4096;  // the kernel's smallest is about this
constexpr size_t kSlowReadBytes = 2048;
constexpr size_t kMaxErrorBody = 4096;
constexpr size_t kMaxMessage = 200;
constexpr int kMaxReadsAtOnce = 8;  // so that one fast stream does not hold up the others

std::string RequestPath(const LoadOptions& options, const std::string& path) {
  if (path.ends_with("completions")) return path;
  const std::string base = path.empty() ? "/v1" : path;
  return base + (options.endpoint == "chat" ? "/chat/completions" : "/completions");
}

}  // namespace

class HttpTransport::Connection final : public Pollable {
 public:
  Connection(HttpTransport& owner, int64_t id) : owner_(owner), id_(id) {}

  absl::Status Open(int receive_buffer) {
    RETURN_IF_ERROR(socket_.Connect(owner_.endpoint_, receive_buffer));
    Watch(EPOLLIN | EPOLLOUT);
    return absl::OkStatus();
  }
  void Send(Exchange& exchange, int64_t now_ns);
  void OnEvents(uint32_t events, int64_t now_ns) override;
  void Pause(int64_t now_ns) {
    Watch(0);
    owner_.events_.OnPause(id_,
                           now_ns + static_cast<int64_t>(owner_.options_.slow_pause_seconds * 1e9));
  }
  void Resume(int64_t now_ns) {
    Watch(EPOLLIN);
    ReadSome(now_ns);
  }
  void Hold() { held_ = true; }
  [[nodiscard]] bool held() const { return held_; }
  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] int64_t id() const { return id_; }
  void Close() { socket_.Close(); }

 private:
  void Watch(uint32_t interest);
  void HoldOn(int64_t now_ns);
  void Flush(int64_t now_ns);
  void ReadSome(int64_t now_ns);
  void Take(std::string_view bytes, int64_t now_ns);
  void TakeEvent(std::string_view event, int64_t now_ns);
  void OnClosed(const char* kind, int64_t now_ns);
  void Finish(bool reusable, int64_t now_ns);
  void Fail(std::string_view kind, std::string_view message, int64_t now_ns);

  HttpTransport& owner_;
  const int64_t id_;
  Socket socket_;
  uint32_t interest_ = 0;
  bool watched_ = false, connected_ = false, used_ = false;
  bool held_ = false, ready_ = false;  // idle for good; its handshake has ended
  Exchange* exchange_ = nullptr;
  std::string out_;
  size_t out_at_ = 0;
  HttpResponseReader response_;
  SseReader sse_;
  ChunkReader chunks_;
  DataLineCounter lines_;
  std::string error_body_;
};

void HttpTransport::Connection::Watch(uint32_t interest) {
  if (watched_ && interest == interest_) return;
  epoll_event event{.events = interest, .data = {.ptr = static_cast<Pollable*>(this)}};
  epoll_ctl(owner_.epoll_, watched_ ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket_.fd(), &event);
  watched_ = true;
  interest_ = interest;
}

void HttpTransport::Connection::Send(Exchange& exchange, int64_t now_ns) {
  exchange_ = &exchange;
  exchange.connection = id_;
  response_.Reset();
  sse_.Reset();
  chunks_.Reset();
  error_body_.clear();
  out_ = owner_.head_;
  fmt::format_to(std::back_inserter(out_), "{}\r\n\r\n", exchange.body.size());
  out_ += exchange.body;
  out_at_ = 0;
  if (connected_) Flush(now_ns);
}

void HttpTransport::Connection::Flush(int64_t now_ns) {
  while (out_at_ < out_.size()) {
    size_t size = out_.size() - out_at_;
    const Socket::Io result = socket_.Write(out_.data() + out_at_, size);
    out_at_ += size;
    if (result == Socket::Io::kAgain) {
      Watch(socket_.wants_write() || owner_.endpoint_.tls == nullptr ? EPOLLIN | EPOLLOUT
                                                                     : EPOLLIN);
      return;
    }
    if (result != Socket::Io::kOk) return OnClosed("closed_early", now_ns);
  }
  Watch(EPOLLIN);
}

// Brings a connection that sends nothing through its TLS handshake, which reading drives.
void HttpTransport::Connection::HoldOn(int64_t now_ns) {
  if (owner_.endpoint_.tls != nullptr) ReadSome(now_ns);
  if (socket_.fd() < 0) return;
  if (socket_.in_handshake()) return Watch(socket_.wants_write() ? EPOLLIN | EPOLLOUT : EPOLLIN);
  ready_ = true;
  ++owner_.num_held_;
  Watch(EPOLLIN);
}

void HttpTransport::Connection::OnEvents(uint32_t events, int64_t now_ns) {
  if (socket_.fd() < 0) return;  // closed earlier in the same batch
  if (!connected_) {
    const int error = socket_.ConnectError();
    if (error != 0)
      return Fail(error == ECONNREFUSED ? "connect_refused" : "connect_failed", strerror(error),
                  now_ns);
    if ((events & EPOLLOUT) == 0) return;
    connected_ = true;
  }
  if (held_ && !ready_) return HoldOn(now_ns);
  if (out_at_ < out_.size()) {
    Flush(now_ns);
  } else if ((events & EPOLLOUT) != 0) {
    Watch(EPOLLIN);
  }
  if (socket_.fd() >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) ReadSome(now_ns);
}

void HttpTransport::Connection::ReadSome(int64_t now_ns) {
  const bool slow = exchange_ != nullptr && exchange_->slow;
  const size_t room = slow ? kSlowReadBytes : kReadBytes;
  for (int i = 0; i < kMaxReadsAtOnce; ++i) {
    size_t size = room;
    const Socket::Io result = socket_.Read(owner_.buffer_.data(), size);
    if (result == Socket::Io::kAgain) {
      if (out_at_ < out_.size()) Flush(now_ns);  // the TLS handshake may have ended
      return;
    }
    if (result == Socket::Io::kFailed) return OnClosed("connection_failed", now_ns);
    if (result == Socket::Io::kClosed) return OnClosed("closed_early", now_ns);
    Take({owner_.buffer_.data(), size}, now_ns);
    if (socket_.fd() < 0) return;
    if (exchange_ != nullptr && exchange_->slow) return Pause(now_ns);
    // A short read of a plain socket has emptied it: the next one is epoll's to announce.
    if (owner_.endpoint_.tls == nullptr && size < room) return;
  }
}

void HttpTransport::Connection::Take(std::string_view bytes, int64_t now_ns) {
  owner_.events_.OnBytes(static_cast<int64_t>(bytes.size()), lines_.Feed(bytes));
  if (exchange_ == nullptr) {  // nobody asked
    owner_.Remove(*this);
    return;
  }
  const size_t taken = response_.Feed(bytes, [&](std::string_view part) {
    if (response_.status() != 200) {
      error_body_.append(
          part.substr(0, kMaxErrorBody - std::min(kMaxErrorBody, error_body_.size())));
      return;
    }
    const bool fits = sse_.Feed(part, [&](std::string_view event) { TakeEvent(event, now_ns); });
    if (!fits && exchange_->error.empty()) exchange_->error = "line_too_long";
  });
  if (!response_.error().empty()) return Fail(response_.error(), "", now_ns);
  if (exchange_->error == "line_too_long") return Fail(exchange_->error, "", now_ns);
  if (response_.done()) Finish(response_.keep_alive() && taken == bytes.size(), now_ns);
}

void HttpTransport::Connection::TakeEvent(std::string_view event, int64_t now_ns) {
  Exchange& exchange = *exchange_;
  const StreamChunk chunk = chunks_.Read(event);
  if (chunk.has_text) {
    owner_.events_.OnText(exchange, chunk.text, now_ns);
    if (chunk.finish_reason.empty() && chunk.output_tokens < 0) return;
  }
  if (exchange.error.empty() && (chunk.malformed || chunk.failed)) {
    exchange.error = chunk.malformed ? "malformed_event" : "error_event";
    exchange.message = event.substr(0, kMaxMessage);
  }
  if (!chunk.finish_reason.empty()) exchange.finish_reason = chunk.finish_reason;
  if (chunk.output_tokens >= 0) exchange.output_tokens = chunk.output_tokens;
  if (chunk.prompt_tokens >= 0) exchange.prompt_tokens = chunk.prompt_tokens;
  if (chunk.cached_tokens >= 0) exchange.cached_tokens = chunk.cached_tokens;
  exchange.saw_done |= chunk.done;
}

// A connection that was kept may be closed just as the next request is sent; that one is sent
// again.
void HttpTransport::Connection::OnClosed(const char* kind, int64_t now_ns) {
  if (exchange_ == nullptr) return owner_.Remove(*this);
  if (socket_.in_handshake()) return Fail("tls_failed", socket_.CertificateVerdict(), now_ns);
  if (response_.Close()) return Finish(false, now_ns);
  if (!used_ || response_.begun() || exchange_->retried) return Fail(kind, "", now_ns);
  Exchange& exchange = *exchange_;
  exchange_ = nullptr;
  exchange.retried = true;
  owner_.Remove(*this);
  owner_.Start(exchange, now_ns);
}

void HttpTransport::Connection::Finish(bool reusable, int64_t now_ns) {
  Exchange& exchange = *exchange_;
  if (response_.status() != 200) {
    exchange.error = fmt::format("http_{}", response_.status());
    exchange.message = error_body_.substr(0, kMaxMessage);
  } else if (exchange.error.empty() && !exchange.saw_done) {
    exchange.error = "no_done";
  }
  const bool keep = reusable && !exchange.slow && !owner_.options_.new_connections;
  exchange_ = nullptr;
  used_ = true;
  if (keep) {
    owner_.free_.push_back(this);
  } else {
    owner_.Remove(*this);
  }
  owner_.events_.OnEnd(exchange, now_ns);
}

void HttpTransport::Connection::Fail(std::string_view kind, std::string_view message,
                                     int64_t now_ns) {
  Exchange* exchange = exchange_;
  exchange_ = nullptr;
  owner_.Remove(*this);
  if (exchange == nullptr) return;
  exchange->error = kind;
  exchange->message = message;
  owner_.events_.OnEnd(*exchange, now_ns);
}

HttpTransport::HttpTransport(const LoadOptions& options, const Endpoint& endpoint, int epoll,
                             ExchangeEvents& events)
    : options_(options), endpoint_(endpoint), epoll_(epoll), events_(events), buffer_(kReadBytes) {
  head_ = fmt::format(
      "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n"
      "Accept: text/event-stream\r\nUser-Agent: sluice-bench\r\n",
      RequestPath(options, endpoint.path), endpoint.host_port);
  if (!options.api_key.empty())
    head_ += fmt::format("Authorization: Bearer {}\r\n", options.api_key);
  if (options.new_connections) head_ += "Connection: close\r\n";
  head_ += "Content-Length: ";
}

HttpTransport::~HttpTransport() = default;
void HttpTransport::CollectClosed() { closed_.clear(); }

bool HttpTransport::HasRoom() const {
  return !free_.empty() ||
         static_cast<int64_t>(connections_.size()) - num_holding_ < options_.max_connections;
}

HttpTransport::Connection* HttpTransport::Open(int receive_buffer, std::string& why) {
  auto connection = std::make_unique<Connection>(*this, next_id_++);
  const absl::Status status = connection->Open(receive_buffer);
  if (!status.ok()) {
    why = std::string(status.message());
    return nullptr;
  }
  Connection* raw = connection.get();
  connections_.emplace(raw->id(), std::move(connection));
  return raw;
}

void HttpTransport::Start(Exchange& exchange, int64_t now_ns) {
  if (!exchange.slow && !free_.empty()) {
    Connection* connection = free_.back();
    free_.pop_back();
    connection->Send(exchange, now_ns);
    return;
  }
  std::string why;
  Connection* connection = Open(exchange.slow ? kSlowReceiveBuffer : 0, why);
  if (connection == nullptr) {
    exchange.error = "connect_failed";
    exchange.message = why;
    events_.OnEnd(exchange, now_ns);
    return;
  }
  connection->Send(exchange, now_ns);
}

void HttpTransport::Cancel(Exchange& exchange) {
  const auto found = connections_.find(exchange.connection);
  if (found != connections_.end()) Remove(*found->second);
}

void HttpTransport::Resume(int64_t connection, int64_t now_ns) {
  const auto found = connections_.find(connection);
  if (found != connections_.end()) found->second->Resume(now_ns);
}

void HttpTransport::OpenIdle(int64_t count) {
  constexpr int64_t kAtOnce = 128;  // below any listen backlog
  const int64_t connecting = num_holding_ - num_held_;
  const int64_t more = std::min(count - num_holding_, kAtOnce - connecting);
  for (int64_t i = 0; i < more; ++i) {
    std::string why;
    Connection* connection = Open(0, why);
    if (connection == nullptr) return;
    connection->Hold();
    ++num_holding_;
  }
}

void HttpTransport::Remove(Connection& connection) {
  const auto found = connections_.find(connection.id());
  if (found == connections_.end()) return;
  if (connection.held()) {
    --num_holding_;
    if (connection.ready()) --num_held_;
  }
  std::erase(free_, &connection);
  connection.Close();
  closed_.push_back(std::move(found->second));
  connections_.erase(found);
}

}  // namespace sluice::load
