#include "rpc/certificates.h"

#include <fmt/format.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"

namespace sluice::rpc {
namespace {

constexpr size_t kMaxPemBytes = 1U << 20U;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

absl::Status FileError(std::string_view flag, const std::string& path, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{} {}: {}", flag, path, what));
}

absl::StatusOr<std::string> ReadPem(std::string_view flag, const std::string& path) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) return FileError(flag, path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return FileError(flag, path, "is not a regular file");
  if (info.st_size > static_cast<off_t>(kMaxPemBytes)) {
    return FileError(flag, path, fmt::format("is larger than {} bytes", kMaxPemBytes));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file) return FileError(flag, path, "cannot be read");
  return text;
}

Owned<BIO> Memory(const std::string& text) {
  return Owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Answers OpenSSL's question for a passphrase; without it a server would stop and ask the terminal.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) { return -1; }

// The first certificate of `text`.
Owned<X509> FirstCertificate(const std::string& text) {
  Owned<X509> certificate(PEM_read_bio_X509(Memory(text).get(), nullptr, &NoPassphrase, nullptr));
  ERR_clear_error();
  return certificate;
}

Owned<EVP_PKEY> PrivateKey(const std::string& text) {
  Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(Memory(text).get(), nullptr, &NoPassphrase, nullptr));
  ERR_clear_error();
  return key;
}

// gRPC calls it at the start and before every handshake.
grpc_ssl_certificate_config_reload_status Fetch(void* certificates,
                                                grpc_ssl_server_certificate_config** config) {
  Certificates::Pem pem;
  if (!static_cast<Certificates*>(certificates)->TakeNew(pem))
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair{pem.key.c_str(), pem.certificate.c_str()};
  // Version 1.51 aborts without root certificates, also where no client is asked for one: then the
  // server's own certificate stands in, and nothing is verified against it.
  const std::string& roots = pem.client_ca.empty() ? pem.certificate : pem.client_ca;
  *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

// grpc++ has no public class for credentials whose certificate is fetched; the C library underneath
// has.
class FetchedCredentials final : public grpc::ServerCredentials {
 public:
  explicit FetchedCredentials(Certificates* certificates)
      : credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                certificates->mutual() ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                       : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                &Fetch, certificates))) {}
  ~FetchedCredentials() override { grpc_server_credentials_release(credentials_); }
  FetchedCredentials(const FetchedCredentials&) = delete;
  FetchedCredentials& operator=(const FetchedCredentials&) = delete;

  // Keys are checked by the calls themselves, so that they work without TLS too.
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

}  // namespace

Certificates::Certificates(const Config& config)
    : certificate_path_(config.tls_cert),
      key_path_(config.tls_key),
      client_ca_path_(config.tls_client_ca) {}

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Load(const Config& config) {
  std::unique_ptr<Certificates> certificates(new Certificates(config));
  RETURN_IF_ERROR(certificates->Reload());
  return certificates;
}

absl::Status Certificates::Reload() {
  Pem pem;
  ASSIGN_OR_RETURN(pem.certificate, ReadPem("tls-cert", certificate_path_));
  ASSIGN_OR_RETURN(pem.key, ReadPem("tls-key", key_path_));
  const Owned<X509> certificate = FirstCertificate(pem.certificate);
  if (certificate == nullptr)
    return FileError("tls-cert", certificate_path_, "has no PEM certificate");
  const Owned<EVP_PKEY> key = PrivateKey(pem.key);
  if (key == nullptr)
    return FileError("tls-key", key_path_, "has no PEM private key without a passphrase");
  const bool belongs = X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (!belongs)
    return FileError("tls-key", key_path_, fmt::format("is not the key of {}", certificate_path_));
  if (mutual()) {
    ASSIGN_OR_RETURN(pem.client_ca, ReadPem("tls-client-ca", client_ca_path_));
    if (FirstCertificate(pem.client_ca) == nullptr) {
      return FileError("tls-client-ca", client_ca_path_, "has no PEM certificate");
    }
  }
  // Not refused: the clients decide, and a server that starts can be given a new one.
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    Log(LogLevel::kWarn, "tls_certificate_expired", {{"file", certificate_path_}});
  }
  const MutexLock lock(mutex_);
  pem_ = std::move(pem);
  is_new_ = true;
  return absl::OkStatus();
}

bool Certificates::TakeNew(Pem& pem) {
  const MutexLock lock(mutex_);
  if (!is_new_) return false;
  is_new_ = false;
  pem = pem_;
  return true;
}

std::shared_ptr<grpc::ServerCredentials> Certificates::Credentials() {
  return std::make_shared<FetchedCredentials>(this);
}

}  // namespace sluice::rpc
