#include "rpc/infer_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "base/status_macros.h"
#include "rpc/codec.h"
#include "rpc/kserve_codec.h"

namespace sluice::rpc {
namespace {

constexpr size_t kMaxIdBytes = 128;  // it goes back with every message

}  // namespace

std::optional<ModelDescription> FindModel(const Service& service, std::string_view name) {
  const std::vector<ModelDescription> models = service.ListModels();
  const auto found = std::ranges::find_if(
      models, [&](const ModelDescription& model) { return model.Answers(name); });
  return found == models.end() ? std::nullopt : std::optional(*found);
}

absl::StatusOr<GenerateCall::Work> InferCall::Prepare(const grpc::ByteBuffer& bytes) {
  inference::ModelInferRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  {
    const MutexLock lock(mutex_);
    if (finished_) return absl::CancelledError("the client has gone");
    RETURN_IF_ERROR(TakeId(message.id()));
  }
  // Of a model that is not there, the Service says so.
  const ModelTask task =
      FindModel(*env_->service, message.model_name()).value_or(ModelDescription()).task;
  ASSIGN_OR_RETURN(InferRequest request, DecodeInfer(std::move(message), task));
  const MutexLock lock(mutex_);
  if (finished_) return absl::CancelledError("the client has gone");
  if (request.stream && in_stream_ == nullptr)
    return FieldError("stream", "stream is of ModelStreamInfer; ModelInfer has one answer");
  raw_ = request.raw;
  stream_ = request.stream;
  empty_final_ = request.empty_final;
  std::visit(
      [&](auto& work) {
        work.request_id = record_.request_id();
        work.tenant = record_.caller().tenant;
        work.deadline = std::min(record_.Deadline(), env_->clock->Now() + request.timeout);
      },
      request.work);
  return std::move(request.work);
}

absl::Status InferCall::TakeId(const std::string& id) {
  if (id.size() > kMaxIdBytes) {
    return FieldError("id",
                      fmt::format("id has {} bytes; the limit is {}", id.size(), kMaxIdBytes));
  }
  id_ = id;
  if (in_stream_ != nullptr) in_stream_->SetId(id);
  // One that cannot be a request id, for its blanks say, still goes back to the client.
  static_cast<void>(record_.TakeIds(id, ""));
  return absl::OkStatus();
}

void InferCall::Take(Accepted accepted) { model_ = std::move(accepted.model); }

void InferCall::Take(TokenEvent tokens) {
  pending_.Append(tokens.content);
  if (tokens.finish) finish_ = tokens.finish;
}

void InferCall::Take(VectorEvent vector) {
  const auto index = static_cast<size_t>(vector.index);
  if (vectors_.size() <= index) vectors_.resize(index + 1);
  vectors_[index] = std::move(vector.values);
}

inference::ModelStreamInferResponse InferCall::Message(bool last, bool has_tensor) {
  inference::ModelStreamInferResponse message;
  inference::ModelInferResponse& response = *message.mutable_infer_response();
  response.set_model_name(model_);
  response.set_model_version(kModelVersion);
  response.set_id(id_);
  if (!vectors_.empty()) {
    AddVectorOutput(vectors_, raw_, response);
  } else if (has_tensor) {
    AddTextOutput(std::exchange(pending_, {}), raw_, response);
  }
  if (in_stream_ != nullptr)
    (*response.mutable_parameters())["triton_final_response"].set_bool_param(last);
  if (!last) return message;
  AddUsage(end_->usage, response);
  if (finish_) {
    (*response.mutable_parameters())["finish_reason"].set_string_param(
        std::string(FinishReasonName(*finish_)));
  }
  return message;
}

void InferCall::WritePending() {
  const bool failed = end_ && !end_->status.ok();
  if (stream_ && !pending_.empty() && (!end_ || failed || empty_final_)) {
    if (!BeginWrite(Message(false, true))) return;
    writing_ = true;
    return context_->StartWrite();
  }
  if (!end_) return;
  if (failed) return FinishLocked(end_->status, end_->retry_after);
  const inference::ModelStreamInferResponse last = Message(true, !stream_ || !empty_final_);
  if (in_stream_ != nullptr) return FinishWith(last);
  FinishWith(last.infer_response());
}

}  // namespace sluice::rpc
