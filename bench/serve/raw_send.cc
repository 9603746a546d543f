#include "bench/serve/raw_send.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "bench/serve/epoll.h"
#include "bench/serve/monotonic.h"
#include "bench/serve/socket.h"
#include "bench/serve/text.h"

namespace sluice::load {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr size_t kMaxRequest = 4 << 20;
constexpr std::string_view kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

std::string Chunk(std::string_view event) {
  return fmt::format("{:x}\r\ndata: {}\n\n\r\n", event.size() + 8, event);
}

constexpr std::string_view kFields =
    "\"id\":\"chatcmpl-raw-send\",\"object\":\"chat.completion.chunk\",\"created\":1,"
    "\"model\":\"raw\",\"choices\":[{\"index\":0,\"delta\":{";

// A chunk with one token, its text as long as the whole is to be. Empty if it cannot be so short.
std::string TokenChunk(int64_t bytes) {
  std::string text;
  for (;;) {
    std::string chunk =
        Chunk(fmt::format("{{{}\"content\":\"{} \"}},\"finish_reason\":null}}]}}", kFields, text));
    const auto size = static_cast<int64_t>(chunk.size());
    if (size == bytes) return chunk;
    if (size > bytes || text.size() > 1 << 20) return size > bytes && text.empty() ? "" : chunk;
    text.append(static_cast<size_t>(std::max<int64_t>(bytes - size - 2, 1)), 'a');
  }
}

std::string LastChunks(int64_t tokens) {
  return Chunk(fmt::format("{{{}}},\"finish_reason\":\"length\"}}]}}", kFields)) +
         Chunk(fmt::format("{{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,"
                           "\"completion_tokens\":{},\"total_tokens\":{}}}}}",
                           tokens, tokens + 1)) +
         Chunk("[DONE]") + "0\r\n\r\n";
}

// As long as Sluice's.
constexpr std::string_view kLive =
    "Content-Type: application/json\r\nContent-Length: 52\r\n\r\n"
    "{\"status\":\"ok\",\"live\":true,\"ready\":true,\"reason\":\"\"}";
constexpr std::string_view kModels =
    "Content-Length: 39\r\n\r\n{\"object\":\"list\",\"data\":[{\"id\":\"raw\"}]}";

struct Client {
  int fd = -1;
  std::unique_ptr<SSL, SslFree> ssl;
  std::string in, unsent;
  int64_t tokens = 0, left = 0;  // of the answer; chunks that are left
  int64_t interval = 1;          // tokens a chunk
  bool closing = false;          // when all is sent
  ~Client() {
    ssl.reset();
    close(fd);
  }
};

// The number after `"name":` in a request's body.
int64_t FieldOf(std::string_view body, std::string_view name, int64_t otherwise) {
  const size_t at = body.find(fmt::format("\"{}\":", name));
  if (at == std::string_view::npos) return otherwise;
  std::string_view rest = body.substr(at + name.size() + 3);
  rest = Strip(rest.substr(0, rest.find_first_of(",}")));
  return ParseNumber<int64_t>(rest).value_or(otherwise);
}

class RawServer {
 public:
  explicit RawServer(const RawSendOptions& options)
      : options_(options), token_(TokenChunk(options.chunk_bytes)) {}
  ~RawServer() {
    if (listener_ >= 0) close(listener_);
    if (epoll_ >= 0) close(epoll_);
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;

  absl::StatusOr<uint16_t> Listen();
  void Run(const std::function<bool()>& stopped);

 private:
  void Accept();
  // Until there is no more: epoll reports edges. `ended`: so is the client's side, perhaps.
  void Read(Client* client, bool ended);
  void Answer(Client& client, std::string_view head);
  void AnswerGet(Client& client, std::string_view head);
  bool Send(Client& client, std::string_view bytes);  // false: gone
  void Flush(Client& client);
  void Step(int64_t now_ns);
  void Drop(Client* client) { gone_.push_back(client); }
  void Bury();

  const RawSendOptions& options_;
  const std::string token_;
  std::unique_ptr<SSL_CTX, SslContextFree> tls_;
  int listener_ = -1, epoll_ = -1;
  std::map<Client*, std::unique_ptr<Client>> clients_;
  std::multimap<int64_t, Client*> due_;  // streams by the time of their next chunk
  std::vector<Client*> gone_;
  int64_t num_requests_ = 0;
};

absl::StatusOr<uint16_t> RawServer::Listen() {
  if (token_.empty())
    return absl::InvalidArgumentError(
        fmt::format("chunk-bytes is {}; a chunk has at least 190", options_.chunk_bytes));
  if (!options_.tls_cert.empty()) {
    tls_.reset(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_set_mode(tls_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                     SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_use_certificate_chain_file(tls_.get(), options_.tls_cert.c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_.get(), options_.tls_key.c_str(), SSL_FILETYPE_PEM) != 1)
      return absl::InvalidArgumentError(
          fmt::format("{} and {} are no certificate and key", options_.tls_cert, options_.tls_key));
  }
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int one = 1;
  setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(options_.port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener_, 4096) != 0)
    return absl::UnavailableError(fmt::format("port {}: {}", options_.port, strerror(errno)));
  socklen_t size = sizeof(address);
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event);
  return ntohs(address.sin_port);
}

void RawServer::Accept() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    auto client = std::make_unique<Client>();
    client->fd = fd;
    if (tls_ != nullptr) {
      client->ssl.reset(SSL_new(tls_.get()));
      SSL_set_fd(client->ssl.get(), fd);
      SSL_set_accept_state(client->ssl.get());
    }
    // Edges: a stream is written by its steps, not by what epoll says while there is room.
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                      .data = {.ptr = client.get()}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    Client* raw = client.get();
    clients_.emplace(raw, std::move(client));
  }
}

