// Clients of the nghttp2 transport that break the rules of HTTP/2, or keep them and mean harm.
// After each the server serves as before, and nothing is left behind.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/time/clock.h"
#include "tests/rpc/raw_h2_client.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr const char* kGenerate = "/sluice.v1.Inference/Generate";
constexpr const char* kStream = "/sluice.v1.Inference/GenerateStream";
const std::string kPing(8, 'p');

class HostileTest : public RpcTest {
 protected:
  ~HostileTest() override {
    if (server_ == nullptr) return;
    service_.script = [](const FakeService::Call& call) { call.Answer("x"); };
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    v1::GenerateResponse answer;
    const grpc::Status status = Stub()->Generate(&context, TextRequest("hi"), &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    ExpectAllStreamsClosed();
  }
  static std::string Request() { return TextRequest("hi").SerializeAsString(); }
};

TEST_P(HostileTest, WhatIsNotHttp2IsClosed) {
  StartServer();
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string(1000, '\0'),
        std::string("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")}) {
    RawH2Client client(server_->port());
    client.Send(bytes);
    EXPECT_TRUE(client.ReadToEnd());
  }
}

TEST_P(HostileTest, BadHpackEndsTheConnection) {
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.SendFrame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, std::string(100, '\xff'));
  EXPECT_EQ(client.ReadGoodbye(), NGHTTP2_COMPRESSION_ERROR);
}

