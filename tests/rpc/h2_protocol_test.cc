// gRPC on the wire of the nghttp2 transport, and its time limits, as clients' libraries do not show
// them.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "rpc/h2_limits.h"
#include "rpc/h2_wire.h"
#include "tests/rpc/raw_h2_client.h"
#include "tests/rpc/rpc_fixture.h"
#include "tests/rpc/test_certificates.h"

namespace sluice::rpc {
namespace {

constexpr const char* kGenerate = "/sluice.v1.Inference/Generate";
constexpr const char* kStream = "/sluice.v1.Inference/GenerateStream";

class H2Test : public RpcTest {
 protected:
  static std::string Request() { return TextRequest("hi").SerializeAsString(); }
  static TokenEvent Tokens(const std::string& text) {
    TokenEvent event;
    event.content = Text(text);
    event.tokens = {1};
    return event;
  }
  // Greets, and begins stream 1: the call as the service gets it.
  FakeService::Call BeginStream(RawH2Client& client,
                                const std::vector<std::pair<uint16_t, uint32_t>>& settings = {}) {
    client.Greet(settings);
    client.SendRequest(1, kStream);
    client.SendMessage(1, Request());
    return service_.WaitForCall();
  }
  // What the server answers to a request with these headers and one message.
  RawH2Client::Headers Answer(const std::string& path, const RawH2Client::Headers& headers) {
    RawH2Client client(server_->port());
    client.Greet();
    client.SendRequest(1, path, headers);
    client.SendMessage(1, Request());
    return client.ReadAnswer(1);
  }
};

TEST(H2Wire, TimeoutsAreEightDigitsAndAUnit) {
  EXPECT_EQ(ParseGrpcTimeout("1H"), absl::Hours(1));
  EXPECT_EQ(ParseGrpcTimeout("20M"), absl::Minutes(20));
  EXPECT_EQ(ParseGrpcTimeout("99999999S"), absl::Seconds(99'999'999));
  EXPECT_EQ(ParseGrpcTimeout("100m"), absl::Milliseconds(100));
  EXPECT_EQ(ParseGrpcTimeout("7u"), absl::Microseconds(7));
  EXPECT_EQ(ParseGrpcTimeout("0n"), absl::ZeroDuration());
  for (const char* bad : {"", "S", "1", "1x", "-1S", "1.5S", "123456789S", " 1S", "1 S"})
    EXPECT_FALSE(ParseGrpcTimeout(bad)) << bad;
}

TEST(H2Wire, MessagesAndBinariesAreEncoded) {
  EXPECT_EQ(PercentEncode("100% sure,\n\xc3\xa9"), "100%25 sure,%0A%C3%A9");
  EXPECT_EQ(EncodeBinary("a"), "YQ");
  EXPECT_EQ(EncodeBinary(""), "");
  EXPECT_TRUE(IsGrpcContentType("application/grpc"));
  EXPECT_TRUE(IsGrpcContentType("application/grpc+proto"));
  EXPECT_FALSE(IsGrpcContentType("application/grpcweb"));
  EXPECT_FALSE(IsGrpcContentType(""));
}

TEST(H2Wire, ABudgetFillsWithTime) {
  FrameBudget budget;
  SteadyTime now = std::chrono::steady_clock::now();
  int num = 0;
  while (budget.Take(FrameBudget::kSettings, now)) ++num;
  EXPECT_EQ(num, 120);
  now += std::chrono::seconds(1);
  num = 0;
  while (budget.Take(FrameBudget::kSettings, now)) ++num;
  EXPECT_EQ(num, 19) << "2,000 a second, less what the last one overdrew";
}

TEST_P(H2Test, AnAnswerHasHeadersAMessageAndTrailers) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  StartServer();
  const RawH2Client::Headers answer = Answer(kGenerate, {{"x-request-id", "r-1"}});
  EXPECT_EQ(answer.at(":status"), "200");
  EXPECT_EQ(answer.at("content-type"), "application/grpc");
  EXPECT_EQ(answer.at("grpc-accept-encoding"), "identity");
  EXPECT_EQ(answer.at("x-request-id"), "r-1");
  EXPECT_EQ(answer.at("grpc-status"), "0");
}

TEST_P(H2Test, WhatIsNoCallIsRefusedWithTheReason) {
  StartServer();
  const struct {
    std::string path;
    RawH2Client::Headers headers;
    std::string http, grpc;
  } kCases[] = {
      {"/sluice.v1.Inference/Nothing", {}, "200", "12"},
      {kGenerate, {{"grpc-encoding", "gzip"}}, "200", "12"},
      {kGenerate, {{"grpc-timeout", "soon"}}, "200", "3"},
      {kGenerate, {{"content-type", "application/json"}}, "415", "3"},
      {kGenerate, {{":method", "GET"}}, "405", "3"},
  };
  for (const auto& c : kCases) {
    const RawH2Client::Headers answer = Answer(c.path, c.headers);
    ASSERT_EQ(answer.count("grpc-status"), 1U) << c.path;
    EXPECT_EQ(answer.at(":status"), c.http) << c.path;
    EXPECT_EQ(answer.at("grpc-status"), c.grpc) << c.path;
    EXPECT_EQ(answer.at("grpc-accept-encoding"), "identity");
  }
  EXPECT_TRUE(service_.calls().empty());
}

TEST_P(H2Test, ACallIsOneWholeMessage) {
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.SendRequest(1, kGenerate, {}, true);
  EXPECT_EQ(client.ReadAnswer(1).at("grpc-status"), "12");
  client.SendRequest(3, kGenerate);
  client.SendFrame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 3, std::string("\0\0\0\0\x05x", 6));
  EXPECT_EQ(client.ReadAnswer(3).at("grpc-status"), "3");
  client.SendRequest(5, kGenerate);
  client.SendFrame(NGHTTP2_DATA, 0, 5, std::string("\1\0\0\0\1x", 6));
  EXPECT_EQ(client.ReadAnswer(5).at("grpc-status"), "12");
  EXPECT_TRUE(service_.calls().empty());
}

