#include "rpc/inference_service.h"

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "rpc/codec.h"
#include "rpc/embed_call.h"
#include "rpc/generate_call.h"

namespace sluice::rpc {
namespace {

// Longer input goes through the prepare pool.
constexpr size_t kMaxInlineBytes = 4096;

// From request bytes to response bytes.
using Method = absl::StatusOr<grpc::ByteBuffer> (*)(const Service& service,
                                                    const grpc::ByteBuffer& request);

absl::StatusOr<grpc::ByteBuffer> TokenizeBytes(const Service& service,
                                               const grpc::ByteBuffer& bytes) {
  v1::TokenizeRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  ASSIGN_OR_RETURN(const TokenizeRequest request, DecodeTokenize(std::move(message)));
  ASSIGN_OR_RETURN(TokenizeResult result, service.Tokenize(request));
  return SerializeMessage(EncodeTokenize(std::move(result)));
}

absl::StatusOr<grpc::ByteBuffer> DetokenizeBytes(const Service& service,
                                                 const grpc::ByteBuffer& bytes) {
  v1::DetokenizeRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  const std::vector<TokenId> tokens(message.tokens().begin(), message.tokens().end());
  ASSIGN_OR_RETURN(Text text, service.Detokenize(message.model(), tokens));
  return SerializeMessage(EncodeDetokenize(std::move(text)));
}

absl::StatusOr<grpc::ByteBuffer> ListModelsBytes(const Service& service,
                                                 const grpc::ByteBuffer& bytes) {
  v1::ListModelsRequest message;
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  return SerializeMessage(EncodeModels(service.ListModels()));
}

// A call that is answered by one function, here or on the prepare pool.
class FunctionCall final : public grpc::ServerUnaryReactor,
                           public std::enable_shared_from_this<FunctionCall> {
 public:
  FunctionCall(std::shared_ptr<Environment> env, std::string_view name, Method method,
               grpc::CallbackServerContext* context, grpc::ByteBuffer* response)
      : env_(std::move(env)),
        method_(method),
        record_(env_.get(), name, context),
        response_(response) {}

  void Start(const grpc::ByteBuffer& request) {
    self_ = shared_from_this();
    if (const absl::Status admitted = record_.Admit(); !admitted.ok())
      return Finish(record_.Close(admitted));
    if (request.Length() <= kMaxInlineBytes) return Answer(request);
    const absl::Status queued =
        env_->service->RunPrepared([call = self_, bytes = request] { call->Answer(bytes); });
    if (!queued.ok()) Finish(record_.Close(queued, absl::Seconds(1)));
  }

  void OnCancel() override { cancelled_.store(true); }
  void OnDone() override { self_.reset(); }

 private:
  void Answer(const grpc::ByteBuffer& request) {
    if (cancelled_.load())
      return Finish(record_.Close(absl::CancelledError("the client has gone")));
    absl::StatusOr<grpc::ByteBuffer> answer = method_(*env_->service, request);
    const absl::Status status = answer.status();
    if (status.ok()) *response_ = *std::move(answer);
    Finish(record_.Close(status));
  }

  const std::shared_ptr<Environment> env_;  // before record_, which uses it to the last
  const Method method_;
  CallRecord record_;
  grpc::ByteBuffer* const response_;
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<FunctionCall>
      self_;  // gRPC's share, until OnDone; the other owner is work on the prepare pool
};

grpc::ServerUnaryReactor* StartFunction(const std::shared_ptr<Environment>& env,
                                        std::string_view name, Method method,
                                        grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) {
  const auto call = std::make_shared<FunctionCall>(env, name, method, context, response);
  call->Start(*request);
  return call.get();
}

}  // namespace

// The returned pointers stay good without the local owner: a reactor owns itself until OnDone,
// which gRPC calls only after the handler has returned.
grpc::ServerUnaryReactor* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  const auto call = std::make_shared<UnaryGenerate>(env_, context, response);
  call->Start(*request);
  return call.get();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::GenerateStream(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  const auto call = std::make_shared<StreamGenerate>(env_, context);
  call->Start(*request);
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::Embed(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  const auto call = std::make_shared<UnaryEmbed>(env_, context, response);
  call->Start(*request);
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return StartFunction(env_, "Tokenize", &TokenizeBytes, context, request, response);
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return StartFunction(env_, "Detokenize", &DetokenizeBytes, context, request, response);
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  return StartFunction(env_, "ListModels", &ListModelsBytes, context, request, response);
}

}  // namespace sluice::rpc
