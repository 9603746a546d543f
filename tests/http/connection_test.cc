// The life of a connection: keep-alive, pipelining, framing, limits and timeouts.
#include <fmt/format.h>

#include <chrono>

#include "tests/http/server_fixture.h"

namespace sluice {
namespace {

class Connection : public ServerFixture {};

TEST_F(Connection, AnswersManyRequestsInARow) {
  Start();
  RawClient client(server->port());
  for (int i = 0; i < 5; ++i) {
    client.Send(Get("/v1/models", "X-Request-ID: r" + std::to_string(i) + "\r\n"));
    const auto response = client.Read();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->headers.at("x-request-id"), "r" + std::to_string(i));
    EXPECT_FALSE(response->headers.contains("connection"));
  }
}

TEST_F(Connection, AnswersPipelinedRequestsInOrder) {
  Start();
  AnswerAll({"a", "b"});
  RawClient client(server->port());
  std::string requests;
  for (int i = 0; i < 20; ++i) {
    const std::string id = fmt::format("X-Request-ID: r{}\r\n", i);
    requests += i % 3 == 0   ? Post("/v1/chat/completions", kStreamBody, id)
                : i % 3 == 1 ? Get("/livez", id)
                             : Post("/v1/chat/completions", kChatBody, id);
  }
  client.Send(requests);
  for (int i = 0; i < 20; ++i) {
    const auto response = client.Read();
    ASSERT_TRUE(response) << i;
    EXPECT_EQ(response->status, 200) << i;
    EXPECT_EQ(response->headers.at("x-request-id"), fmt::format("r{}", i));
    EXPECT_EQ(response->headers.contains("transfer-encoding"), i % 3 == 0);
  }
}

TEST_F(Connection, HeadIsGetWithoutABody) {
  Start();
  RawClient client(server->port());
  for (const std::string_view path : {"/livez", "/v1/models", "/metrics", "/openapi.json", "/"}) {
    client.Send(fmt::format("HEAD {} HTTP/1.1\r\nHost: h\r\n\r\n", path));
    const auto head = client.Read(true);
    client.Send(Get(path));
    const auto get = client.Read();
    ASSERT_TRUE(head && get) << path;
    EXPECT_EQ(head->status, 200);
    EXPECT_EQ(head->headers.at("content-type"), get->headers.at("content-type"));
    if (path == "/metrics") continue;  // grows meanwhile
    EXPECT_EQ(head->headers.at("content-length"), get->headers.at("content-length"));
  }
  client.Send("HEAD /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(client.Read(true)->status, 405);
}

TEST_F(Connection, TakesChunkedBodiesByteByByte) {
  Start();
  AnswerAll({"x"});
  const std::string request = fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
      "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x};a=b\r\n{}\r\n0\r\nX-Trailer: t\r\n\r\n",
      10, kChatBody.substr(0, 10), kChatBody.size() - 10, kChatBody.substr(10));
  RawClient client(server->port());
  for (const char c : request) client.Send(std::string_view(&c, 1));
  const auto response = client.Read();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(service.Request(1).request_id, response->headers.at("x-request-id"));
}

TEST_F(Connection, InvitesABodyThatWaitsForIt) {
  Start();
  AnswerAll({"x"});
  RawClient client(server->port());
  const std::string request = Post("/v1/chat/completions", kChatBody, "Expect: 100-continue\r\n");
  const size_t head = request.size() - kChatBody.size();
  client.Send(request.substr(0, head));
  EXPECT_EQ(client.Read()->status, 100);
  client.Send(request.substr(head));
  EXPECT_EQ(client.Read()->status, 200);
  // What would be refused is refused before the body.
  client.Send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: "
      "text/plain\r\nContent-Length: 9\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.Read()->status, 415);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(Ask(Post("/tokenize", "{}", "Expect: tea\r\n")).status, 417);
}

TEST_F(Connection, ClosesWhenAskedTo) {
  Start();
  RawClient client(server->port());
  client.Send(Get("/livez", "Connection: close\r\n"));
  const auto response = client.Read();
  EXPECT_EQ(response->headers.at("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(Connection, SpeaksHttp10) {
  Start();
  AnswerAll({"Hel", "lo"});
  RawClient plain(server->port());
  plain.Send("GET /livez HTTP/1.0\r\n\r\n");
  EXPECT_EQ(plain.Read()->status, 200);
  EXPECT_TRUE(plain.AtEnd());
  RawClient kept(server->port());
  for (int i = 0; i < 2; ++i) {
    kept.Send("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(kept.Read()->headers.at("connection"), "keep-alive");
  }
  // A stream without chunks: it ends with the connection.
  RawClient stream(server->port());
  stream.Send(
      fmt::format("POST /v1/chat/completions HTTP/1.0\r\nConnection: keep-alive\r\n"
                  "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                  kStreamBody.size(), kStreamBody));
  const auto response = stream.Read();
  ASSERT_TRUE(response);
  EXPECT_FALSE(response->headers.contains("transfer-encoding"));
  EXPECT_EQ(response->headers.at("connection"), "close");
  EXPECT_EQ(response->Events().back(), "[DONE]");
}

TEST_F(Connection, RefusesWhatIsTooLarge) {
  config.max_body_bytes = 1000;
  config.max_header_bytes = 600;
  Start();
  EXPECT_EQ(Ask(Post("/tokenize", R"({"prompt":"a"})")).status, 200);
  const RawResponse body = Ask(Post("/tokenize", std::string(1001, ' ')));
  EXPECT_EQ(body.status, 413);
  EXPECT_EQ(body.headers.at("connection"), "close");
  EXPECT_NE(body.body.find("1000 bytes"), std::string::npos) << body.body;
  EXPECT_EQ(Ask(Get("/livez", "X-Long: " + std::string(700, 'x') + "\r\n")).status, 431);
  // Without an end of the header.
  EXPECT_EQ(Ask("GET /" + std::string(2000, 'x')).status, 431);
}

TEST_F(Connection, LetsTheClientReadARefusalThatCameBeforeItsBody) {
  config.max_body_bytes = 1000;
  Start();
  RawClient client(server->port());
  client.Send(
      "POST /tokenize HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: "
      "3000000\r\n\r\n");
  client.Send(std::string(3'000'000, 'x'));  // closing with this unread would reset the connection
  const auto response = client.Read();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 413);
}

TEST_F(Connection, RefusesByHttpsOwnRules) {
  Start();
  EXPECT_EQ(
      Ask("POST /tokenize HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\r\n").status,
      411);
  EXPECT_EQ(Ask("POST /tokenize HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}").status, 415);
  EXPECT_EQ(Ask(Post("/tokenize", R"({"prompt":"a"})", "Content-Encoding: gzip\r\n")).status, 415);
  EXPECT_EQ(
      Ask("POST /tokenize HTTP/1.1\r\nHost: h\r\nContent-Type: application/json; charset=latin1\r\n"
          "Content-Length: 2\r\n\r\n{}")
          .status,
      415);
  EXPECT_EQ(
      Ask("POST /tokenize HTTP/1.1\r\nHost: h\r\nContent-Type: Application/JSON ; charset=UTF-8\r\n"
          "Content-Length: 14\r\n\r\n{\"prompt\":\"a\"}")
          .status,
      200);
  EXPECT_EQ(Ask("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n").status, 501);
  EXPECT_EQ(Ask("GET / HTTP/1.1\r\n\r\n").status, 400);
  EXPECT_EQ(Ask("rubbish\r\n\r\n").status, 400);
  const RawResponse method = Ask(Get("/tokenize"));
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.headers.at("allow"), "POST");
  EXPECT_EQ(Ask(Get("/nowhere")).status, 404);
  EXPECT_NE(Ask(Post("/v1/responses", "{}")).body.find("not_implemented"), std::string::npos);
}

TEST_F(Connection, EveryAnswerHasARequestId) {
  Start();
  EXPECT_EQ(Ask(Get("/nowhere", "X-Request-ID: mine\r\n")).headers.at("x-request-id"), "mine");
  const std::string generated = Ask(Get("/nowhere")).headers.at("x-request-id");
  EXPECT_EQ(generated.size(), 32U);
  EXPECT_NE(generated, Ask(Get("/nowhere")).headers.at("x-request-id"));
  for (const std::string& bad :
       {std::string("a b"), std::string("\xC3\xA9"), std::string(200, 'x')}) {
    EXPECT_EQ(Ask(Get("/livez", "X-Request-ID: " + bad + "\r\n")).headers.at("x-request-id").size(),
              32U);
  }
  EXPECT_EQ(Ask("rubbish\r\n\r\n").headers.at("x-request-id").size(), 32U);
}

TEST_F(Connection, GivesUpOnARequestThatDoesNotArrive) {
  config.read_timeout_s = 0.1;
  Start();
  RawClient header(server->port());
  header.Send("GET /livez HTTP/1.1\r\nHost:");
  EXPECT_EQ(header.Read()->status, 408);
  EXPECT_TRUE(header.AtEnd());
  RawClient body(server->port());
  body.Send(Post("/tokenize", std::string(100, ' ')).substr(0, 150));
  EXPECT_EQ(body.Read()->status, 408);
  RawClient silent(server->port());
  EXPECT_TRUE(silent.AtEnd());
}

TEST_F(Connection, ClosesAfterIdleTimeOnly) {
  config.idle_timeout_s = 1;  // a loaded machine may take long between the two requests
  Start();
  RawClient client(server->port());
  client.Send(Get("/livez"));
  EXPECT_EQ(client.Read()->status, 200);
  const auto begin = std::chrono::steady_clock::now();
  client.Send(Get("/livez"));
  EXPECT_EQ(client.Read()->status, 200);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
}

TEST_F(Connection, RefusesConnectionsBeyondTheLimit) {
  config.max_connections = 2;
  Start();
  RawClient one(server->port());
  RawClient two(server->port());
  one.Send(Get("/livez"));
  two.Send(Get("/livez"));
  ASSERT_EQ(one.Read()->status, 200);
  ASSERT_EQ(two.Read()->status, 200);
  RawClient three(server->port());
  const auto refused = three.Read();
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 503);
  EXPECT_EQ(refused->headers.at("retry-after"), "1");
}

TEST_F(Connection, SpreadsOverSeveralThreads) {
  config.io_threads = 3;
  Start();
  AnswerAll({"x"});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 9; ++i) clients.push_back(std::make_unique<RawClient>(server->port()));
  for (const auto& client : clients) client->Send(Post("/v1/chat/completions", kStreamBody));
  for (const auto& client : clients) EXPECT_EQ(client->Read()->Events().back(), "[DONE]");
}

TEST_F(Connection, EndsKeptConnectionsOnceItStopsAccepting) {
  Start();
  RawClient client(server->port());
  client.Send(Get("/livez"));
  EXPECT_EQ(client.Read()->status, 200);
  const int port = server->port();
  server->StopAccepting();
  client.Send(Get("/livez"));
  EXPECT_EQ(client.Read()->headers.at("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
  EXPECT_FALSE(RawClient(port).connected());
}

TEST_F(Connection, ReportsAPortThatIsTaken) {
  Start();
  Config second = config;
  second.http_port = server->port();
  const auto other = HttpServer::Start(second, &service, keys.get(), &metrics, &clock);
  EXPECT_EQ(other.status().code(), absl::StatusCode::kUnavailable) << other.status();
  second.host = "no.such.host.invalid";
  EXPECT_EQ(HttpServer::Start(second, &service, keys.get(), &metrics, &clock).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sluice
