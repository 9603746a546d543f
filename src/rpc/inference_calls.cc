#include "rpc/inference_calls.h"

#include <memory>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "rpc/codec.h"
#include "rpc/embed_call.h"
#include "rpc/function_call.h"
#include "rpc/generate_call.h"

namespace sluice::rpc {
namespace {

using Answer = FunctionCall::Answer;

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

}  // namespace

std::shared_ptr<Call> NewInferenceCall(std::string_view method,
                                       const std::shared_ptr<Environment>& env,
                                       CallContext* context) {
  const auto function = [&](std::string_view name, auto answer) {
    return std::make_shared<FunctionCall>(
        env, name,
        [answer, service = env->service](const grpc::ByteBuffer& request) {
          return answer(*service, request);
        },
        context);
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
