#include "bench/serve/grpc_transport.h"

#include <fmt/format.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "bench/serve/text.h"

namespace sluice::load {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kPrefix = 5;  // of a gRPC message: a flag and its length, big-endian
constexpr size_t kMaxMessage = 16 << 20;
constexpr size_t kMaxErrorText = 200;
constexpr int kMaxReadsAtOnce = 8;
// So large that the harness never holds a server up.
constexpr int32_t kStreamWindow = 4 << 20;
constexpr int32_t kConnectionWindow = 256 << 20;

struct SessionFree {
  void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
};

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

nghttp2_nv Header(std::string_view name, std::string_view value) {
  const auto bytes = [](std::string_view text) {
    return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

struct GrpcTransport::Call {
  int64_t id = 0;
  Exchange* exchange = nullptr;  // null: nobody waits for it any more
  Connection* connection = nullptr;
  int32_t stream = 0;
  std::string out;  // the request with its prefix
  size_t out_at = 0;
  std::string in;  // part of a message
  int http_status = 0;
  int grpc_status = -1;  // -1: not told
};

class GrpcTransport::Connection final : public Pollable {
 public:
  explicit Connection(GrpcTransport& owner) : owner_(owner) {}

  absl::Status Open();
  [[nodiscard]] bool usable() const {
    return socket_.fd() >= 0 && nghttp2_session_check_request_allowed(session_.get()) != 0;
  }
  void Send(Call& call, int64_t now_ns);
  void Reset(Call& call);
  void OnEvents(uint32_t events, int64_t now_ns) override;
  // Ends all calls with `kind`.
  void Fail(std::string_view kind, std::string_view message, int64_t now_ns);

 private:
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t flags,
                      void* self);
  static int OnData(nghttp2_session* session, uint8_t flags, int32_t stream, const uint8_t* data,
                    size_t size, void* self);
  static int OnStreamClose(nghttp2_session* session, int32_t stream, uint32_t error, void* self);
  static ssize_t ReadRequest(nghttp2_session* session, int32_t stream, uint8_t* out, size_t size,
                             uint32_t* flags, nghttp2_data_source* source, void* self);

  void Watch(bool write);
  void Flush(int64_t now_ns);
  void ReadSome(int64_t now_ns);
  void TakeMessages(Call& call);

  GrpcTransport& owner_;
  Socket socket_;
  std::unique_ptr<nghttp2_session, SessionFree> session_;
  bool connected_ = false, watched_ = false, watches_write_ = false;
  std::string out_;
  size_t out_at_ = 0;
  int64_t now_ns_ = 0;  // for callbacks
};

absl::Status GrpcTransport::Connection::Open() {
  RETURN_IF_ERROR(socket_.Connect(owner_.endpoint_, 0));
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnStreamClose);
  nghttp2_session* session = nullptr;
  nghttp2_session_client_new(&session, callbacks, this);
  session_.reset(session);
  nghttp2_session_callbacks_del(callbacks);
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow}};
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  Watch(true);
  return absl::OkStatus();
}

void GrpcTransport::Connection::Watch(bool write) {
  if (watched_ && write == watches_write_) return;
  epoll_event event{.events = write ? EPOLLIN | EPOLLOUT : EPOLLIN,
                    .data = {.ptr = static_cast<Pollable*>(this)}};
  epoll_ctl(owner_.epoll_, watched_ ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket_.fd(), &event);
  watched_ = true;
  watches_write_ = write;
}

ssize_t GrpcTransport::Connection::ReadRequest(nghttp2_session*, int32_t, uint8_t* out, size_t size,
                                               uint32_t* flags, nghttp2_data_source* source,
                                               void*) {
  auto& call = *static_cast<Call*>(source->ptr);
  size = std::min(size, call.out.size() - call.out_at);
  std::memcpy(out, call.out.data() + call.out_at, size);
  call.out_at += size;
  if (call.out_at == call.out.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(size);
}

void GrpcTransport::Connection::Send(Call& call, int64_t now_ns) {
  const std::string& body = call.exchange->body;
  call.out.assign(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8)
    call.out.push_back(static_cast<char>(body.size() >> shift));
  call.out += body;
  const Endpoint& endpoint = owner_.endpoint_;
  std::vector<nghttp2_nv> headers = {Header(":method", "POST"),
                                     Header(":scheme", endpoint.tls == nullptr ? "http" : "https"),
                                     Header(":path", owner_.dialect_->path()),
                                     Header(":authority", endpoint.host_port),
                                     Header("content-type", "application/grpc"),
                                     Header("te", "trailers"),
                                     Header("user-agent", "sluice-bench")};
  if (!owner_.authorization_.empty())
    headers.push_back(Header("authorization", owner_.authorization_));
  const nghttp2_data_provider provider{.source = {.ptr = &call}, .read_callback = ReadRequest};
  call.connection = this;
  call.stream = nghttp2_submit_request(session_.get(), nullptr, headers.data(), headers.size(),
                                       &provider, &call);
  if (connected_) Flush(now_ns);
}

void GrpcTransport::Connection::Reset(Call& call) {
  nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, call.stream, NGHTTP2_CANCEL);
  if (connected_) Flush(now_ns_);
}

