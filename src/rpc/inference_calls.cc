#include "rpc/inference_calls.h"

#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/status_macros.h"
#include "rpc/codec.h"
#include "rpc/embed_call.h"
#include "rpc/generate_call.h"

namespace sluice::rpc {
namespace {

// Longer input goes through the prepare pool.
constexpr size_t kMaxInlineBytes = 4096;

using Answer = std::unique_ptr<google::protobuf::Message>;
using Method = absl::StatusOr<Answer> (*)(const Service& service, const grpc::ByteBuffer& request);

absl::StatusOr<Answer> TokenizeBytes(const Service& service, const grpc::ByteBuffer& bytes) {
  v1::TokenizeRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  ASSIGN_OR_RETURN(const TokenizeRequest request, DecodeTokenize(std::move(message)));
  ASSIGN_OR_RETURN(TokenizeResult result, service.Tokenize(request));
  return std::make_unique<v1::TokenizeResponse>(EncodeTokenize(std::move(result)));
}

absl::StatusOr<Answer> DetokenizeBytes(const Service& service, const grpc::ByteBuffer& bytes) {
  v1::DetokenizeRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  const std::vector<TokenId> tokens(message.tokens().begin(), message.tokens().end());
  ASSIGN_OR_RETURN(Text text, service.Detokenize(message.model(), tokens));
  return std::make_unique<v1::DetokenizeResponse>(EncodeDetokenize(std::move(text)));
}

absl::StatusOr<Answer> ListModelsBytes(const Service& service, const grpc::ByteBuffer& bytes) {
  v1::ListModelsRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  return std::make_unique<v1::ListModelsResponse>(EncodeModels(service.ListModels()));
}

// A call that is answered by one function, here or on the prepare pool.
class FunctionCall final : public Call, public std::enable_shared_from_this<FunctionCall> {
 public:
  FunctionCall(std::shared_ptr<Environment> env, std::string_view name, Method method,
               CallContext* context)
      : env_(std::move(env)),
        method_(method),
        context_(context),
        record_(env_.get(), name, context) {}

  void Start(const grpc::ByteBuffer& request) override {
    {
      const MutexLock lock(mutex_);
      if (const absl::Status admitted = record_.Admit(); !admitted.ok()) return Finish(admitted);
    }
    if (request.Length() <= kMaxInlineBytes) return Run(request);
    const absl::Status queued = env_->service->RunPrepared(
        [call = shared_from_this(), bytes = request] { call->Run(bytes); });
    if (queued.ok()) return;
    const MutexLock lock(mutex_);
    Finish(queued, absl::Seconds(1));
  }

  void OnCancel() override {
    const MutexLock lock(mutex_);
    Finish(absl::CancelledError("the client has gone"));
  }

  void OnDone() override { const MutexLock lock(mutex_); }

 private:
  void Run(const grpc::ByteBuffer& request) {
    {
      const MutexLock lock(mutex_);
      if (finished_) return;  // gone while it waited for the pool
    }
    const absl::StatusOr<Answer> answer = method_(*env_->service, request);
    const MutexLock lock(mutex_);
    if (finished_) return;
    const absl::Status status = answer.ok() ? context_->Encode(**answer) : answer.status();
    if (!status.ok()) return Finish(status);
    finished_ = true;
    context_->FinishWithMessage(record_.Close(absl::OkStatus()));
  }

  void Finish(const absl::Status& status, absl::Duration retry_after = absl::ZeroDuration())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (std::exchange(finished_, true)) return;
    context_->Finish(record_.Close(status, retry_after));
  }

  const std::shared_ptr<Environment> env_;  // before record_, which uses it to the last
  const Method method_;
  Mutex mutex_;
  CallContext* const context_ ABSL_PT_GUARDED_BY(mutex_);
  CallRecord record_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

std::shared_ptr<Call> NewInferenceCall(std::string_view method,
                                       const std::shared_ptr<Environment>& env,
                                       CallContext* context) {
  const auto function = [&](std::string_view name, Method answer) {
    return std::make_shared<FunctionCall>(env, name, answer, context);
  };
  if (method == "GenerateStream") return std::make_shared<StreamGenerate>(env, context);
  if (method == "Generate") return std::make_shared<UnaryGenerate>(env, context);
  if (method == "Embed") return std::make_shared<UnaryEmbed>(env, context);
  // The names of these live as long as the calls, unlike what came off the wire.
  if (method == "Tokenize") return function("Tokenize", &TokenizeBytes);
  if (method == "Detokenize") return function("Detokenize", &DetokenizeBytes);
  if (method == "ListModels") return function("ListModels", &ListModelsBytes);
  return nullptr;
}

}  // namespace sluice::rpc
