// A real HttpServer over a FakeService, on a port of its own.
#pragma once

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <memory>
#include <string>

#include "base/api_keys.h"
#include "base/clock.h"
#include "http/server.h"
#include "metrics/metrics.h"
#include "tests/http/fake_service.h"
#include "tests/http/raw_client.h"

namespace sluice {

class ServerFixture : public testing::Test {
 protected:
  void Start() {
    config.http_port = 0;
    auto loaded = ApiKeys::Load(config.api_keys_file);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    keys = *std::move(loaded);
    auto started = HttpServer::Start(config, &service, keys.get(), &metrics, &clock);
    ASSERT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
  }

  // Every test leaves no stream and no connection behind.
  void TearDown() override {
    server.reset();
    EXPECT_EQ(metrics.orphans.OpenStreams(), 0);
  }

  // One request on a connection of its own.
  RawResponse Ask(const std::string& request, bool head_only = false) {
    RawClient client(server->port());
    client.Send(request);
    return client.Read(head_only).value_or(RawResponse{});
  }

  // Every generation is answered with these words at once.
  void AnswerAll(std::vector<std::string> words) {
    service.on_generate = [this, words = std::move(words)](CallId call) {
      service.Complete(call, words);
    };
  }

  Config config;
  FakeService service;
  RealClock clock;
  Metrics metrics{"fake/model", ""};
  std::unique_ptr<ApiKeys> keys;
  std::unique_ptr<HttpServer> server;
};

// The text that a chat's stream brought, whatever its chunks.
inline std::string JoinedContent(const RawResponse& response) {
  std::string text;
  for (const std::string& event : response.Events()) {
    if (event == "[DONE]") break;
    const boost::json::value chunk = boost::json::parse(event);
    const auto& delta = chunk.at("choices").at(0).at("delta").as_object();
    if (const auto* content = delta.if_contains("content"))
      text += std::string(content->as_string());
  }
  return text;
}

inline const std::string kChatBody =
    R"({"model":"default","messages":[{"role":"user","content":"hi"}]})";
inline const std::string kStreamBody =
    R"({"model":"default","messages":[{"role":"user","content":"hi"}],"stream":true})";

}  // namespace sluice