void GrpcTransport::Connection::Flush(int64_t now_ns) {
  now_ns_ = now_ns;
  for (;;) {
    if (out_at_ == out_.size()) {
      out_.clear();
      out_at_ = 0;
      const uint8_t* bytes = nullptr;
      // One call gives one frame; a few are joined for a send.
      while (out_.size() < kReadBytes) {
        const ssize_t size = nghttp2_session_mem_send(session_.get(), &bytes);
        if (size <= 0) break;
        out_.append(View(bytes, static_cast<size_t>(size)));
      }
      if (out_.empty()) return Watch(false);
    }
    size_t size = out_.size() - out_at_;
    const Socket::Io result = socket_.Write(out_.data() + out_at_, size);
    out_at_ += size;
    if (result == Socket::Io::kAgain)
      return Watch(owner_.endpoint_.tls == nullptr || socket_.wants_write());
    if (result != Socket::Io::kOk) return Fail("connection_failed", "", now_ns);
  }
}

void GrpcTransport::Connection::OnEvents(uint32_t events, int64_t now_ns) {
  if (socket_.fd() < 0) return;
  now_ns_ = now_ns;
  if (!connected_) {
    const int error = socket_.ConnectError();
    if (error != 0)
      return Fail(error == ECONNREFUSED ? "connect_refused" : "connect_failed", strerror(error),
                  now_ns);
    if ((events & EPOLLOUT) == 0) return;
    connected_ = true;
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) ReadSome(now_ns);
  if (socket_.fd() >= 0) Flush(now_ns);
}

void GrpcTransport::Connection::ReadSome(int64_t now_ns) {
  for (int i = 0; i < kMaxReadsAtOnce; ++i) {
    size_t size = kReadBytes;
    const Socket::Io result = socket_.Read(owner_.buffer_.data(), size);
    if (result == Socket::Io::kAgain) return;
    if (result == Socket::Io::kClosed) return Fail("closed_early", "", now_ns);
    if (result == Socket::Io::kFailed) return Fail("connection_failed", "", now_ns);
    owner_.events_.OnBytes(static_cast<int64_t>(size), 0);
    const ssize_t taken = nghttp2_session_mem_recv(
        session_.get(), reinterpret_cast<const uint8_t*>(owner_.buffer_.data()), size);
    if (taken < 0)
      return Fail("malformed_http2", nghttp2_strerror(static_cast<int>(taken)), now_ns);
    if (owner_.endpoint_.tls == nullptr && size < kReadBytes) return;
  }
}

int GrpcTransport::Connection::OnHeader(nghttp2_session* session, const nghttp2_frame* frame,
                                        const uint8_t* name, size_t name_size, const uint8_t* value,
                                        size_t value_size, uint8_t, void*) {
  auto* call =
      static_cast<Call*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
  if (call == nullptr) return 0;
  const std::string_view key = View(name, name_size), text = View(value, value_size);
  if (key == ":status") call->http_status = ParseNumber<int>(text).value_or(0);
  if (key == "grpc-status") call->grpc_status = ParseNumber<int>(text).value_or(2);
  if (key == "grpc-message" && call->exchange != nullptr)
    call->exchange->message = text.substr(0, kMaxErrorText);
  return 0;
}

int GrpcTransport::Connection::OnData(nghttp2_session* session, uint8_t, int32_t stream,
                                      const uint8_t* data, size_t size, void* self) {
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  if (call == nullptr || call->exchange == nullptr || !call->exchange->error.empty()) return 0;
  call->in.append(View(data, size));
  static_cast<Connection*>(self)->TakeMessages(*call);
  return 0;
}