bool RawServer::Send(Client& client, std::string_view bytes) {
  if (!client.unsent.empty()) {
    client.unsent += bytes;
    return true;
  }
  ssize_t sent = 0;
  if (client.ssl != nullptr) {
    sent = SSL_write(client.ssl.get(), bytes.data(), static_cast<int>(bytes.size()));
    if (sent <= 0) {
      const int error = SSL_get_error(client.ssl.get(), static_cast<int>(sent));
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return false;
    }
  } else {
    sent = send(client.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
  }
  client.unsent.append(bytes.substr(static_cast<size_t>(std::max<ssize_t>(sent, 0))));
  return true;
}

void RawServer::Flush(Client& client) {
  if (client.unsent.empty()) return;
  const std::string bytes = std::exchange(client.unsent, {});
  if (!Send(client, bytes) || (client.closing && client.unsent.empty())) Drop(&client);
}

void RawServer::Read(Client* client, bool ended) {
  char buffer[16 << 10];
  for (;;) {
    ssize_t size = 0;
    if (client->ssl != nullptr) {
      size = SSL_read(client->ssl.get(), buffer, sizeof(buffer));
      const int error =
          size > 0 ? SSL_ERROR_NONE : SSL_get_error(client->ssl.get(), static_cast<int>(size));
      if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) break;
    } else {
      size = recv(client->fd, buffer, sizeof(buffer), 0);
      if (size < 0 && errno == EAGAIN) break;
    }
    if (size <= 0 || client->in.size() > kMaxRequest) return Drop(client);
    client->in.append(buffer, static_cast<size_t>(size));
    // A short read of a plain socket has emptied it; what comes later is another edge.
    const bool full = size == static_cast<ssize_t>(sizeof(buffer));
    if (client->ssl == nullptr && !ended && !full) break;
  }
  const size_t end = client->in.find("\r\n\r\n");
  if (end == std::string::npos) return;
  Answer(*client, std::string_view(client->in).substr(0, end + 4));
}

