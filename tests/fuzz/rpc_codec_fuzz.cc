// Any bytes as a gRPC request. Checks beside not crashing: a refusal is the client's fault, its
// message fits a header, and what is accepted holds only text that is UTF-8.
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "base/utf8.h"
#include "rpc/codec.h"
#include "rpc/kserve_codec.h"

namespace {

namespace v1 = sluice::v1;

void Check(bool condition) {
  if (!condition) std::abort();
}

void CheckRefusal(const absl::Status& status) {
  if (status.ok()) return;
  const grpc::Status wire = sluice::rpc::EncodeStatus(status);
  Check(wire.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  Check(wire.error_message().size() <= 1100);
}

void CheckGenerate(const grpc::ByteBuffer& bytes) {
  v1::GenerateRequest message;
  const absl::Status parsed = sluice::rpc::ParseMessage(bytes, message);
  CheckRefusal(parsed);
  if (!parsed.ok()) return;
  const auto request = sluice::rpc::DecodeGenerate(std::move(message));
  CheckRefusal(request.status());
  if (!request.ok()) return;
  if (const auto* text = std::get_if<sluice::Text>(&request->prompt))
    Check(sluice::IsValidUtf8(text->Reveal()));
}

void CheckInfer(const grpc::ByteBuffer& bytes) {
  inference::ModelInferRequest message;
  const absl::Status parsed = sluice::rpc::ParseMessage(bytes, message);
  CheckRefusal(parsed);
  if (!parsed.ok() || !message.model_version().empty()) return;  // other versions are not found
  const auto embed = sluice::rpc::DecodeInfer(message, sluice::ModelTask::kEmbed);
  CheckRefusal(embed.status());
  const auto request = sluice::rpc::DecodeInfer(std::move(message), sluice::ModelTask::kGenerate);
  CheckRefusal(request.status());
  if (!request.ok()) return;
  const auto& generate = std::get<sluice::GenerateRequest>(request->work);
  Check(sluice::IsValidUtf8(std::get<sluice::Text>(generate.prompt).Reveal()));
  for (const sluice::Text& stop : generate.sampling.stop) Check(sluice::IsValidUtf8(stop.Reveal()));
}

void CheckTokenize(const grpc::ByteBuffer& bytes) {
  v1::TokenizeRequest message;
  const absl::Status parsed = sluice::rpc::ParseMessage(bytes, message);
  CheckRefusal(parsed);
  if (parsed.ok()) CheckRefusal(sluice::rpc::DecodeTokenize(std::move(message)).status());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const grpc::Slice slice(data, size);
  const grpc::ByteBuffer bytes(&slice, 1);
  CheckGenerate(bytes);
  CheckTokenize(bytes);
  CheckInfer(bytes);
  return 0;
}