TEST_P(HostileTest, FramesThatBreakTheRulesEndTheConnection) {
  StartServer();
  const struct {
    uint8_t type, flags;
    int32_t stream;
    std::string payload;
  } kCases[] = {{NGHTTP2_DATA, 0, 0, "x"},
                {NGHTTP2_DATA, 0, 7, "x"},
                {NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 2, "\x82"},
                {NGHTTP2_SETTINGS, 0, 0, "odd"},
                {NGHTTP2_SETTINGS, 0, 1, ""},
                {NGHTTP2_PING, 0, 0, "short"},
                {NGHTTP2_WINDOW_UPDATE, 0, 0, std::string(4, '\0')},
                {NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, "\x82"},
                {NGHTTP2_RST_STREAM, 0, 5, std::string(4, '\0')},
                {NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1, std::string(4, '\0')},
                {NGHTTP2_DATA, 0, 1, std::string(20'000, 'x')}};
  for (const auto& c : kCases) {
    RawH2Client client(server_->port());
    client.Greet();
    client.SendFrame(c.type, c.flags, c.stream, c.payload);
    EXPECT_GT(client.ReadGoodbye(), 0) << int{c.type} << ", stream " << c.stream;
  }
}

TEST_P(HostileTest, AnyBytesDoNoHarm) {
  StartServer();
  std::mt19937 random(7);  // a fixed seed
  for (int i = 0; i < 200; ++i) {
    RawH2Client client(server_->port());
    if (i % 4 != 0) client.Greet();
    std::string bytes;
    for (int frame = 0; frame < 20; ++frame) {
      const size_t size = random() % 40;
      bytes += std::string(2, '\0') + static_cast<char>(size) + static_cast<char>(random() % 11) +
               static_cast<char>(random()) + std::string(3, '\0') + static_cast<char>(random() % 8);
      for (size_t at = 0; at < size; ++at) bytes += static_cast<char>(random());
    }
    client.Send(bytes);
  }
}

TEST_P(HostileTest, PingsThatComeTooOftenSendTheClientAway) {
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  for (int i = 0; i < 10; ++i) client.SendFrame(NGHTTP2_PING, 0, 0, kPing);
  EXPECT_EQ(client.ReadGoodbye(), NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_EQ(client.goodbye_text(), "too_many_pings");
}

TEST_P(HostileTest, AFewPingsAreAnswered) {
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  for (int i = 0; i < 3; ++i) client.SendFrame(NGHTTP2_PING, 0, 0, kPing);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.ReadUntil(NGHTTP2_PING).payload, kPing);
}

TEST_P(HostileTest, FloodsOfFramesThatCarryNothingSendTheClientAway) {
  StartServer();
  const struct {
    const char* name;
    uint8_t type, flags;
    int32_t stream;
    std::string payload;
  } kCases[] = {{"settings", NGHTTP2_SETTINGS, 0, 0, ""},
                {"priority", NGHTTP2_PRIORITY, 0, 1, std::string("\0\0\0\3\1", 5)},
                {"empty data", NGHTTP2_DATA, 0, 1, ""},
                {"window", NGHTTP2_WINDOW_UPDATE, 0, 1, std::string("\0\0\0\1", 4)}};
  for (const auto& c : kCases) {
    RawH2Client client(server_->port());
    client.Greet();
    client.SendRequest(1, kGenerate);
    std::string frames;
    for (int i = 0; i < 100; ++i) {
      frames += std::string(2, '\0') + static_cast<char>(c.payload.size()) +
                static_cast<char>(c.type) + static_cast<char>(c.flags) + std::string(3, '\0') +
                static_cast<char>(c.stream) + c.payload;
    }
    for (int i = 0; i < 300 && client.Send(frames); ++i) {
    }
    EXPECT_EQ(client.ReadGoodbye(), NGHTTP2_ENHANCE_YOUR_CALM) << c.name;
  }
}

TEST_P(HostileTest, CallsBegunAndResetInAFloodSendTheClientAway) {
  service_.script = nullptr;
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  for (int i = 0; i < 3000; ++i) {
    const int32_t stream = 2 * i + 1;
    if (!client.SendRequest(stream, kStream) || !client.SendMessage(stream, Request()) ||
        !client.SendFrame(NGHTTP2_RST_STREAM, 0, stream, std::string("\0\0\0\x08", 4)))
      break;
  }
  // Ours, or that of a libnghttp2 that counts resets itself.
  EXPECT_THAT(client.ReadGoodbye(), AnyOf(NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_INTERNAL_ERROR));
  EXPECT_LT(service_.calls().size(), 1500U);
  for (const FakeService::Call& call : service_.calls())
    EXPECT_EQ(service_.num_cancels(call.id), 1U);
}

TEST_P(HostileTest, HeadersThatNeverEndAreCutOff) {
  StartServer();
  for (const size_t size : {size_t{0}, size_t{1}, size_t{16'000}}) {
    RawH2Client client(server_->port());
    client.Greet();
    client.SendFrame(NGHTTP2_HEADERS, 0, 1, RawH2Client::Hpack({{":method", "POST"}}));
    const std::string more = size < 100
                                 ? std::string(size, '\x82')
                                 : RawH2Client::Hpack({{"x-filler", std::string(size - 20, 'f')}});
    int sent = 0;
    while (sent < 200'000 && client.SendFrame(NGHTTP2_CONTINUATION, 0, 1, more)) ++sent;
    EXPECT_TRUE(client.ReadToEnd()) << size;
    EXPECT_LT(sent, 200'000) << size;
  }
}

TEST_P(HostileTest, MetadataOverTheLimitIsRefusedWithTheLimit) {
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.SendRequest(1, kGenerate, {{"x-filler", std::string(20'000, 'f')}});
  const RawH2Client::Headers answer = client.ReadAnswer(1);
  EXPECT_EQ(answer.at("grpc-status"), "8");
  EXPECT_THAT(answer.at("grpc-message"), HasSubstr("the limit is 16384"));
}

TEST_P(HostileTest, AnnouncedSizesAreNotBelieved) {
  config_.max_body_bytes = 100'000;
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.SendRequest(1, kGenerate);
  client.SendFrame(NGHTTP2_DATA, 0, 1, std::string("\0\xff\xff\xff\xff", 5));
  const RawH2Client::Headers answer = client.ReadAnswer(1);
  EXPECT_EQ(answer.at("grpc-status"), "8");
  EXPECT_THAT(answer.at("grpc-message"), HasSubstr("4294967295 bytes; the limit is 100000"));
  EXPECT_EQ(client.ReadUntil(NGHTTP2_RST_STREAM, 1).payload, std::string(4, '\0'));
}

// 40 calls of which each message lacks its last byte: what they hold together is bounded.
TEST_P(HostileTest, UnfinishedMessagesOfAConnectionHaveALimit) {
  config_.max_body_bytes = 1 << 20;
  StartServer();
  RawH2Client client(server_->port());
  client.Greet();
  client.AcknowledgeSettings();
  const std::string part(16'000, 'x');
  int refused = 0;
  for (int32_t stream = 1; stream < 80; stream += 2) {
    client.SendRequest(stream, kGenerate);
    client.SendFrame(NGHTTP2_DATA, 0, stream, std::string("\0\0\x03\xe8\x01", 5));  // 256,001
    for (int i = 0; i < 16; ++i) client.SendFrame(NGHTTP2_DATA, 0, stream, part);
  }
  for (RawH2Client::Frame frame = client.Read(); refused < 28 && frame.type != 0xFF;
       frame = client.Read())
    refused += frame.type == NGHTTP2_HEADERS ? 1 : 0;
  EXPECT_EQ(refused, 28) << "3 MiB hold the messages of 12";
  EXPECT_TRUE(service_.calls().empty());
}

TEST_P(HostileTest, MoreStreamsThanAllowedAreRefused) {
  config_.max_connections = 4;
  StartServer();
  RawH2Client early(server_->port()), knowing(server_->port());
  early.Greet();
  knowing.Greet();
  knowing.AcknowledgeSettings();
  for (int32_t stream = 1; stream < 12; stream += 2) {
    early.SendRequest(stream, kGenerate);
    knowing.SendRequest(stream, kGenerate);
  }
  EXPECT_EQ(early.ReadUntil(NGHTTP2_RST_STREAM, 9).payload, std::string("\0\0\0\x07", 4));
  EXPECT_EQ(knowing.ReadGoodbye(), NGHTTP2_PROTOCOL_ERROR);
}

TEST_P(HostileTest, AClientThatLeavesMidwayCancelsItsCalls) {
  StartServer();
  {
    RawH2Client client(server_->port());
    client.Greet();
    client.SendRequest(1, kStream);
    client.SendMessage(1, Request());
    client.SendRequest(3, kStream);
    client.SendFrame(NGHTTP2_DATA, 0, 3, "\0");
    service_.WaitForCall();
  }
  EXPECT_TRUE(service_.WaitForCancel(service_.WaitForCall().id));
  EXPECT_EQ(service_.calls().size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Transports, HostileTest, ::testing::Values("nghttp2"), TransportName);

}  // namespace
}  // namespace sluice::rpc
