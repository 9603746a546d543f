// A session without a socket: what takes minutes on a real one, and what is in one write.
#include "rpc/h2_session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sluice/v1/inference.pb.h"
#include "tests/rpc/raw_h2_client.h"

namespace sluice::rpc {
namespace {

using std::chrono::seconds;

const std::string kRequest = RawH2Client::Hpack({{":method", "POST"},
                                                 {":scheme", "http"},
                                                 {":authority", "test"},
                                                 {":path", "/a/b"},
                                                 {"content-type", "application/grpc"}});

// Keeps its context; the test says what it writes.
class OpenCall final : public Call {
 public:
  explicit OpenCall(CallContext* context) : context(context) {}
  void Start(const grpc::ByteBuffer& /*request*/) override {}
  void OnCancel() override {
    if (!writing) context->Finish(grpc::Status::CANCELLED);
  }
  void OnWriteDone(bool ok) override {
    writing = false;
    ++(ok ? num_written : num_failed);
    if (!ok) context->Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override { done = true; }

  void Write(size_t size) {
    v1::GenerateRequest message;
    message.set_text(std::string(size, 'x'));
    ASSERT_TRUE(context->Encode(message).ok());
    writing = true;
    context->StartWrite();
  }

  CallContext* const context;
  bool writing = false, done = false;
  int num_written = 0, num_failed = 0;
};

class SessionTest : public ::testing::Test, public H2Host {
 protected:
  SessionTest() {
    session_.Feed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    Feed(NGHTTP2_SETTINGS, 0, 0, "");
    Feed(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "");
    Pull();
  }
  ~SessionTest() override {
    session_.Lost();
    for (const auto& call : calls_) EXPECT_TRUE(call->done);
    EXPECT_EQ(num_streams_, 0);
  }

  EventBook* events() override { return nullptr; }
  std::string peer() override { return "test"; }
  bool OnThread() override { return true; }
  void Post(std::function<void()> work) override { work(); }
  void MarkDirty() override { dirty_ = true; }
  const H2Method* Find(const std::string& /*path*/) override { return &method_; }
  bool EnterStream() override {
    ++num_streams_;
    return true;
  }
  void LeaveStream() override { --num_streams_; }

  void Feed(uint8_t type, uint8_t flags, int32_t stream, const std::string& payload) {
    std::string frame{'\0', static_cast<char>(payload.size() >> 8U),
                      static_cast<char>(payload.size()), static_cast<char>(type),
                      static_cast<char>(flags)};
    for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>(stream >> shift);
    session_.Feed(frame + payload);
  }
  OpenCall& Open(int32_t stream) {
    Feed(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, kRequest);
    Feed(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, stream, std::string(5, '\0'));
    session_.Settle();
    return *calls_.at(calls_.size() - 1);
  }
  std::string Pull(size_t max = 1U << 20U) {
    std::string out;
    session_.Pull(out, max);
    return out;
  }
  // The types of the frames in `bytes`.
  static std::vector<int> Types(const std::string& bytes) {
    std::vector<int> types;
    for (size_t at = 0; at + 9 <= bytes.size();) {
      const auto byte = [&](size_t i) {
        return static_cast<size_t>(static_cast<uint8_t>(bytes[at + i]));
      };
      types.push_back(static_cast<int>(byte(3)));
      at += 9 + (byte(0) << 16U) + (byte(1) << 8U) + byte(2);
    }
    return types;
  }

