// The server's TLS settings and certificates, replaceable while it runs.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "sluice/config.h"

namespace sluice {

struct SslDeleter {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslPtr = std::unique_ptr<SSL, SslDeleter>;

// TLS 1.2 and later; no compression, no renegotiation; with tls_client_ca every client must show a
// certificate signed by it. Thread-safe.
class TlsContext {
 public:
  // nullptr where the config names no certificate. `protocol` is what ALPN offers: "http/1.1",
  // "h2". Errors: InvalidArgument naming the file and OpenSSL's reason.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Load(const Config& config,
                                                          std::string_view protocol);

  // Reads the files again, for connections to come; on error the old certificates stay.
  absl::Status Reload();

  // A server's side of a new connection on `fd`. nullptr: out of memory.
  [[nodiscard]] SslPtr NewConnection(int fd) const;

 private:
  using ContextPtr = std::unique_ptr<SSL_CTX, SslDeleter>;
  TlsContext(const Config& config, std::string_view protocol);
  [[nodiscard]] absl::StatusOr<ContextPtr> Read() const;

  const std::string cert_, key_, client_ca_;
  const std::string alpn_;  // the protocol, after its length
  mutable Mutex mutex_;
  ContextPtr context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice
