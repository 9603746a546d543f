#include "net/listener.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/logging.h"

namespace sluice {
namespace {

// Bounds what the kernel holds for a client that does not read, so that its tokens wait here, where
// they merge. With the default, which grows to megabytes, 2 s of 50 sleeping clients caused no
// merging at all.
constexpr int kSendBufferBytes = 16 << 10;
constexpr int kAcceptsPerTurn = 256;  // then others get a turn
constexpr auto kPause = std::chrono::milliseconds(50);

void SetOption(int fd, int level, int name, int value) {
  setsockopt(fd, level, name, &value, sizeof(value));
}

// On the listening socket: Linux hands these to the accepted ones.
void SetOptions(int fd) {
  SetOption(fd, SOL_SOCKET, SO_SNDBUF, kSendBufferBytes);
  SetOption(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kSendBufferBytes);
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  // A client that vanished without a word is found within a minute.
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Open(asio::io_context* io,
                                                         const std::string& host, int port,
                                                         OnAccept on_accept) {
  boost::system::error_code error;
  asio::ip::tcp::resolver resolver(*io);
  const auto flags = asio::ip::tcp::resolver::passive | asio::ip::tcp::resolver::numeric_service;
  const auto found = resolver.resolve(host, fmt::to_string(port), flags, error);
  if (error || found.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("host {} is no address of this machine: {}", host, error.message()));
  }
  const asio::ip::tcp::endpoint endpoint = found.begin()->endpoint();
  std::unique_ptr<Listener> listener(new Listener(io, std::move(on_accept)));
  asio::ip::tcp::acceptor& acceptor = listener->acceptor_;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) SetOptions(acceptor.native_handle());
  if (!error) acceptor.listen(4096, error);
  if (!error) acceptor.non_blocking(true, error);
  if (error)
    return absl::UnavailableError(
        fmt::format("cannot listen on {}:{}: {}", host, port, error.message()));
  listener->port_ = acceptor.local_endpoint(error).port();
  return listener;
}

void Listener::Accept() {
  acceptor_.async_wait(asio::socket_base::wait_read,
                       [this](const boost::system::error_code& error) {
                         if (!error) AcceptAll();
                       });
}

void Listener::AcceptAll() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    const int fd =
        ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      on_accept_(fd);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      Pause();
      return;
    }
  }
  Accept();
}

// Without file descriptors the socket stays readable; trying on would take the whole thread.
void Listener::Pause() {
  Log(LogLevel::kWarn, "accept_paused", {{"port", port_}, {"errno", errno}});
  pause_.expires_after(kPause);
  pause_.async_wait([this](const boost::system::error_code& error) {
    if (!error) Accept();
  });
}

void Listener::Close() {
  boost::system::error_code ignored;
  pause_.cancel();
  acceptor_.close(ignored);
}

}  // namespace sluice
