// The routes that answer with vectors and scores.
#include <utility>

#include "base/errors.h"
#include "http/embed_request.h"
#include "http/session.h"

namespace sluice {

asio::awaitable<void> Session::Embed(EmbedEndpoint endpoint) {
  absl::StatusOr<HttpEmbed> request = Stopping();
  const auto parse = [&] {
    request = ParseEmbed(endpoint, parser_->body(), context_.config.max_json_depth);
    return request.status();
  };
  absl::Status status = co_await Parse(parse);
  if (status.ok()) status = FillOrigin(request->embed);
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
