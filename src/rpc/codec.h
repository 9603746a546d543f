// sluice.v1 messages to and from the types of include/sluice. The only file of rpc that touches
// prompt and output text. Pure functions; bytes from the wire are hostile.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "sluice/service.h"
#include "sluice/types.h"
#include "sluice/v1/inference.pb.h"

namespace sluice::rpc {

// Parses wire bytes into `message`. Counts fields first: an empty message of 2 bytes would become
// an object of 60, so a body within the size limit could otherwise take gigabytes. Errors:
// InvalidArgument for malformed bytes, strings that are not UTF-8, and more than 65,536 fields.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message);

// Errors: Internal where the message does not fit the wire format (2 GiB).
absl::StatusOr<grpc::ByteBuffer> SerializeMessage(const google::protobuf::Message& message);

// Requests. Text is moved out of the message. request_id, tenant and deadline are the caller's to
// fill. Errors: InvalidArgument that names the field; values are checked by the Service.
absl::StatusOr<GenerateRequest> DecodeGenerate(v1::GenerateRequest message);
absl::StatusOr<EmbedRequest> DecodeEmbed(v1::EmbedRequest message);
absl::StatusOr<TokenizeRequest> DecodeTokenize(v1::TokenizeRequest message);

// Answers.
v1::TokenizeResponse EncodeTokenize(TokenizeResult result);
v1::DetokenizeResponse EncodeDetokenize(Text text);
v1::ListModelsResponse EncodeModels(const std::vector<ModelDescription>& models);
v1::Usage EncodeUsage(const Usage& usage);
v1::FinishReason EncodeFinish(FinishReason reason);

// Appends `event` to a delta or choice of the same choice index: content concatenates, the vectors
// append. Returns about how many bytes it added on the wire.
size_t MergeInto(TokenEvent event, v1::Delta& delta);
size_t MergeInto(TokenEvent event, v1::Choice& choice);

// A Status as gRPC carries it, by the one table of base/errors.h; the message is cut at 1 KiB
// (clients bound headers). With `retry_after` above zero it holds a google.rpc.RetryInfo.
grpc::Status EncodeStatus(const absl::Status& status,
                          absl::Duration retry_after = absl::ZeroDuration());

// The proto path of a field that the Service named in its own terms: "top_p" is "sampling.top_p",
// "messages[1].role" is "chat.messages[1].role".
std::string ProtoField(std::string_view param);

}  // namespace sluice::rpc
