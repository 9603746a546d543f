#include "net/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>

#include <utility>

#include "base/status_macros.h"

namespace sluice {
namespace {

absl::Status FileError(std::string_view what, const std::string& file) {
  const unsigned long error = ERR_get_error();  // the first of the queue is the cause
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(error);
  return absl::InvalidArgumentError(fmt::format("{} {} cannot be used: {}", what, file,
                                                reason == nullptr ? "unknown reason" : reason));
}

// One protocol is all there is behind this socket; a client that offers it among others is told so,
// one that offers only others goes on without ALPN, as clients without it do.
int SelectProtocol(SSL* /*ssl*/, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* in, unsigned int in_size, void* alpn) {
  const auto& ours = *static_cast<const std::string*>(alpn);
  unsigned char* selected = nullptr;
  if (SSL_select_next_proto(
          &selected, out_size, reinterpret_cast<const unsigned char*>(ours.data()),
          static_cast<unsigned>(ours.size()), in, in_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = selected;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

TlsContext::TlsContext(const Config& config, std::string_view protocol)
    : cert_(config.tls_cert),
      key_(config.tls_key),
      client_ca_(config.tls_client_ca),
      alpn_(static_cast<char>(protocol.size()) + std::string(protocol)) {}

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Load(const Config& config,
                                                             std::string_view protocol) {
  if (config.tls_cert.empty() && config.tls_key.empty()) {
    if (config.tls_client_ca.empty()) return nullptr;
    return absl::InvalidArgumentError("tls-client-ca needs tls-cert and tls-key");
  }
  if (config.tls_cert.empty() || config.tls_key.empty()) {
    return absl::InvalidArgumentError("tls-cert and tls-key are given both or neither");
  }
  std::unique_ptr<TlsContext> tls(new TlsContext(config, protocol));
  RETURN_IF_ERROR(tls->Reload());
  return tls;
}

absl::StatusOr<TlsContext::ContextPtr> TlsContext::Read() const {
  ERR_clear_error();
  ContextPtr context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL gives no context");
  SSL_CTX* const c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  SSL_CTX_set_options(
      c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Keeps an idle connection at 19 KB instead of 68.
  SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(c, SelectProtocol, const_cast<std::string*>(&alpn_));
  if (SSL_CTX_use_certificate_chain_file(c, cert_.c_str()) != 1)
    return FileError("the certificate", cert_);
  if (SSL_CTX_use_PrivateKey_file(c, key_.c_str(), SSL_FILETYPE_PEM) != 1)
    return FileError("the private key", key_);
  if (SSL_CTX_check_private_key(c) != 1) return FileError("the private key", key_);
  if (client_ca_.empty()) return context;
  if (SSL_CTX_load_verify_locations(c, client_ca_.c_str(), nullptr) != 1)
    return FileError("the client CA", client_ca_);
  SSL_CTX_set_client_CA_list(c, SSL_load_client_CA_file(client_ca_.c_str()));
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  // Sessions of clients with certificates are only resumed under a context id.
  static constexpr unsigned char kSessionContext[] = "sluice";
  SSL_CTX_set_session_id_context(c, kSessionContext, sizeof(kSessionContext) - 1);
  return context;
}

absl::Status TlsContext::Reload() {
  ASSIGN_OR_RETURN(ContextPtr fresh, Read());
  MutexLock lock(mutex_);
  context_ = std::move(fresh);  // live connections hold references of their own
  return absl::OkStatus();
}

SslPtr TlsContext::NewConnection(int fd) const {
  SslPtr ssl;
  {
    MutexLock lock(mutex_);
    ssl.reset(SSL_new(context_.get()));
  }
  if (ssl == nullptr || SSL_set_fd(ssl.get(), fd) != 1) return nullptr;
  SSL_set_accept_state(ssl.get());
  return ssl;
}

}  // namespace sluice
