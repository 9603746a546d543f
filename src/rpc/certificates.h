// The server's certificate for gRPC, and its renewal without a restart.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "sluice/config.h"

namespace sluice::rpc {

// Thread-safe. Outlives the server that uses its credentials.
class Certificates {
 public:
  // Reads tls_cert, tls_key and, for mutual TLS, tls_client_ca.
  // Errors: InvalidArgument that names the file: unreadable, not PEM, key with a passphrase, key of
  // another certificate.
  static absl::StatusOr<std::unique_ptr<Certificates>> Load(const Config& config);

  // Reads the files again, for handshakes from now on; on error the old certificate stays.
  absl::Status Reload();

  [[nodiscard]] std::shared_ptr<grpc::ServerCredentials> Credentials();

  struct Pem {
    std::string certificate, key, client_ca;
  };
  // For the handshaker: true if there is a newer certificate than the one it last took.
  bool TakeNew(Pem& pem);
  [[nodiscard]] bool mutual() const { return !client_ca_path_.empty(); }

 private:
  explicit Certificates(const Config& config);

  const std::string certificate_path_, key_path_, client_ca_path_;
  Mutex mutex_;
  Pem pem_ ABSL_GUARDED_BY(mutex_);
  bool is_new_ ABSL_GUARDED_BY(mutex_) = true;
};

}  // namespace sluice::rpc
