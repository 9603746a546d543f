#include "net/transport.h"

#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace sluice {
namespace {

IoResult FromSyscall(ssize_t result, IoState want) {
  if (result > 0) return {IoState::kDone, static_cast<size_t>(result)};
  if (result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {want, 0};
  return {IoState::kClosed, 0};
}

// An interrupted call is made again.
template <class Call>
ssize_t Retry(Call call) {
  ssize_t result = 0;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

int ClampToInt(size_t size) {
  return static_cast<int>(std::min(size, static_cast<size_t>(std::numeric_limits<int>::max())));
}

}  // namespace

IoResult Transport::FromSsl(int result) {
  if (result > 0) return {IoState::kDone, static_cast<size_t>(result)};
  const int error = SSL_get_error(ssl_.get(), result);
  ERR_clear_error();
  if (error == SSL_ERROR_WANT_READ) return {IoState::kWantRead, 0};
  if (error == SSL_ERROR_WANT_WRITE) return {IoState::kWantWrite, 0};
  return {IoState::kClosed, 0};
}

IoResult Transport::Handshake() {
  if (ssl_ == nullptr) return {IoState::kDone, 1};
  ERR_clear_error();
  return FromSsl(SSL_do_handshake(ssl_.get()));
}

IoResult Transport::Read(char* data, size_t size) {
  if (ssl_ == nullptr) {
    const int fd = socket_.native_handle();
    return FromSyscall(Retry([&] { return ::recv(fd, data, size, MSG_DONTWAIT); }),
                       IoState::kWantRead);
  }
  ERR_clear_error();
  return FromSsl(SSL_read(ssl_.get(), data, ClampToInt(size)));
}

IoResult Transport::Write(std::string_view data) {
  if (ssl_ == nullptr) {
    const int fd = socket_.native_handle();
    return FromSyscall(
        Retry([&] { return ::send(fd, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL); }),
        IoState::kWantWrite);
  }
  // While an answer goes out its buffers stay: OpenSSL would make them anew for each chunk.
  SSL_clear_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
  // SIGPIPE is blocked on I/O threads, since OpenSSL writes without MSG_NOSIGNAL.
  ERR_clear_error();
  return FromSsl(SSL_write(ssl_.get(), data.data(), ClampToInt(data.size())));
}

void Transport::ReleaseBuffers() {
  if (ssl_ == nullptr) return;
  SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);  // whatever reads find nothing
  SSL_free_buffers(ssl_.get());
}

void Transport::ShutdownWrite() {
  if (ssl_ != nullptr && SSL_is_init_finished(ssl_.get()) == 1) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
  boost::system::error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
}

void Transport::Close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

bool Transport::Speaks(std::string_view protocol) const {
  if (ssl_ == nullptr) return true;
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return std::string_view(reinterpret_cast<const char*>(name), size) == protocol;
}

bool Transport::PeerHasClosed() {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (::getsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return true;
  return info.tcpi_state != TCP_ESTABLISHED;
}

}  // namespace sluice