void RawServer::Answer(Client& client, std::string_view head) {
  const size_t at = head.find("Content-Length: ");
  const std::string_view rest = at == std::string_view::npos ? "0\r" : head.substr(at + 16);
  const int64_t length = ParseNumber<int64_t>(rest.substr(0, rest.find('\r'))).value_or(0);
  const size_t end = head.size() + static_cast<size_t>(std::clamp<int64_t>(length, 0, kMaxRequest));
  if (client.in.size() < end || client.left > 0) return;
  if (head.starts_with("GET ")) {
    AnswerGet(client, head);
    client.in.erase(0, end);
    return;
  }
  const auto body = std::string_view(client.in).substr(head.size(), end - head.size());
  client.tokens = std::clamp<int64_t>(FieldOf(body, "max_tokens", 16), 1, 1'000'000);
  client.interval = std::clamp<int64_t>(FieldOf(body, "stream_interval", 1), 1, 1024);
  client.left = (client.tokens + client.interval - 1) / client.interval;
  client.in.erase(0, end);
  const double wait_ms = options_.first_ms +
                         options_.first_spread_ms * static_cast<double>(num_requests_++ % 100) / 99;
  due_.emplace(NowNs() + static_cast<int64_t>(wait_ms * 1e6), &client);
  if (!Send(client, kHead)) Drop(&client);
}

// Whoever asks for it is closed after the answer.
void RawServer::AnswerGet(Client& client, std::string_view head) {
  client.closing = head.find("\r\nConnection: close\r\n") != std::string_view::npos;
  std::string answer = "HTTP/1.1 200 OK\r\n";
  if (client.closing) answer += "Connection: close\r\n";
  answer += head.starts_with("GET /livez ") ? kLive : kModels;
  if (!Send(client, answer) || (client.closing && client.unsent.empty())) Drop(&client);
}

// All streams whose chunk is due. The next one is due a step after this one was, however late this
// one is, so that the mean rate holds.
void RawServer::Step(int64_t now_ns) {
  const auto step = static_cast<int64_t>(options_.step_ms * 1e6);
  std::vector<decltype(due_)::node_type> again;  // nodes move: a step allocates next to nothing
  while (!due_.empty() && due_.begin()->first <= now_ns) {
    auto node = due_.extract(due_.begin());
    Client* client = node.mapped();
    bool here = Send(*client, token_);
    if (here && --client->left > 0) {
      node.key() += step * client->interval;
      again.push_back(std::move(node));
    } else if (here) {
      here = Send(*client, LastChunks(client->tokens));
    }
    if (!here) Drop(client);
  }
  for (auto& node : again) due_.insert(due_.end(), std::move(node));
}

void RawServer::Bury() {
  for (Client* client : gone_) {
    const auto found = clients_.find(client);
    if (found == clients_.end()) continue;  // twice in one round
    if (client->left > 0)                   // else no chunk of it is due
      std::erase_if(due_, [&](const auto& entry) { return entry.second == client; });
    if (client->ssl != nullptr && client->closing) SSL_shutdown(client->ssl.get());
    clients_.erase(found);
  }
  gone_.clear();
}

void RawServer::Run(const std::function<bool()>& stopped) {
  std::array<epoll_event, 256> events;
  while (!stopped()) {
    int64_t wait = kSecond / 10;
    if (!due_.empty()) wait = std::clamp<int64_t>(due_.begin()->first - NowNs(), 0, wait);
    const int count = WaitForEvents(epoll_, events.data(), static_cast<int>(events.size()), wait);
    for (int i = 0; i < count; ++i) {
      auto* client = static_cast<Client*>(events[i].data.ptr);
      if (client == nullptr) {
        Accept();
        continue;
      }
      if ((events[i].events & EPOLLOUT) != 0) Flush(*client);
      const bool ended = (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
      if (ended || (events[i].events & EPOLLIN) != 0) Read(client, ended);
    }
    Bury();
    Step(NowNs());
    Bury();
  }
}

}  // namespace

absl::Status ServeRawSend(const RawSendOptions& options, const std::function<void(uint16_t)>& ready,
                          const std::function<bool()>& stopped) {
  RawServer server(options);
  ASSIGN_OR_RETURN(const uint16_t port, server.Listen());
  ready(port);
  server.Run(stopped);
  return absl::OkStatus();
}

}  // namespace sluice::load
