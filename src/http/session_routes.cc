// The routes that answer at once, and those that run on the prepare pool.
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "base/errors.h"
#include "base/logging.h"
#include "http/admin_request.h"
#include "http/json_text.h"
#include "http/openapi.h"
#include "http/session.h"

namespace sluice {
namespace {

Response Json(std::string body) {
  Response response;
  response.body = std::move(body);
  return response;
}

// `good`: whether the probe that asks should be content.
Response HealthResponse(const Health& health, bool good) {
  Response response;
  response.status = good ? 200 : 503;
  response.body = fmt::format(R"({{"status":"{}","live":{},"ready":{},"reason":{}}})",
                              good ? "ok" : "unavailable", health.live, health.ready,
                              JsonString(health.reason));
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

Response VersionResponse(const VersionInfo& version) {
  return Json(
      fmt::format(R"({{"version":{},"backend":{},"backend_reason":{},"isa":{},"model_hash":{},)"
                  R"("system_fingerprint":{}}})",
                  JsonString(version.version), JsonString(version.backend),
                  JsonString(version.backend_reason), JsonString(version.isa),
                  JsonString(version.model_hash), JsonString(version.system_fingerprint)));
}

Response ModelResponse(const std::vector<ModelDescription>& models, std::string_view id) {
  for (const ModelDescription& model : models) {
    if (model.Answers(id)) return Json(ModelJson(model));
  }
  return ErrorResponse(WithErrorCode(
      WithParam(absl::NotFoundError(
                    "there is no model of this name; GET /v1/models lists those there are"),
                "model"),
      "model_not_found"));
}

constexpr std::string_view kIndex =
    R"({"name":"sluice","links":{"chat":"/v1/chat/completions","completions":"/v1/completions",)"
    R"("embeddings":"/v1/embeddings","rerank":"/v1/rerank","score":"/v1/score","models":"/v1/models","tokenize":"/tokenize","detokenize":"/detokenize","version":"/version",)"
    R"("health":"/health","metrics":"/metrics","openapi":"/openapi.json"}})";

}  // namespace

// Tells the session that its work on the prepare pool is over, whether it ran or was thrown away
// unrun. The pool may drop the function at any later time, so the session is let go as soon as it
// has been told.
struct PreparedWork {
  PreparedWork(std::shared_ptr<Session> owner, asio::io_context* context)
      : session(std::move(owner)), io(context) {}
  ~PreparedWork() { Tell(); }
  void Tell() {
    if (session == nullptr) return;
    asio::post(*io, [told = std::move(session)] {
      told->work_done_ = true;
      told->wire_.Wake();
    });
    session = nullptr;
  }
  std::shared_ptr<Session> session;
  asio::io_context* const io;
};

asio::awaitable<absl::Status> Session::Elsewhere(Submit submit, std::function<void()> work) {
  work_done_ = false;
  auto prepared = std::make_shared<PreparedWork>(shared_from_this(), &shard_.io());
  const auto run = [work = std::move(work), prepared] {
    work();
    prepared->Tell();
  };
  prepared.reset();
  absl::Status status = (context_.service->*submit)(run);
  if (!status.ok()) co_return status;
  while (!work_done_) co_await wire_.Wait();
  co_return status;
}

asio::awaitable<Response> Session::Tokenize() {
  Response response = ErrorResponse(Stopping());
  const std::string& body = parser_->body();
  const Config& config = context_.config;
  const Service& service = *context_.service;
  const auto work = [&] {
    const absl::StatusOr<OpenAiTokenize> request = ParseTokenize(body, config.max_json_depth);
    if (!request.ok()) {
      response = ErrorResponse(request.status());
      return;
    }
    const absl::StatusOr<TokenizeResult> result = service.Tokenize(request->request);
    response = result.ok() ? Json(TokenizeJson(*result, request->return_token_strs))
                           : ErrorResponse(result.status());
  };
  const absl::Status status = co_await Elsewhere(&Service::RunPrepared, work);
  if (!status.ok()) response = ErrorResponse(status);
  co_return response;
}

asio::awaitable<Response> Session::Detokenize() {
  Response response = ErrorResponse(Stopping());
  const std::string& body = parser_->body();
  const Config& config = context_.config;
  const Service& service = *context_.service;
  const auto work = [&] {
    const absl::StatusOr<OpenAiDetokenize> request = ParseDetokenize(body, config.max_json_depth);
    if (!request.ok()) {
      response = ErrorResponse(request.status());
      return;
    }
    const absl::StatusOr<Text> text = service.Detokenize(request->model, request->tokens);
    response = text.ok() ? Json(DetokenizeJson(*text)) : ErrorResponse(text.status());
  };
  const absl::Status status = co_await Elsewhere(&Service::RunPrepared, work);
  if (!status.ok()) response = ErrorResponse(status);
  co_return response;
}

asio::awaitable<Response> Session::LoadModel() {
  Response response = ErrorResponse(Stopping());
  const std::string& body = parser_->body();
  const Config& config = context_.config;
  Service& service = *context_.service;
  const auto work = [&] {
    const absl::StatusOr<LoadModelRequest> request = ParseLoadModel(body, config.max_json_depth);
    const absl::Status loaded = request.ok() ? service.LoadModel(*request) : request.status();
    response = loaded.ok() ? Json(fmt::format(R"({{"loaded":{}}})", JsonString(request->name)))
                           : ErrorResponse(loaded);
  };
  const absl::Status status = co_await Elsewhere(&Service::RunAdministration, work);
  if (!status.ok()) response = ErrorResponse(status);
  co_return response;
}

asio::awaitable<Response> Session::UnloadModel() {
  Response response = ErrorResponse(Stopping());
  const std::string& body = parser_->body();
  const Config& config = context_.config;
  Service& service = *context_.service;
  const auto work = [&] {
    const absl::StatusOr<std::string> name = ParseUnloadModel(body, config.max_json_depth);
    const absl::StatusOr<bool> drained = name.ok() ? service.UnloadModel(*name) : name.status();
    response =
        drained.ok()
            ? Json(fmt::format(R"({{"unloaded":{},"drained":{}}})", JsonString(*name), *drained))
            : ErrorResponse(drained.status());
  };
  const absl::Status status = co_await Elsewhere(&Service::RunAdministration, work);
  if (!status.ok()) response = ErrorResponse(status);
  co_return response;
}

asio::awaitable<Response> Session::Handle() {
  Service& service = *context_.service;
  Response response;
  switch (exchange_.match.route->id) {
    case RouteId::kTokenize:
      response = co_await Tokenize();
      break;
    case RouteId::kDetokenize:
      response = co_await Detokenize();
      break;
    case RouteId::kModels:
      response = Json(ModelListJson(service.ListModels()));
      break;
    case RouteId::kModel:
      response = ModelResponse(service.ListModels(), exchange_.match.tail);
      break;
    case RouteId::kVersion:
      response = VersionResponse(service.GetVersion());
      break;
    case RouteId::kLive: {
      const Health health = service.GetHealth();
      response = HealthResponse(health, health.live);
      break;
    }
    case RouteId::kHealth:
    case RouteId::kReady:
    case RouteId::kAdminHealth: {
      const Health health = service.GetHealth();
      response = HealthResponse(health, health.live && health.ready);
      break;
    }
    case RouteId::kMetrics:
      response.body = context_.metrics->Render();
      response.content_type = "text/plain; version=0.0.4; charset=utf-8";
      break;
    case RouteId::kOpenApi:
      response = Json(std::string(OpenApiDocument()));
      break;
    case RouteId::kIndex:
      response = Json(std::string(kIndex));
      break;
    case RouteId::kAdminDrain:
      Log(LogLevel::kInfo, "drain_requested", {{"request_id", exchange_.request_id}});
      service.Drain();
      response = Json(R"({"draining":true})");
      break;
    case RouteId::kAdminLoadModel:
      response = co_await LoadModel();
      break;
    case RouteId::kAdminUnloadModel:
      response = co_await UnloadModel();
      break;
    case RouteId::kChat:
    case RouteId::kCompletion:
    case RouteId::kEmbeddings:
    case RouteId::kRerank:
    case RouteId::kScore:
    case RouteId::kNotImplemented:
      break;  // answered before
  }
  co_return response;
}

}  // namespace sluice
