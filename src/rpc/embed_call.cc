#include "rpc/embed_call.h"

#include "base/status_macros.h"
#include "rpc/codec.h"

namespace sluice::rpc {

absl::StatusOr<GenerateCall::Work> UnaryEmbed::Prepare(const grpc::ByteBuffer& bytes) {
  v1::EmbedRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  const MutexLock lock(mutex_);
  if (finished_) return absl::CancelledError("the client has gone");
  RETURN_IF_ERROR(record_.TakeIds(std::move(*message.mutable_request_id()), ""));
  ASSIGN_OR_RETURN(EmbedRequest request, DecodeEmbed(std::move(message)));
  request.request_id = record_.request_id();
  request.tenant = record_.caller().tenant;
  request.deadline = record_.Deadline();
  return Work(std::move(request));
}

void UnaryEmbed::Take(Accepted accepted) {
  answer_.set_request_id(record_.request_id());
  answer_.set_model(std::move(accepted.model));
  answer_.set_system_fingerprint(std::move(accepted.system_fingerprint));
}

void UnaryEmbed::Take(VectorEvent vector) {
  while (answer_.vectors_size() <= vector.index) answer_.add_vectors();
  answer_.mutable_vectors(vector.index)
      ->mutable_values()
      ->Assign(vector.values.begin(), vector.values.end());
}

void UnaryEmbed::WritePending() {
  if (!end_) return;
  if (!end_->status.ok()) return FinishLocked(end_->status, end_->retry_after);
  *answer_.mutable_usage() = EncodeUsage(end_->usage);
  FinishWith(answer_);
}

}  // namespace sluice::rpc
