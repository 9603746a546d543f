#include "rpc/codec.h"

#include <gtest/gtest.h>

#include <string>

#include "base/errors.h"

namespace sluice::rpc {
namespace {

TEST(Codec, ServiceFieldsBecomeProtoPaths) {
  EXPECT_EQ(ProtoField("top_p"), "sampling.top_p");
  EXPECT_EQ(ProtoField("n"), "sampling.n");
  EXPECT_EQ(ProtoField("logit_bias"), "sampling.logit_bias");
  EXPECT_EQ(ProtoField("logit_bias.17"), "sampling.logit_bias.17");
  EXPECT_EQ(ProtoField("stop[2]"), "sampling.stop[2]");
  EXPECT_EQ(ProtoField("max_completion_tokens"), "sampling.max_tokens");
  EXPECT_EQ(ProtoField("top_logprobs"), "sampling.logprobs");
  EXPECT_EQ(ProtoField("messages[1].role"), "chat.messages[1].role");
  EXPECT_EQ(ProtoField("prompt"), "prompt");
  EXPECT_EQ(ProtoField("model"), "model");
  EXPECT_EQ(ProtoField(""), "");
}

TEST(Codec, StatusCodesFollowTheOneTable) {
  EXPECT_TRUE(EncodeStatus(absl::OkStatus()).ok());
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status =
        EncodeStatus(absl::Status(static_cast<absl::StatusCode>(code), "m"));
    EXPECT_EQ(static_cast<int>(status.error_code()), code);
    EXPECT_EQ(status.error_message(), "m");
  }
  EXPECT_EQ(EncodeStatus(absl::InternalError(std::string(100'000, 'x'))).error_message().size(),
            1024U);
  // Cut between characters.
  EXPECT_EQ(EncodeStatus(absl::InternalError("x" + std::string(999, 'y') + "\xe2\x82\xac" +
                                             std::string(20, 'z') + "\xe2\x82\xac"))
                .error_message()
                .size(),
            1023U);
}

TEST(Codec, ReasonsThatAreErrorsHaveNoFinishReason) {
  EXPECT_EQ(EncodeFinish(FinishReason::kStop), v1::FINISH_REASON_STOP);
  EXPECT_EQ(EncodeFinish(FinishReason::kLength), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(EncodeFinish(FinishReason::kToolCalls), v1::FINISH_REASON_TOOL_CALLS);
  EXPECT_EQ(EncodeFinish(FinishReason::kCancelled), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(EncodeFinish(FinishReason::kDeadline), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(EncodeFinish(FinishReason::kError), v1::FINISH_REASON_UNSPECIFIED);
}

TEST(Codec, AnEventWithoutTokensKeepsTheIndexOfTheNextOne) {
  v1::Delta delta;
  TokenEvent text;
  text.content = Text("held back");
  text.index = 4;
  MergeInto(text, delta);
  TokenEvent token;
  token.index = 5;
  token.tokens = {1};
  MergeInto(token, delta);
  EXPECT_EQ(delta.index(), 5);
  EXPECT_EQ(delta.content(), "held back");
}

TEST(Codec, MessagesSurviveTheirBytes) {
  v1::TokenizeRequest request;
  request.set_model("m");
  request.set_text("caf\xc3\xa9");
  const auto bytes = SerializeMessage(request);
  ASSERT_TRUE(bytes.ok());
  v1::TokenizeRequest parsed;
  ASSERT_TRUE(ParseMessage(*bytes, parsed).ok());
  EXPECT_EQ(parsed.text(), "caf\xc3\xa9");
  v1::ListModelsRequest empty;
  EXPECT_TRUE(ParseMessage(*SerializeMessage(empty), empty).ok());
}

TEST(Codec, EveryTruncationOfARequestIsAnErrorOrAMessage) {
  v1::GenerateRequest request;
  request.set_model("model");
  request.mutable_chat()->add_messages()->set_content("content");
  request.mutable_sampling()->add_stop("stop");
  (*request.mutable_sampling()->mutable_logit_bias())[5] = 1.5;
  const std::string bytes = request.SerializeAsString();
  for (size_t size = 0; size <= bytes.size(); ++size) {
    for (int flip = -1; flip < 8; ++flip) {
      std::string part = bytes.substr(0, size);
      if (flip >= 0 && !part.empty()) part.back() = static_cast<char>(part.back() ^ (1 << flip));
      const grpc::Slice slice(part.data(), part.size());
      v1::GenerateRequest parsed;
      if (ParseMessage(grpc::ByteBuffer(&slice, 1), parsed).ok()) {
        static_cast<void>(DecodeGenerate(std::move(parsed)));
      } else if (size == bytes.size() && flip < 0) {
        ADD_FAILURE() << "the whole request was refused";
      }
    }
  }
}

}  // namespace
}  // namespace sluice::rpc
