#include "tests/http/certificates.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>

namespace sluice {
namespace {

X509* Make(const std::string& name, EVP_PKEY* key, const X509* issuer, EVP_PKEY* issuer_key,
           int days_left) {
  static int serial = 1;
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -10L * 86400);
  X509_gmtime_adj(X509_getm_notAfter(certificate), days_left * 86400L);
  X509_set_pubkey(certificate, key);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, issuer == nullptr ? subject : X509_get_subject_name(issuer));
  if (issuer == nullptr) {
    X509_EXTENSION* extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  X509_sign(certificate, issuer_key, EVP_sha256());
  return certificate;
}

void WriteCertificate(const std::string& file, X509* certificate) {
  FILE* out = std::fopen(file.c_str(), "w");
  PEM_write_X509(out, certificate);
  std::fclose(out);
}

}  // namespace

Authority::Authority(const std::string& name)
    : key_(EVP_EC_gen("P-256")), certificate_(Make(name, key_, nullptr, key_, 1)) {}

Authority::~Authority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

void Authority::Issue(const std::string& name, const std::string& cert_file,
                      const std::string& key_file, int days_left) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = Make(name, key, certificate_, key_, days_left);
  WriteCertificate(cert_file, certificate);
  FILE* out = std::fopen(key_file.c_str(), "w");
  PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(out);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

void Authority::WriteCa(const std::string& file) const { WriteCertificate(file, certificate_); }

ClientContext MakeClient(const Authority& authority, const std::string& cert_file,
                         const std::string& key_file) {
  ClientContext context(SSL_CTX_new(TLS_client_method()));
  X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), authority.certificate());
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (!cert_file.empty()) {
    SSL_CTX_use_certificate_file(context.get(), cert_file.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context.get(), key_file.c_str(), SSL_FILETYPE_PEM);
  }
  return context;
}

}  // namespace sluice
