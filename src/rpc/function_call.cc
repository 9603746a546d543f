#include "rpc/function_call.h"

namespace sluice::rpc {
namespace {

// Longer input goes through the prepare pool.
constexpr size_t kMaxInlineBytes = 4096;

}  // namespace

void FunctionCall::Start(const grpc::ByteBuffer& request) {
  if (door_ == Door::kKeyed) {
    const MutexLock lock(mutex_);
    if (const absl::Status admitted = record_.Admit(); !admitted.ok()) return Finish(admitted);
  }
  if (request.Length() <= kMaxInlineBytes) return Run(request);
  if (door_ == Door::kOpen) {  // the pool is for those with a key
    const MutexLock lock(mutex_);
    return Finish(absl::InvalidArgumentError("a probe has no content"));
  }
  const absl::Status queued = env_->service->RunPrepared(
      [call = shared_from_this(), bytes = request] { call->Run(bytes); });
  if (queued.ok()) return;
  const MutexLock lock(mutex_);
  Finish(queued, absl::Seconds(1));
}

void FunctionCall::OnCancel() {
  const MutexLock lock(mutex_);
  Finish(absl::CancelledError("the client has gone"));
}

void FunctionCall::Run(const grpc::ByteBuffer& request) {
  {
    const MutexLock lock(mutex_);
    if (finished_) return;  // gone while it waited for the pool
  }
  const absl::StatusOr<Answer> answer = answer_(request);
  const MutexLock lock(mutex_);
  if (finished_) return;
  const absl::Status status = answer.ok() ? context_->Encode(**answer) : answer.status();
  if (!status.ok()) return Finish(status);
  finished_ = true;
  context_->FinishWithMessage(record_.Close(absl::OkStatus()));
}

void FunctionCall::Finish(const absl::Status& status, absl::Duration retry_after) {
  if (std::exchange(finished_, true)) return;
  context_->Finish(record_.Close(status, retry_after));
}

}  // namespace sluice::rpc
