#include "bench/serve/socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/status_macros.h"
#include "bench/serve/text.h"

namespace sluice::load {
namespace {

absl::StatusOr<std::unique_ptr<SSL_CTX, SslContextFree>> MakeTls(const TlsOptions& options) {
  std::unique_ptr<SSL_CTX, SslContextFree> context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL gave no context");
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  const int loaded = options.ca_file.empty()
                         ? SSL_CTX_set_default_verify_paths(context.get())
                         : SSL_CTX_load_verify_file(context.get(), options.ca_file.c_str());
  if (loaded != 1)
    return absl::InvalidArgumentError(fmt::format("CA file {} cannot be used", options.ca_file));
  SSL_CTX_set_verify(context.get(), options.insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, nullptr);
  if (options.http2) {
    constexpr unsigned char kH2[] = {2, 'h', '2'};
    SSL_CTX_set_alpn_protos(context.get(), kH2, sizeof(kH2));
  }
  return context;
}

absl::Status Resolve(Endpoint& endpoint) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found);
  if (failed != 0)
    return absl::NotFoundError(
        fmt::format("host {} does not resolve: {}", endpoint.host, gai_strerror(failed)));
  std::memcpy(&endpoint.address, found->ai_addr, found->ai_addrlen);
  endpoint.address_size = found->ai_addrlen;
  freeaddrinfo(found);
  return absl::OkStatus();
}

bool IsAddress(const std::string& host) {
  unsigned char buffer[16];
  return host.find(':') != std::string::npos || inet_pton(AF_INET, host.c_str(), buffer) == 1;
}

}  // namespace

absl::StatusOr<Endpoint> ResolveUrl(std::string_view url, const TlsOptions& options) {
  Endpoint endpoint;
  const auto bad = [&](std::string_view what) {
    return absl::InvalidArgumentError(
        fmt::format("url \"{}\": {}; it is http[s]://HOST[:PORT][/PATH]", url, what));
  };
  const bool tls = url.starts_with("https://");
  if (!tls && !url.starts_with("http://")) return bad("its scheme is not known");
  std::string_view rest = url.substr(url.find("//") + 2);
  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos) {
    endpoint.path = rest.substr(slash);
    rest = rest.substr(0, slash);
    while (endpoint.path.ends_with('/')) endpoint.path.pop_back();
  }
  endpoint.host_port = rest;
  endpoint.port = tls ? 443 : 80;
  size_t colon = rest.rfind(':');
  const size_t bracket = rest.rfind(']');  // [::1]:8000
  if (bracket != std::string_view::npos && colon < bracket) colon = std::string_view::npos;
  if (colon != std::string_view::npos) {
    endpoint.port = ParseNumber<uint16_t>(rest.substr(colon + 1)).value_or(0);
    if (endpoint.port == 0) return bad("its port is not from 1 to 65535");
    rest = rest.substr(0, colon);
  }
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  if (rest.empty() || rest.find_first_of("@ \r\n?#") != std::string_view::npos ||
      endpoint.path.find_first_of(" \r\n") != std::string::npos)
    return bad("it has no plain host");
  endpoint.host = rest;
  RETURN_IF_ERROR(Resolve(endpoint));
  if (tls) {
    ASSIGN_OR_RETURN(endpoint.tls, MakeTls(options));
  }
  return endpoint;
}

absl::StatusOr<Endpoint> AtPort(const Endpoint& endpoint, int64_t port, const TlsOptions& options) {
  const bool v6 = endpoint.host.find(':') != std::string::npos;
  return ResolveUrl(fmt::format("{}://{}{}{}:{}", endpoint.tls == nullptr ? "http" : "https",
                                v6 ? "[" : "", endpoint.host, v6 ? "]" : "", port),
                    options);
}

absl::Status Socket::Connect(const Endpoint& endpoint, int receive_buffer) {
  fd_ = socket(endpoint.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return absl::ResourceExhaustedError(fmt::format("socket: {}", strerror(errno)));
  const int one = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  if (receive_buffer > 0)
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  const auto* address = reinterpret_cast<const sockaddr*>(&endpoint.address);
  if (connect(fd_, address, endpoint.address_size) != 0 && errno != EINPROGRESS)
    return absl::UnavailableError(strerror(errno));
  if (endpoint.tls == nullptr) return absl::OkStatus();
  ssl_.reset(SSL_new(endpoint.tls.get()));
  SSL_set_fd(ssl_.get(), fd_);
  SSL_set_connect_state(ssl_.get());
  if (IsAddress(endpoint.host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), endpoint.host.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl_.get(), endpoint.host.c_str());
    SSL_set1_host(ssl_.get(), endpoint.host.c_str());
  }
  return absl::OkStatus();
}

int Socket::ConnectError() const {
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

Socket::Io Socket::TlsResult(int result) {
  const int error = SSL_get_error(ssl_.get(), result);
  ERR_clear_error();
  wants_write_ = error == SSL_ERROR_WANT_WRITE;
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Io::kAgain;
  return error == SSL_ERROR_ZERO_RETURN ? Io::kClosed : Io::kFailed;
}

std::string Socket::CertificateVerdict() const {
  return X509_verify_cert_error_string(SSL_get_verify_result(ssl_.get()));
}

Socket::Io Socket::Read(char* data, size_t& size) {
  const size_t room = size;
  size = 0;
  if (ssl_ != nullptr) {
    const int got = SSL_read(ssl_.get(), data, static_cast<int>(room));
    if (got <= 0) return TlsResult(got);
    wants_write_ = false;
    size = static_cast<size_t>(got);
    return Io::kOk;
  }
  const ssize_t got = recv(fd_, data, room, 0);
  if (got > 0) {
    size = static_cast<size_t>(got);
    return Io::kOk;
  }
  if (got == 0) return Io::kClosed;
  return errno == EAGAIN || errno == EINTR ? Io::kAgain : Io::kFailed;
}

Socket::Io Socket::Write(const char* data, size_t& size) {
  const size_t wanted = size;
  size = 0;
  if (ssl_ != nullptr) {
    const int put = SSL_write(ssl_.get(), data, static_cast<int>(wanted));
    if (put <= 0) return TlsResult(put);
    wants_write_ = false;
    size = static_cast<size_t>(put);
    return Io::kOk;
  }
  const ssize_t put = send(fd_, data, wanted, MSG_NOSIGNAL);
  if (put >= 0) {
    size = static_cast<size_t>(put);
    return Io::kOk;
  }
  return errno == EAGAIN || errno == EINTR ? Io::kAgain : Io::kFailed;
}

void Socket::Close() {
  ssl_.reset();
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  wants_write_ = false;
}

}  // namespace sluice::load
