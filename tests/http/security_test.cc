// Who may call what: keys, TLS and client certificates, the admin port, CORS.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/http/certificates.h"
#include "tests/http/server_fixture.h"

namespace sluice {
namespace {

namespace json = boost::json;

class Security : public ServerFixture {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "sluice-http-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override {
    ServerFixture::TearDown();
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] std::string File(const std::string& name) const { return folder_ + "/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(File(name)) << text;
  }

  void UseTls(bool client_certificates) {
    authority_.Issue("server", File("cert.pem"), File("key.pem"));
    authority_.WriteCa(File("ca.pem"));
    config.tls_cert = File("cert.pem");
    config.tls_key = File("key.pem");
    if (client_certificates) config.tls_client_ca = File("ca.pem");
  }

  // The status of a request through TLS; 0: no connection.
  int AskTls(const ClientContext& context, const std::string& request) {
    RawClient client(server->port(), context.get());
    if (!client.connected()) return 0;
    client.Send(request);
    const auto response = client.Read();
    return response ? response->status
                    : 0;  // TLS 1.3 tells a refused client certificate only after the handshake
  }

  std::string folder_;
  Authority authority_{"test authority"};
};

// SHA-256 of "open-sesame".
constexpr std::string_view kKeyLine =
    "ann d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7 team-a\n";

TEST_F(Security, KeysGuardEverythingButProbesAndMetrics) {
  Write("keys", std::string(kKeyLine));
  config.api_keys_file = File("keys");
  Start();
  AnswerAll({"x"});
  for (const std::string_view path : {"/health", "/livez", "/readyz", "/metrics", "/version"}) {
    EXPECT_EQ(Ask(Get(path)).status, 200) << path;
  }
  for (const std::string_view path : {"/", "/v1/models", "/v1/models/default", "/openapi.json",
                                      "/nowhere", "/v1/files", "/admin/health", "/tokenize"}) {
    const RawResponse response = Ask(Get(path));
    EXPECT_EQ(response.status, 401) << path;
    EXPECT_EQ(response.headers.at("www-authenticate"), "Bearer");
    EXPECT_EQ(json::parse(response.body).at("error").at("type"), "authentication_error");
  }
  for (const std::string_view header :
       {"Authorization: Bearer wrong\r\n", "Authorization: open-sesame\r\n",
        "Authorization: Basic open-sesame\r\n", "Authorization: Bearer \r\n"}) {
    const RawResponse response = Ask(Post("/v1/chat/completions", kChatBody, header));
    EXPECT_EQ(response.status, 401) << header;
    EXPECT_EQ(response.body.find("sesame"), std::string::npos) << "an answer must not repeat a key";
  }
  EXPECT_EQ(
      Ask(Post("/v1/chat/completions", kChatBody, "Authorization: Bearer open-sesame\r\n")).status,
      200);
  EXPECT_EQ(service.Request(1).tenant, "team-a");
}

TEST_F(Security, AKeyIsAskedForBeforeTheBody) {
  Write("keys", std::string(kKeyLine));
  config.api_keys_file = File("keys");
  Start();
  RawClient client(server->port());
  client.Send("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(client.Read()->status, 401);
}

TEST_F(Security, ReloadedKeysCountAtOnce) {
  Write("keys", std::string(kKeyLine));
  config.api_keys_file = File("keys");
  Start();
  const std::string request = Get("/v1/models", "Authorization: Bearer open-sesame\r\n");
  RawClient kept(server->port());
  kept.Send(request);
  EXPECT_EQ(kept.Read()->status, 200);
  Write("keys", fmt::format("bob {} team-b\n", std::string(64, '0')));
  ASSERT_TRUE(keys->Reload().ok());
  kept.Send(request);
  EXPECT_EQ(kept.Read()->status, 401);
}

TEST_F(Security, TlsServesStreamsAndWholeAnswers) {
  UseTls(false);
  Start();
  AnswerAll({"Hel", "lo"});
  const ClientContext context = MakeClient(authority_);
  RawClient client(server->port(), context.get());
  ASSERT_TRUE(client.connected());
  for (int i = 0; i < 3; ++i) {
    client.Send(Post("/v1/chat/completions", kStreamBody) +
                Post("/v1/chat/completions", kChatBody));
    EXPECT_EQ(client.Read()->Events().back(), "[DONE]");
    EXPECT_NE(client.Read()->body.find("Hello"), std::string::npos);
  }
}

TEST_F(Security, TlsCarriesAnswersOfManyRecords) {
  UseTls(false);
  Start();
  const std::string text(3'000'000, 'x');
  AnswerAll({text});
  const ClientContext context = MakeClient(authority_);
  RawClient client(server->port(), context.get());
  ASSERT_TRUE(client.connected());
  for (int i = 0; i < 2; ++i) {
    client.Send(Post("/v1/chat/completions", kChatBody));
    EXPECT_NE(client.Read()->body.find(text), std::string::npos);
  }
}

TEST_F(Security, TlsMergesForSlowClientsAndSeesThemLeave) {
  UseTls(false);
  Start();
  const ClientContext context = MakeClient(authority_);
  RawClient client(server->port(), context.get());
  ASSERT_TRUE(client.connected());
  client.Send(Post("/v1/chat/completions", kStreamBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  service.Accept(1);
  std::string said;
  for (int i = 0; i < 20'000; ++i) {
    const std::string word = " word" + std::to_string(i);
    service.Say(1, word);
    said += word;
  }
  service.Finish(1);
  service.EndOk(1);
  const auto response = client.Read();
  ASSERT_TRUE(response);
  EXPECT_LT(response->Events().size(), 20'000U);
  EXPECT_EQ(JoinedContent(*response), said);
  client.Send(Post("/v1/chat/completions", kStreamBody));
  ASSERT_TRUE(service.WaitForCalls(2));
  service.Accept(2);
  client.ReadUntil("assistant");
  client.Close();
  EXPECT_TRUE(service.WaitForCancels(1));
}

// Each key update asks for one in return; a client that does not read them must not make the server
// keep them.
TEST_F(Security, TlsClientsThatAskAndDoNotListenAreSentAway) {
  UseTls(false);
  Start();
  const ClientContext context = MakeClient(authority_);
  RawClient client(server->port(), context.get());
  ASSERT_TRUE(client.connected());
  client.Send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
      "application/json\r\nContent-Length: 4000000\r\n\r\n");
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to what the server has closed
  int updates = 0;
  for (; updates < 4'000'000 && client.UpdateKeys(); ++updates) client.Send("x");
  EXPECT_LT(updates, 100'000);
  EXPECT_EQ(AskTls(context, Get("/livez")), 200);
}

TEST_F(Security, TlsPortTakesNothingElse) {
  UseTls(false);
  Start();
  RawClient plain(server->port());
  plain.Send(Get("/livez"));
  const std::string answer = plain.ReadUntil("HTTP");  // at most a TLS alert
  EXPECT_EQ(answer.find("HTTP"), std::string::npos);
  const ClientContext old = MakeClient(authority_);
  SSL_CTX_set_min_proto_version(old.get(), TLS1_1_VERSION);
  SSL_CTX_set_max_proto_version(old.get(), TLS1_1_VERSION);
  EXPECT_EQ(AskTls(old, Get("/livez")), 0);
  const ClientContext tls12 = MakeClient(authority_);
  SSL_CTX_set_max_proto_version(tls12.get(), TLS1_2_VERSION);
  EXPECT_EQ(AskTls(tls12, Get("/livez")), 200);
  const Authority stranger("stranger");
  EXPECT_EQ(AskTls(MakeClient(stranger), Get("/livez")), 0);
}

TEST_F(Security, ClientCertificatesAreDemandedAndChecked) {
  UseTls(true);
  Start();
  authority_.Issue("client", File("good.pem"), File("good.key"));
  authority_.Issue("late", File("late.pem"), File("late.key"), -1);
  Authority stranger("stranger");
  stranger.Issue("client", File("bad.pem"), File("bad.key"));
  EXPECT_EQ(AskTls(MakeClient(authority_, File("good.pem"), File("good.key")), Get("/livez")), 200);
  EXPECT_EQ(AskTls(MakeClient(authority_), Get("/livez")), 0);
  EXPECT_EQ(AskTls(MakeClient(authority_, File("bad.pem"), File("bad.key")), Get("/livez")), 0);
  EXPECT_EQ(AskTls(MakeClient(authority_, File("late.pem"), File("late.key")), Get("/livez")), 0);
}

TEST_F(Security, ReloadChangesTheCertificateOfNewConnections) {
  UseTls(false);
  Start();
  const ClientContext before = MakeClient(authority_);
  RawClient kept(server->port(), before.get());
  ASSERT_TRUE(kept.connected());
  Authority successor("successor");
  successor.Issue("server", File("cert.pem"), File("key.pem"));
  server->ReloadTls();
  EXPECT_EQ(AskTls(before, Get("/livez")), 0);
  const ClientContext after = MakeClient(successor);
  EXPECT_EQ(AskTls(after, Get("/livez")), 200);
  kept.Send(Get("/livez"));
  EXPECT_EQ(kept.Read()->status, 200);
  // Files that cannot be used change nothing.
  Write("cert.pem", "rubbish");
  server->ReloadTls();
  EXPECT_EQ(AskTls(after, Get("/livez")), 200);
}

TEST_F(Security, UnusableCertificatesStopTheStart) {
  UseTls(false);
  const auto start = [&] {
    config.http_port = 0;
    keys = *ApiKeys::Load("");
    return HttpServer::Start(config, &service, keys.get(), &metrics, &clock).status();
  };
  Write("key.pem", "rubbish");
  EXPECT_EQ(start().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(start().message().find("key.pem"), absl::string_view::npos);
  Authority other("other");
  other.Issue("server", File("other.pem"), File("key.pem"));  // another certificate's key
  EXPECT_EQ(start().code(), absl::StatusCode::kInvalidArgument);
  config.tls_key = "";
  EXPECT_EQ(start().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Security, AdminIsOnItsOwnPortOnly) {
  config.admin_port = 0;
  config.admin_only_metrics = true;
  Start();
  EXPECT_EQ(Ask(Post("/admin/drain", "")).status, 404);
  EXPECT_EQ(Ask(Get("/metrics")).status, 404);
  EXPECT_EQ(Ask(Get("/health")).status, 404);
  const auto ask_admin = [&](const std::string& request) {
    RawClient client(server->admin_port());
    client.Send(request);
    return client.Read().value_or(RawResponse{});
  };
  EXPECT_EQ(ask_admin(Get("/metrics")).status, 200);
  EXPECT_EQ(ask_admin(Get("/admin/health")).status, 200);
  EXPECT_EQ(ask_admin(Post("/v1/chat/completions", kChatBody)).status, 404);
  EXPECT_EQ(ask_admin(Post("/admin/drain", "", "Origin: http://evil.example\r\n")).status, 403);
  EXPECT_FALSE(service.Drained());
  EXPECT_EQ(ask_admin("POST /admin/drain HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
  EXPECT_TRUE(service.Drained());
  const RawResponse ready = ask_admin(Get("/readyz"));
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(json::parse(ready.body).at("reason"), "draining");
  EXPECT_EQ(ask_admin(Get("/livez")).status, 200);
}

TEST_F(Security, CorsIsOffUntilAnOriginIsNamed) {
  Start();
  const std::string preflight =
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n";
  EXPECT_EQ(Ask(preflight).status, 405);
  EXPECT_FALSE(Ask(Get("/livez", "Origin: https://app.example\r\n"))
                   .headers.contains("access-control-allow-origin"));
}

TEST_F(Security, CorsAnswersNamedOriginsOnly) {
  Write("keys", std::string(kKeyLine));
  config.api_keys_file = File("keys");
  config.cors_origin = {"https://app.example"};
  Start();
  const auto preflight = [](std::string_view origin) {
    return fmt::format(
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\nOrigin: {}\r\n"
        "Access-Control-Request-Method: POST\r\n\r\n",
        origin);
  };
  const RawResponse allowed = Ask(preflight("https://app.example"));
  EXPECT_EQ(allowed.status, 204);
  EXPECT_EQ(allowed.headers.at("access-control-allow-origin"), "https://app.example");
  EXPECT_EQ(Ask(preflight("https://evil.example")).status, 401);
  const RawResponse plain = Ask(Get("/livez", "Origin: https://evil.example\r\n"));
  EXPECT_FALSE(plain.headers.contains("access-control-allow-origin"));
  EXPECT_EQ(plain.headers.at("vary"), "Origin");
}

}  // namespace
}  // namespace sluice
