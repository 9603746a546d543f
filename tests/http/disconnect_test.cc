// A client that goes away cancels its call, whatever it was waiting for.
#include <functional>

#include "tests/http/server_fixture.h"

namespace sluice {
namespace {

class Disconnect : public ServerFixture {
 protected:
  // Starts a request, brings it to some state, then lets the client leave.
  void LeaveAfter(const std::string& body, const std::function<void(CallId)>& progress,
                  const std::function<void(RawClient&)>& leave) {
    const size_t cancels = service.num_cancels();
    const CallId call = ++calls_;
    RawClient client(server->port());
    client.Send(Post("/v1/chat/completions", body));
    ASSERT_TRUE(service.WaitForCalls(call));
    progress(call);
    leave(client);
    EXPECT_TRUE(service.WaitForCancels(cancels + 1));
  }

  CallId calls_ = 0;
};

TEST_F(Disconnect, IsSeenInEveryState) {
  Start();
  const std::function<void(CallId)> nothing = [](CallId) {};
  const std::function<void(CallId)> accepted = [this](CallId call) { service.Accept(call); };
  const std::function<void(CallId)> speaking = [this](CallId call) {
    service.Accept(call);
    service.Say(call, "some");
  };
  const std::function<void(RawClient&)> close = [](RawClient& client) { client.Close(); };
  const std::function<void(RawClient&)> reset = [](RawClient& client) { client.Reset(); };
  const std::function<void(RawClient&)> half = [](RawClient& client) { client.CloseWrite(); };
  for (const std::string& body : {kChatBody, kStreamBody}) {
    for (const auto& progress : {nothing, accepted, speaking}) {
      for (const auto& leave : {close, reset, half}) LeaveAfter(body, progress, leave);
    }
  }
}

TEST_F(Disconnect, IsSeenBehindPipelinedBytes) {
  Start();
  for (const size_t bytes :
       {size_t{100}, size_t{5'000'000}}) {  // the larger fills the read-ahead buffer
    const size_t cancels = service.num_cancels();
    const CallId call = ++calls_;
    RawClient client(server->port());
    client.Send(Post("/v1/chat/completions", kChatBody));
    ASSERT_TRUE(service.WaitForCalls(call));
    client.Send(std::string(std::min<size_t>(bytes, 300'000), 'x'));
    client.Reset();
    EXPECT_TRUE(service.WaitForCancels(cancels + 1)) << bytes;
  }
}

TEST_F(Disconnect, IsSeenBehindAFullReadAheadBufferAfterAPoliteClose) {
  Start();
  RawClient client(server->port());
  client.Send(Post("/v1/chat/completions", kChatBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  client.Send(std::string(
      110'000, 'x'));  // more than is read ahead, less than the kernel then holds besides
  client.CloseWrite();
  EXPECT_TRUE(service.WaitForCancels(1));
}

TEST_F(Disconnect, WhileManyStreamsRunOthersGoOn) {
  Start();
  RawClient stays(server->port());
  stays.Send(Post("/v1/chat/completions", kStreamBody));
  ASSERT_TRUE(service.WaitForCalls(1));
  service.Accept(1);
  calls_ = 1;
  for (int i = 0; i < 50; ++i) {
    LeaveAfter(
        kStreamBody, [this](CallId call) { service.Accept(call); },
        [](RawClient& client) { client.Close(); });
  }
  service.Say(1, "still here");
  service.Finish(1);
  service.EndOk(1);
  EXPECT_NE(stays.Read()->body.find("still here"), std::string::npos);
}

TEST_F(Disconnect, AfterTheAnswerCancelsNothing) {
  Start();
  AnswerAll({"x"});
  for (int i = 0; i < 20; ++i)
    Ask(Post("/v1/chat/completions", i % 2 == 0 ? kChatBody : kStreamBody));
  EXPECT_EQ(service.num_cancels(), 0U);
}

}  // namespace
}  // namespace sluice
