// Certificates made while the test runs: an authority of the test's own, and files below a
// temporary folder.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace sluice {

class Authority {
 public:
  explicit Authority(const std::string& name);
  ~Authority();
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;

  // Writes PEM files of a certificate that this authority signed. `days_left`: negative for one
  // that has expired.
  void Issue(const std::string& name, const std::string& cert_file, const std::string& key_file,
             int days_left = 1);
  void WriteCa(const std::string& file) const;
  [[nodiscard]] X509* certificate() const { return certificate_; }

 private:
  EVP_PKEY* key_;
  X509* certificate_;
};

struct SslContextDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using ClientContext = std::unique_ptr<SSL_CTX, SslContextDeleter>;

// A client that trusts `authority` only; with the files, it shows that certificate.
ClientContext MakeClient(const Authority& authority, const std::string& cert_file = "",
                         const std::string& key_file = "");

}  // namespace sluice