TEST_P(H2Test, AMessageMayComeByteByByte) {
  service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.SendRequest(1, kGenerate);
  const std::string request = Request();
  const std::string framed = std::string(4, '\0') + static_cast<char>(request.size()) + request;
  for (const char byte : framed) client.SendFrame(NGHTTP2_DATA, 0, 1, std::string(1, byte));
  EXPECT_EQ(client.ReadAnswer(1).at("grpc-status"), "0");
}

// A client that leaves its deadline to the server.
TEST_P(H2Test, TheServerEndsAnExpiredCall) {
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.SendRequest(1, kStream, {{"grpc-timeout", "100m"}});
  client.SendMessage(1, Request());
  EXPECT_EQ(client.ReadAnswer(1).at("grpc-status"), "4");
  EXPECT_TRUE(service_.WaitForCancel(service_.WaitForCall().id));
  ExpectAllStreamsClosed();
}

TEST_P(H2Test, AWatchEndsWithItsDeadline) {
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.SendRequest(1, "/grpc.health.v1.Health/Watch", {{"grpc-timeout", "100m"}});
  client.SendMessage(1, "");
  EXPECT_EQ(client.ReadAnswer(1).at("grpc-status"), "4");
}

TEST_P(H2Test, AWindowThatNeverOpensIsGivenUp) {
  config_.write_timeout_s = 0.3;
  StartServer();
  RawH2Client client(server_->port());
  const FakeService::Call call = BeginStream(client, {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0}});
  for (int i = 0; i < 100; ++i) call.Publish({Tokens("x")});
  EXPECT_TRUE(service_.WaitForCancel(call.id));
  client.SendRequest(3, "/sluice.v1.Inference/ListModels");  // of no one function either
  client.SendMessage(3, "");
  EXPECT_EQ(client.ReadUntil(NGHTTP2_RST_STREAM, 3).payload, std::string("\0\0\0\x08", 4));
  ExpectAllStreamsClosed();
}

// Nothing is made twice, and nothing is lost, for a client that takes a byte at a time.
TEST_P(H2Test, TokensMergeWhileTheWindowIsShut) {
  StartServer();
  RawH2Client client(server_->port());
  const FakeService::Call call = BeginStream(client, {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 10}});
  call.Publish({Accepted{}});
  for (int i = 0; i < 500; ++i) call.Publish({Tokens("ab")});
  call.Publish({End{}});
  absl::SleepFor(absl::Milliseconds(50));  // all of it is with the stream
  client.SendFrame(NGHTTP2_WINDOW_UPDATE, 0, 1, std::string("\0\1\0\0", 4));
  std::string body;
  for (;;) {
    const RawH2Client::Frame frame = client.Read();
    if (frame.type == NGHTTP2_DATA) body += frame.payload;
    if (frame.type == 0xFF ||
        (frame.type == NGHTTP2_HEADERS && (frame.flags & NGHTTP2_FLAG_END_STREAM) != 0))
      break;
  }
  std::string text;
  int num_messages = 0;
  while (body.size() >= 5) {
    size_t size = 0;
    for (size_t i = 1; i < 5; ++i) size = size << 8U | static_cast<uint8_t>(body[i]);
    v1::GenerateEvent event;
    ASSERT_TRUE(event.ParseFromString(body.substr(5, size)));
    text += event.delta().content();
    ++num_messages;
    body.erase(0, 5 + size);
  }
  std::string expected;
  for (int i = 0; i < 500; ++i) expected += "ab";
  EXPECT_EQ(text, expected);
  EXPECT_LE(num_messages, 10) << "accepted, a few deltas, end";
  ExpectAllStreamsClosed();
}

