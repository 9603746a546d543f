// Certificates made on the spot, so that the repository holds no keys and nothing expires in it.
#pragma once

#include <openssl/x509.h>

#include <memory>
#include <string>

namespace sluice::rpc {

struct FreeOpenSsl {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};

class Issued {
 public:
  // Signed by `issuer`, by itself (a CA) where that is null; P-256; for localhost and 127.0.0.1;
  // valid from an hour ago until `valid_seconds` from now (negative: expired).
  Issued(const std::string& name, const Issued* issuer, long valid_seconds = 3600);

  [[nodiscard]] std::string CertificatePem() const;
  [[nodiscard]] std::string KeyPem(const std::string& passphrase = "") const;

 private:
  std::unique_ptr<EVP_PKEY, FreeOpenSsl> key_;
  std::unique_ptr<X509, FreeOpenSsl> certificate_;
};

}  // namespace sluice::rpc