  bool dirty_ = false;
  int num_streams_ = 0;
  std::vector<std::shared_ptr<OpenCall>> calls_;
  const H2Method method_{false, 1U << 20U, [this](CallContext* context) {
                           return calls_.emplace_back(std::make_shared<OpenCall>(context));
                         }};
  H2Session session_{this,
                     {.max_message_bytes = 1U << 20U,
                      .max_header_bytes = 4096,
                      .max_streams = 100,
                      .read_timeout = absl::Hours(1),
                      .idle_timeout = absl::Hours(1),
                      .write_timeout = absl::Hours(1)}};
};

TEST_F(SessionTest, WhatManyStreamsSayLeavesInOneGo) {
  for (int32_t stream = 1; stream < 20; stream += 2) Open(stream).Write(10);
  EXPECT_TRUE(dirty_);
  const std::vector<int> types = Types(Pull());
  EXPECT_EQ(std::count(types.begin(), types.end(), NGHTTP2_HEADERS), 10);
  EXPECT_EQ(std::count(types.begin(), types.end(), NGHTTP2_DATA), 10);
  for (const auto& call : calls_) EXPECT_EQ(call->num_written, 1);
  for (const auto& call : calls_) call->Write(10);
  EXPECT_EQ(Types(Pull()), std::vector<int>(10, NGHTTP2_DATA));
  EXPECT_EQ(Pull(), "");
}

TEST_F(SessionTest, AWriteIsOverWhenItsBytesHaveBeenTaken) {
  OpenCall& call = Open(1);
  call.Write(60'000);
  std::string part;
  EXPECT_TRUE(session_.Pull(part, 20'000));
  EXPECT_EQ(call.num_written, 0);
  Pull();
  EXPECT_EQ(call.num_written, 1);
}

TEST_F(SessionTest, AResetEndsTheCallAndItsWrite) {
  OpenCall& call = Open(1);
  call.Write(200'000);  // more than the window
  Pull();
  Feed(NGHTTP2_RST_STREAM, 0, 1, std::string("\0\0\0\x08", 4));
  session_.Settle();
  EXPECT_EQ(call.num_failed, 1);
  EXPECT_TRUE(call.done);
}

TEST_F(SessionTest, APeerThatIsSilentIsAskedAndThenGivenUp) {
  const SteadyTime now = std::chrono::steady_clock::now();
  session_.Sweep(now + seconds(59));
  EXPECT_EQ(Pull(), "");
  session_.Sweep(now + seconds(61));
  EXPECT_EQ(Types(Pull()), std::vector<int>{NGHTTP2_PING});
  session_.Sweep(now + seconds(80));
  EXPECT_FALSE(session_.over());
  session_.Sweep(now + seconds(82));
  EXPECT_TRUE(session_.over());
}

TEST_F(SessionTest, APeerThatAnswersStays) {
  const SteadyTime now = std::chrono::steady_clock::now();
  session_.Sweep(now + seconds(61));
  Pull();
  Feed(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, std::string(8, '\0'));
  session_.Sweep(now + seconds(55));
  session_.Sweep(now + seconds(82));
  EXPECT_FALSE(session_.over());
}

// Each of these streams is refused by a frame, which stays here.
TEST_F(SessionTest, AnswersThatNobodyTakesAreBounded) {
  session_.Drain();
  for (int i = 0; i < 50'000 && !session_.over(); ++i)
    Feed(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 2 * i + 1, kRequest);
  EXPECT_FALSE(session_.terminated()) << "it is nghttp2 that has had enough";
  EXPECT_LT(Pull().size(), 10'000U);
  EXPECT_TRUE(session_.over());
}

// A refused request must not make what follows it look like its header.
TEST_F(SessionTest, AnUploadMayFollowARefusedRequest) {
  Feed(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, kRequest);
  session_.Drain();
  Feed(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 3, kRequest);
  const std::string part(16'000, 'x');
  std::string prefix("\0\0\x07\xa1\x20", 5);  // of 500,000 bytes
  Feed(NGHTTP2_DATA, 0, 1, prefix);
  for (int i = 0; i < 31; ++i) {
    Feed(NGHTTP2_DATA, 0, 1, part);
    Pull();  // opens the window
  }
  Feed(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, part.substr(0, 4'000));
  session_.Settle();
  EXPECT_EQ(calls_.size(), 1U);
}

}  // namespace
}  // namespace sluice::rpc
