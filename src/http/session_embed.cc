// The routes that answer with vectors and scores.
#include <utility>

#include "base/errors.h"
#include "http/embed_request.h"
#include "http/session.h"

namespace sluice {

asio::awaitable<absl::StatusOr<HttpEmbed>> Session::ParseEmbedBody(EmbedEndpoint endpoint) {
  const std::string& body = parser_->body();
  const int max_depth = context_.config.max_json_depth;
  absl::StatusOr<HttpEmbed> request = Stopping();
  if (body.size() <= kInlineJsonBytes) {
    request = ParseEmbed(endpoint, body, max_depth);
  } else {
    const auto parse = [&request, &body, endpoint, max_depth] {
      request = ParseEmbed(endpoint, body, max_depth);
    };
    const absl::Status status = co_await Elsewhere(&Service::RunPrepared, parse);
    if (!status.ok()) request = status;
  }
  co_return request;
}

absl::Status Session::FillEmbed(EmbedRequest& embed) {
  const absl::StatusOr<absl::Time> deadline = Deadline();
  if (!deadline.ok()) return deadline.status();
  embed.deadline = *deadline;
  embed.tenant = exchange_.identity.tenant;
  // The header wins: it is what proxies and logs know.
  const bool named_in_header = IsValidId(parser_->Header("x-request-id"));
  if (!named_in_header && !embed.request_id.empty()) exchange_.request_id = embed.request_id;
  embed.request_id = exchange_.request_id;
  return absl::OkStatus();
}

asio::awaitable<void> Session::Embed(EmbedEndpoint endpoint) {
  absl::StatusOr<HttpEmbed> request = co_await ParseEmbedBody(endpoint);
  absl::Status status = request.status();
  if (status.ok()) status = FillEmbed(request->embed);
  if (!status.ok()) {
    co_await SendError(status, absl::ZeroDuration());
    co_return;
  }
  wire_.PumpInput();  // keeps a read pending, so that a disconnect is seen
  if (wire_.closed()) {
    exchange_.status = 499;
    co_return;
  }
  generation_ =
      std::make_unique<Generation>(Generation::Options(), context_.service, &wire_, context_.clock);
  tag_ = shard_.Register(generation_.get());
  // The documents that the answer repeats stay here.
  EmbedRequest embed = request->return_documents ? request->embed : std::move(request->embed);
  generation_->Started(context_.service->Embed(std::move(embed), &shard_, tag_));
  if (stopping_) generation_->CancelBecause(Stopping());
  while (!generation_->ended()) co_await wire_.Wait();
  const End& end = generation_->end();
  exchange_.usage = end.usage;
  exchange_.finish = FinishReasonName(end.reason);
  if (wire_.closed()) {
    exchange_.status = 499;
  } else if (!end.status.ok()) {
    status = RenameParam(end.status, *request);
    const absl::Duration retry_after = end.retry_after;
    exchange_.error_code = ErrorCode(status);
    co_await SendError(status, retry_after);
  } else {
    const char* prefix = endpoint == EmbedEndpoint::kRerank ? "rerank-" : "score-";
    const std::string id = prefix + shard_.RandomHex(16);
    Response response;
    response.body = EmbedJson(*request, {.model = generation_->accepted()->model,
                                         .id = id,
                                         .created = absl::ToUnixSeconds(exchange_.begin),
                                         .vectors = generation_->TakeVectors(),
                                         .usage = end.usage});
    co_await Send(response);
  }
  DropGeneration();
}

}  // namespace sluice
