// Keys, TLS and mutual TLS over real handshakes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/rpc/rpc_fixture.h"
#include "tests/rpc/test_certificates.h"

namespace sluice::rpc {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SecurityTest : public RpcTest {
 protected:
  SecurityTest() {
    service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  }

  void UseKeys() {
    // printf %s alpha-key | sha256sum
    config_.api_keys_file = WriteFile(
        "keys", "alice 677509799af78b2efa2f2af71d0f906e0a0c50c048efd3b515625f788e92b99a red\n");
  }
  void UseTls(const Issued& certificate, const Issued* client_ca = nullptr) {
    config_.tls_cert = WriteFile("cert.pem", certificate.CertificatePem());
    config_.tls_key = WriteFile("key.pem", certificate.KeyPem());
    if (client_ca != nullptr)
      config_.tls_client_ca = WriteFile("client-ca.pem", client_ca->CertificatePem());
  }
  // One call over a new connection. A failed handshake is Unavailable.
  grpc::Status CallWith(std::shared_ptr<grpc::ChannelCredentials> credentials,
                        const std::string& authorization = "") {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    v1::GenerateResponse answer;
    return v1::Inference::NewStub(Connect(std::move(credentials)))
        ->Generate(&context, TextRequest("hi"), &answer);
  }
  static std::shared_ptr<grpc::ChannelCredentials> Trust(const Issued& ca,
                                                         const Issued* client = nullptr) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ca.CertificatePem();
    if (client != nullptr) {
      options.pem_cert_chain = client->CertificatePem();
      options.pem_private_key = client->KeyPem();
    }
    return grpc::SslCredentials(options);
  }
  absl::Status StartError() {
    keys_ = *ApiKeys::Load("");
    return RpcServer::Start(config_, &service_, keys_.get(), metrics_.get(), &clock_).status();
  }

  const Issued ca_{"test ca", nullptr};
  const Issued other_ca_{"other ca", nullptr};
};

TEST_P(SecurityTest, WithKeysOnlyAGoodKeyComesInAndBringsItsTenant) {
  UseKeys();
  StartServer();
  for (const char* authorization :
       {"", "Bearer wrong-key", "Bearer ", "Basic alpha-key", "alpha-key"}) {
    const grpc::Status status = CallWith(nullptr, authorization);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << authorization;
    EXPECT_THAT(status.error_message(), Not(HasSubstr("wrong-key")));
  }
  EXPECT_TRUE(service_.calls().empty());
  const grpc::Status status = CallWith(nullptr, "Bearer alpha-key");
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(service_.WaitForCall().request.tenant, "red");
}

