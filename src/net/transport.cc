#include "net/transport.h"

#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

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

// Where OpenSSL writes to after the handshake: a std::string.
BIO_METHOD* StringBio() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "string");
    BIO_meth_set_write_ex(made, [](BIO* bio, const char* data, size_t size, size_t* written) {
      static_cast<std::string*>(BIO_get_data(bio))->append(data, size);
      *written = size;
      return 1;
    });
    BIO_meth_set_ctrl(made, [](BIO* /*bio*/, int command, long /*number*/, void* /*data*/) -> long {
      return command == BIO_CTRL_FLUSH ? 1 : 0;
    });
    return made;
  }();
  return method;
}

// What OpenSSL has to say by itself, to a peer that does not listen (replies to key updates).
constexpr size_t kMaxReplies = 64U << 10U;

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
  const IoResult result = FromSsl(SSL_do_handshake(ssl_.get()));
  if (result.state != IoState::kDone) return result;
  BIO* const bio = BIO_new(StringBio());
  if (bio == nullptr) return {IoState::kClosed, 0};
  BIO_set_data(bio, sealed_.get());
  BIO_set_init(bio, 1);
  SSL_set0_wbio(ssl_.get(), bio);
  return result;
}

IoResult Transport::Read(char* data, size_t size) {
  if (ssl_ == nullptr) {
    const int fd = socket_.native_handle();
    return FromSyscall(Retry([&] { return ::recv(fd, data, size, MSG_DONTWAIT); }),
                       IoState::kWantRead);
  }
  const size_t before = sealed_->size();
  ERR_clear_error();
  const IoResult result = FromSsl(SSL_read(ssl_.get(), data, ClampToInt(size)));
  replies_ = (before == 0 ? 0 : replies_) + sealed_->size() - before;
  return replies_ > kMaxReplies ? IoResult{IoState::kClosed, 0} : result;
}

IoResult Transport::Send(std::string_view bytes) {
  const int fd = socket_.native_handle();
  return FromSyscall(
      Retry([&] { return ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL); }),
      IoState::kWantWrite);
}

bool Transport::Seal(std::string_view text) {
  // While an answer goes out its buffers stay: OpenSSL would make them anew for each chunk.
  if (std::exchange(releases_, false)) SSL_clear_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
  while (!text.empty()) {
    ERR_clear_error();
    const int taken = SSL_write(ssl_.get(), text.data(), ClampToInt(text.size()));
    if (taken <= 0) return false;
    text.remove_prefix(static_cast<size_t>(taken));
  }
  return true;
}

void Transport::SealGoodbye() {
  if (SSL_is_init_finished(ssl_.get()) != 1) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void Transport::ReleaseBuffers() {
  // Set first: a read that finds nothing would make a buffer and keep it.
  if (!std::exchange(releases_, true)) SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
  SSL_free_buffers(ssl_.get());
  if (sealed_->empty()) *sealed_ = std::string();
}

void Transport::ShutdownWrite() {
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