TEST_P(H2Test, HalfOpenConnectionsAndRequestsAreClosed) {
  config_.read_timeout_s = 0.2;
  StartServer();
  RawH2Client silent(server_->port()), prefaced(server_->port()), headless(server_->port());
  RawH2Client bodiless(server_->port());
  prefaced.Send("PRI * HTTP/2.0\r\n");
  headless.Greet();
  headless.SendFrame(NGHTTP2_HEADERS, 0, 1, RawH2Client::Hpack({{":method", "POST"}}));
  bodiless.Greet();
  bodiless.SendRequest(1, kGenerate);
  bodiless.SendFrame(NGHTTP2_DATA, 0, 1, std::string("\0\0\0\1\0half", 9));
  EXPECT_TRUE(silent.ReadToEnd());
  EXPECT_TRUE(prefaced.ReadToEnd());
  EXPECT_EQ(headless.ReadGoodbye(), NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_EQ(bodiless.ReadAnswer(1).at("grpc-status"), "4");
}

TEST_P(H2Test, AnIdleConnectionIsSentAway) {
  config_.idle_timeout_s = 0.2;
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  EXPECT_EQ(client.ReadGoodbye(), NGHTTP2_NO_ERROR);
}

TEST_P(H2Test, ACallKeepsItsConnectionFromBeingIdle) {
  config_.idle_timeout_s = 0.2;
  StartServer();
  RawH2Client client(server_->port());
  const FakeService::Call call = BeginStream(client);
  absl::SleepFor(absl::Milliseconds(600));
  call.Answer("x");
  EXPECT_EQ(client.ReadAnswer(1).at("grpc-status"), "0");
}

TEST_P(H2Test, ConnectionsBeyondTheLimitAreClosed) {
  config_.max_connections = 1;
  StartServer();
  std::vector<std::unique_ptr<RawH2Client>> clients;
  for (int i = 0; i < 65; ++i) {
    clients.push_back(std::make_unique<RawH2Client>(server_->port()));
    clients.back()->Greet();
    EXPECT_EQ(clients.back()->Read().type, NGHTTP2_SETTINGS);
  }
  RawH2Client one_too_many(server_->port());
  EXPECT_TRUE(one_too_many.ReadToEnd());
}

TEST_P(H2Test, AShutdownSaysGoodbyeAndRefusesNewCalls) {
  StartServer();
  RawH2Client client(server_->port());
  const FakeService::Call call = BeginStream(client);
  std::thread shutdown([this] { server_->Shutdown(absl::Now() + absl::Seconds(20)); });
  const RawH2Client::Frame notice = client.ReadUntil(NGHTTP2_GOAWAY);
  EXPECT_EQ(notice.payload.substr(0, 4), "\x7f\xff\xff\xff");
  client.SendRequest(3, kStream);
  EXPECT_EQ(client.ReadUntil(NGHTTP2_RST_STREAM, 3).payload, std::string("\0\0\0\x07", 4));
  call.Answer("x");
  EXPECT_EQ(client.ReadAnswer(1).at("grpc-status"), "0");
  EXPECT_TRUE(client.ReadToEnd());
  shutdown.join();
  EXPECT_EQ(service_.num_cancels(call.id), 0U);
}

// What a TLS client that offers `protocol` (none: "") is given: a byte, or the end.
std::string FirstByteOverTls(int port, const std::string& protocol) {
  using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
  const Context context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  const std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new_ssl_connect(context.get()),
                                                          &BIO_free_all);
  SSL* ssl = nullptr;
  BIO_get_ssl(bio.get(), &ssl);
  const std::string offer = static_cast<char>(protocol.size()) + protocol;
  if (!protocol.empty()) {
    SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(offer.data()),
                        static_cast<unsigned>(offer.size()));
  }
  BIO_set_conn_hostname(bio.get(), fmt::format("127.0.0.1:{}", port).c_str());
  if (BIO_do_connect(bio.get()) != 1) return "no connection";
  char byte = 0;
  return BIO_read(bio.get(), &byte, 1) == 1 ? "a byte" : "the end";
}

TEST_P(H2Test, OverTlsBothSidesMustSayHttp2) {
  const Issued ca("test ca", nullptr);
  const Issued server("server", &ca);
  config_.tls_cert = WriteFile("cert.pem", server.CertificatePem());
  config_.tls_key = WriteFile("key.pem", server.KeyPem());
  config_.read_timeout_s = 1;
  StartServer();
  EXPECT_EQ(FirstByteOverTls(server_->port(), "h2"), "a byte");  // of the server's SETTINGS
  EXPECT_EQ(FirstByteOverTls(server_->port(), "http/1.1"), "the end");
  EXPECT_EQ(FirstByteOverTls(server_->port(), ""), "the end");
  RawH2Client silent(server_->port()), clear(server_->port());
  clear.Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_TRUE(clear.ReadToEnd());
  EXPECT_TRUE(silent.ReadToEnd()) << "the handshake has a limit in time";
}

INSTANTIATE_TEST_SUITE_P(Transports, H2Test, ::testing::Values("nghttp2"), TransportName);

}  // namespace
}  // namespace sluice::rpc
