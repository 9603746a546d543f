#include "rpc/kserve_calls.h"

#include <optional>

#include "base/errors.h"
#include "base/status_macros.h"
#include "rpc/codec.h"
#include "rpc/function_call.h"
#include "rpc/infer_call.h"
#include "rpc/kserve_codec.h"

namespace sluice::rpc {
namespace {

std::optional<ModelDescription> FindVersion(const Service& service, const std::string& name,
                                            const std::string& version) {
  if (!version.empty() && version != kModelVersion) return std::nullopt;
  return FindModel(service, name);
}

absl::StatusOr<inference::ServerLiveResponse> Answer(const inference::ServerLiveRequest&,
                                                     const Service& service, HealthCalls*) {
  inference::ServerLiveResponse response;
  response.set_live(service.GetHealth().live);
  return response;
}

absl::StatusOr<inference::ServerReadyResponse> Answer(const inference::ServerReadyRequest&,
                                                      const Service&, HealthCalls* health) {
  inference::ServerReadyResponse response;
  response.set_ready(health->Serving());
  return response;
}

absl::StatusOr<inference::ModelReadyResponse> Answer(const inference::ModelReadyRequest& request,
                                                     const Service& service, HealthCalls* health) {
  inference::ModelReadyResponse response;
  response.set_ready(health->Serving() && FindVersion(service, request.name(), request.version()));
  return response;
}

absl::StatusOr<inference::ServerMetadataResponse> Answer(const inference::ServerMetadataRequest&,
                                                         const Service& service, HealthCalls*) {
  inference::ServerMetadataResponse response;
  response.set_name("sluice");
  response.set_version(service.GetVersion().version);
  return response;
}

absl::StatusOr<inference::ModelMetadataResponse> Answer(
    const inference::ModelMetadataRequest& request, const Service& service, HealthCalls*) {
  const auto model = FindVersion(service, request.name(), request.version());
  if (!model) {
    return WithErrorCode(
        WithParam(absl::NotFoundError("there is no model of this name and version"), "name"),
        "model_not_found");
  }
  return EncodeMetadata(*model);
}

template <typename Request>
FunctionCall::Function Function(const std::shared_ptr<Environment>& env, HealthCalls* health) {
  return [service = env->service,
          health](const grpc::ByteBuffer& bytes) -> absl::StatusOr<FunctionCall::Answer> {
    Request request;
    RETURN_IF_ERROR(ParseMessage(bytes, request));
    ASSIGN_OR_RETURN(auto response, Answer(request, *service, health));
    return std::make_unique<decltype(response)>(std::move(response));
  };
}

}  // namespace

std::shared_ptr<Call> KserveCalls::NewCall(std::string_view method, CallContext* context) {
  using Door = FunctionCall::Door;
  if (method == "ModelStreamInfer") return std::make_shared<InferStream>(env_, &streams_, context);
  if (method == "ModelInfer") return std::make_shared<InferCall>(env_, context);
  // The names of these live as long as the calls, unlike what came off the wire.
  const auto function = [&]<typename Request>(const Request&, std::string_view name, Door door) {
    return std::make_shared<FunctionCall>(env_, name, Function<Request>(env_, health_), context,
                                          door);
  };
  if (method == "ServerLive")
    return function(inference::ServerLiveRequest(), "ServerLive", Door::kOpen);
  if (method == "ServerReady")
    return function(inference::ServerReadyRequest(), "ServerReady", Door::kOpen);
  if (method == "ModelReady")
    return function(inference::ModelReadyRequest(), "ModelReady", Door::kKeyed);
  if (method == "ServerMetadata")
    return function(inference::ServerMetadataRequest(), "ServerMetadata", Door::kKeyed);
  if (method == "ModelMetadata")
    return function(inference::ModelMetadataRequest(), "ModelMetadata", Door::kKeyed);
  return nullptr;
}

}  // namespace sluice::rpc