TEST_P(SecurityTest, EveryMethodOfInferenceAsksForTheKeyBeforeItReadsTheMessage) {
  UseKeys();
  StartServer();
  for (const char* method :
       {"Generate", "GenerateStream", "Tokenize", "Detokenize", "ListModels"}) {
    grpc::ClientContext context;
    EXPECT_EQ(Raw(fmt::format("/sluice.v1.Inference/{}", method), "\xff", context).error_code(),
              grpc::StatusCode::UNAUTHENTICATED)
        << method;
    EXPECT_EQ(Trailing(context, "sluice-error-code"), "missing_api_key");
  }
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer alpha-key");
  context.AddMetadata("authorization", "Bearer beta-key");
  EXPECT_EQ(Raw("/sluice.v1.Inference/ListModels", "", context).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_P(SecurityTest, HealthAndReflectionNeedNoKey) {
  UseKeys();
  StartServer();
  grpc::ClientContext context;
  EXPECT_TRUE(Raw("/grpc.health.v1.Health/Check", "", context).ok());
  EXPECT_THAT(
      RawStream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*"),
      HasSubstr("sluice.v1.Inference"));
}

TEST_P(SecurityTest, TlsServesThoseWhoTrustItsCaAndNobodyInTheClear) {
  const Issued server("server", &ca_);
  UseTls(server);
  StartServer();
  const grpc::Status good = CallWith(Trust(ca_));
  EXPECT_TRUE(good.ok()) << good.error_message();
  EXPECT_EQ(CallWith(Trust(other_ca_)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(CallWith(nullptr).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_P(SecurityTest, KeysWorkOverTls) {
  UseKeys();
  const Issued server("server", &ca_);
  UseTls(server);
  StartServer();
  EXPECT_EQ(CallWith(Trust(ca_)).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(CallWith(Trust(ca_), "Bearer alpha-key").ok());
}

TEST_P(SecurityTest, AnExpiredServerCertificateIsNoticedByTheClient) {
  const Issued server("server", &ca_, -60);
  UseTls(server);
  StartServer();
  EXPECT_EQ(CallWith(Trust(ca_)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_P(SecurityTest, MutualTlsAsksForAValidCertificateOfTheRightCa) {
  const Issued server("server", &ca_), client("client", &ca_), expired("client", &ca_, -60);
  const Issued stranger("client", &other_ca_);
  UseTls(server, &ca_);
  StartServer();
  const grpc::Status good = CallWith(Trust(ca_, &client));
  EXPECT_TRUE(good.ok()) << good.error_message();
  EXPECT_EQ(CallWith(Trust(ca_)).error_code(), grpc::StatusCode::UNAVAILABLE) << "no certificate";
  EXPECT_EQ(CallWith(Trust(ca_, &stranger)).error_code(), grpc::StatusCode::UNAVAILABLE)
      << "wrong CA";
  EXPECT_EQ(CallWith(Trust(ca_, &expired)).error_code(), grpc::StatusCode::UNAVAILABLE)
      << "expired";
  EXPECT_EQ(service_.calls().size(), 1U);
}

TEST_P(SecurityTest, ReloadServesTheNewCertificateAndABrokenFileKeepsTheOld) {
  const Issued server("server", &ca_), renewed("server", &other_ca_);
  UseTls(server);
  StartServer();
  ASSERT_TRUE(CallWith(Trust(ca_)).ok());
  WriteFile("cert.pem", renewed.CertificatePem());
  EXPECT_THAT(std::string(server_->ReloadCertificates().message()), HasSubstr("is not the key of"));
  EXPECT_TRUE(CallWith(Trust(ca_)).ok()) << "half of a renewal changes nothing";
  WriteFile("key.pem", renewed.KeyPem());
  ASSERT_TRUE(server_->ReloadCertificates().ok());
  EXPECT_TRUE(CallWith(Trust(other_ca_)).ok());
  EXPECT_EQ(CallWith(Trust(ca_)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_P(SecurityTest, ReloadedClientCaReplacesTheOld) {
  const Issued server("server", &ca_), client("client", &ca_), stranger("client", &other_ca_);
  UseTls(server, &ca_);
  StartServer();
  WriteFile("client-ca.pem", other_ca_.CertificatePem());
  ASSERT_TRUE(server_->ReloadCertificates().ok());
  EXPECT_TRUE(CallWith(Trust(ca_, &stranger)).ok());
  EXPECT_FALSE(CallWith(Trust(ca_, &client)).ok());
}

TEST_P(SecurityTest, UnusableCertificateFilesAreRefusedByName) {
  const Issued server("server", &ca_), other("server", &ca_);
  UseTls(server);
  WriteFile("key.pem", other.KeyPem());
  EXPECT_THAT(std::string(StartError().message()), HasSubstr("key.pem: is not the key of"));
  WriteFile("key.pem", server.KeyPem("secret"));
  EXPECT_THAT(std::string(StartError().message()), HasSubstr("without a passphrase"));
  WriteFile("key.pem", "no key");
  EXPECT_THAT(std::string(StartError().message()), HasSubstr("tls-key"));
  WriteFile("key.pem", server.KeyPem());
  WriteFile("cert.pem", std::string(100, '\0'));
  EXPECT_THAT(std::string(StartError().message()), HasSubstr("cert.pem: has no PEM certificate"));
  WriteFile("cert.pem", std::string((1U << 20U) + 1, 'x'));
  EXPECT_THAT(std::string(StartError().message()), HasSubstr("larger than 1048576 bytes"));
  config_.tls_cert = folder_ + "/absent.pem";
  EXPECT_THAT(std::string(StartError().message()), HasSubstr("absent.pem: No such file"));
  config_.tls_cert = folder_;
  EXPECT_THAT(std::string(StartError().message()), HasSubstr("not a regular file"));
  config_.tls_cert = WriteFile("cert.pem", server.CertificatePem());
  config_.tls_client_ca = WriteFile("client-ca.pem", "");
  EXPECT_THAT(std::string(StartError().message()),
              HasSubstr("client-ca.pem: has no PEM certificate"));
}

INSTANTIATE_TEST_SUITE_P(Transports, SecurityTest, kTransports, TransportName);

}  // namespace
}  // namespace sluice::rpc