void GrpcTransport::Connection::TakeMessages(Call& call) {
  std::string_view rest = call.in;
  while (rest.size() >= kPrefix && call.exchange->error.empty()) {
    size_t size = 0;
    for (size_t i = 1; i < kPrefix; ++i) size = size << 8 | static_cast<uint8_t>(rest[i]);
    if (rest[0] != 0 || size > kMaxMessage) {  // compressed, though nobody offered that
      call.exchange->error = rest[0] != 0 ? "malformed_event" : "message_too_large";
      break;
    }
    if (rest.size() < kPrefix + size) break;
    owner_.dialect_->Take(rest.substr(kPrefix, size), *call.exchange, now_ns_, owner_.events_);
    rest.remove_prefix(kPrefix + size);
  }
  call.in.erase(0, call.in.size() - rest.size());
}

int GrpcTransport::Connection::OnStreamClose(nghttp2_session* session, int32_t stream,
                                             uint32_t error, void* self) {
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  if (call == nullptr) return 0;
  if (call->exchange != nullptr && call->exchange->error.empty()) {
    std::string& kind = call->exchange->error;
    if (call->http_status != 200 && call->http_status != 0)
      kind = fmt::format("http_{}", call->http_status);
    else if (call->grpc_status > 0)
      kind = fmt::format("grpc_{}", call->grpc_status);
    else if (error != NGHTTP2_NO_ERROR || call->grpc_status < 0)
      kind = "stream_reset";
    else if (!call->exchange->saw_done)
      kind = "no_done";
  }
  auto* connection = static_cast<Connection*>(self);
  connection->owner_.End(*call, connection->now_ns_);
  return 0;
}

void GrpcTransport::Connection::Fail(std::string_view kind, std::string_view message,
                                     int64_t now_ns) {
  std::string verdict;
  if (connected_ && socket_.in_handshake()) {
    kind = "tls_failed";
    verdict = socket_.CertificateVerdict();
    message = verdict;
  }
  socket_.Close();
  std::vector<Call*> mine;
  for (const auto& [id, call] : owner_.calls_)
    if (call->connection == this) mine.push_back(call.get());
  for (Call* call : mine) {
    if (call->exchange != nullptr && call->exchange->error.empty()) {
      call->exchange->error = kind;
      call->exchange->message = message;
    }
    owner_.End(*call, now_ns);
  }
}

GrpcTransport::GrpcTransport(const LoadOptions& options, const Endpoint& endpoint, int epoll,
                             GrpcDialect* dialect, ExchangeEvents& events)
    : options_(options),
      endpoint_(endpoint),
      epoll_(epoll),
      dialect_(dialect),
      events_(events),
      authorization_(options.api_key.empty() ? "" : "Bearer " + options.api_key),
      connections_(static_cast<size_t>(options.grpc_connections)),
      buffer_(kReadBytes) {}

GrpcTransport::~GrpcTransport() = default;
void GrpcTransport::CollectClosed() { closed_.clear(); }

bool GrpcTransport::HasRoom() const {
  return static_cast<int64_t>(calls_.size()) < options_.max_connections;
}

GrpcTransport::Connection* GrpcTransport::Pick(int64_t now_ns, std::string& why) {
  std::unique_ptr<Connection>& slot = connections_[turn_++ % connections_.size()];
  if (slot != nullptr && slot->usable()) return slot.get();
  // What still runs on one that got a GOAWAY fails with it.
  if (slot != nullptr) {
    slot->Fail("connection_failed", "the server sends the connection away", now_ns);
    closed_.push_back(std::move(slot));
  }
  slot = std::make_unique<Connection>(*this);
  ++num_opened_;
  const absl::Status status = slot->Open();
  if (status.ok()) return slot.get();
  why = std::string(status.message());
  slot.reset();
  return nullptr;
}

void GrpcTransport::Start(Exchange& exchange, int64_t now_ns) {
  std::string why;
  Connection* connection = Pick(now_ns, why);
  if (connection == nullptr) {
    exchange.error = "connect_failed";
    exchange.message = why;
    events_.OnEnd(exchange, now_ns);
    return;
  }
  auto call = std::make_unique<Call>();
  call->id = exchange.connection = next_call_++;
  call->exchange = &exchange;
  Call& one = *call;
  calls_.emplace(one.id, std::move(call));
  connection->Send(one, now_ns);
}

void GrpcTransport::Cancel(Exchange& exchange) {
  const auto found = calls_.find(exchange.connection);
  if (found == calls_.end()) return;
  found->second->exchange = nullptr;
  found->second->connection->Reset(*found->second);
}

void GrpcTransport::End(Call& call, int64_t now_ns) {
  Exchange* exchange = call.exchange;
  calls_.erase(call.id);
  if (exchange != nullptr) events_.OnEnd(*exchange, now_ns);
}

}  // namespace sluice::load
