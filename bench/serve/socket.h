// A non-blocking TCP connection, plain or TLS.
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sluice::load {

struct SslContextFree {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

// Where requests go: a resolved address and, with TLS, how to check who answers. Immutable.
struct Endpoint {
  std::string host;  // as in the URL
  uint16_t port = 0;
  std::string path;       // of the URL; may be empty
  std::string host_port;  // for Host and :authority
  sockaddr_storage address{};
  socklen_t address_size = 0;
  std::unique_ptr<SSL_CTX, SslContextFree> tls;  // null: plain
};
struct TlsOptions {
  std::string ca_file;    // "": the system's
  bool insecure = false;  // any certificate
  bool http2 = false;     // offer h2 by ALPN
};

// Reads http://HOST[:PORT][/PATH] or https://..., and resolves the host.
// Errors: InvalidArgument for another scheme or port, a CA file that cannot be read; NotFound for
// a name that does not resolve.
absl::StatusOr<Endpoint> ResolveUrl(std::string_view url, const TlsOptions& options);

// The same host and TLS at another port, and with ALPN as `options` say.
absl::StatusOr<Endpoint> AtPort(const Endpoint& endpoint, int64_t port, const TlsOptions& options);

class Socket {
 public:
  enum class Io { kOk, kAgain, kClosed, kFailed };

  Socket() = default;
  ~Socket() { Close(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Begins to connect. `receive_buffer`: SO_RCVBUF in bytes, 0 the system's.
  // Errors: ResourceExhausted without a file descriptor; Unavailable where it fails at once.
  absl::Status Connect(const Endpoint& endpoint, int receive_buffer);
  // Once the socket is writable for the first time: whether it is connected. 0 or an errno.
  [[nodiscard]] int ConnectError() const;

  // `size`: in, the room; out, the bytes.
  Io Read(char* data, size_t& size);
  Io Write(const char* data, size_t& size);
  // TLS may have decrypted more than was read; epoll does not know of it.
  [[nodiscard]] bool HasBuffered() const { return ssl_ != nullptr && SSL_pending(ssl_.get()) > 0; }
  // A TLS handshake or key change that has to write before it can go on.
  [[nodiscard]] bool wants_write() const { return wants_write_; }
  // With TLS, before the handshake has ended.
  [[nodiscard]] bool in_handshake() const {
    return ssl_ != nullptr && !SSL_is_init_finished(ssl_.get());
  }
  // What OpenSSL thinks of the peer's certificate.
  [[nodiscard]] std::string CertificateVerdict() const;
  [[nodiscard]] int fd() const { return fd_; }
  void Close();

 private:
  Io TlsResult(int result);

  int fd_ = -1;
  std::unique_ptr<SSL, SslFree> ssl_;
  bool wants_write_ = false;
};

}  // namespace sluice::load
