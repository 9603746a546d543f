// The generating routes: chat and text completions.
#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "base/errors.h"
#include "base/status_macros.h"
#include "http/openai_request.h"
#include "http/session.h"

namespace sluice {
namespace {

constexpr int64_t kMaxTimeoutMs = 86'400'000;

}  // namespace

absl::StatusOr<absl::Time> Session::Deadline() const {
  const std::string_view header = parser_->Header("x-request-timeout-ms");
  if (header.empty()) {
    const double seconds = context_.config.default_deadline_s;
    return seconds > 0 ? exchange_.begin + absl::Seconds(seconds) : absl::InfiniteFuture();
  }
  int64_t ms = 0;
  const auto [end, error] = std::from_chars(header.data(), header.data() + header.size(), ms);
  if (error != std::errc() || end != header.data() + header.size() || ms < 1 ||
      ms > kMaxTimeoutMs) {
    return FieldError(
        "x-request-timeout-ms",
        fmt::format("x-request-timeout-ms must be a whole number between 1 and {}", kMaxTimeoutMs));
  }
  return exchange_.begin + absl::Milliseconds(ms);
}

asio::awaitable<absl::Status> Session::Parse(std::function<absl::Status()> parse) {
  if (parser_->body().size() <= kInlineJsonBytes) co_return parse();
  absl::Status parsed;
  const auto work = [&parsed, &parse] { parsed = parse(); };
  const absl::Status ran = co_await Elsewhere(&Service::RunPrepared, work);
  co_return ran.ok() ? parsed : ran;
}

absl::Status Session::FillRequest(GenerateRequest& generate) {
  RETURN_IF_ERROR(FillOrigin(generate));
  const std::string_view key = parser_->Header("idempotency-key");
  if (!key.empty() && !IsValidId(key)) {
    return FieldError("idempotency-key",
                      fmt::format("idempotency-key must be 1 to {} visible ASCII characters",
                                  kMaxRequestIdBytes));
  }
  generate.idempotency_key = key;
  return absl::OkStatus();
}

Generation::Options Session::MakeOptions(const OpenAiRequest& request) const {
  Generation::Options options;
  AnswerFacts& facts = options.facts;
  facts.endpoint = request.endpoint;
  facts.id = (request.endpoint == Endpoint::kChat ? "chatcmpl-" : "cmpl-") + shard_.RandomHex(16);
  facts.created = absl::ToUnixSeconds(exchange_.begin);
  facts.num_choices = request.generate.sampling.n;
  facts.logprobs = request.generate.sampling.num_logprobs.has_value();
  facts.token_ids = request.return_token_ids;
  facts.include_usage = request.include_usage;
  facts.continuous_usage = request.continuous_usage;
  options.stream = request.stream;
  options.chunked = !exchange_.http_1_0;
  if (!request.stream) return options;
  AppendStatusLine(200, options.stream_head);
  AppendCommonHeaders(options.stream_head);
  AppendHeader("Content-Type", "text/event-stream; charset=utf-8", options.stream_head);
  AppendHeader("Cache-Control", "no-cache", options.stream_head);
  AppendHeader("X-Accel-Buffering", "no",
               options.stream_head);  // else some proxies collect the stream
  if (options.chunked) AppendHeader("Transfer-Encoding", "chunked", options.stream_head);
  return options;
}

asio::awaitable<void> Session::Generate(Endpoint endpoint) {
  absl::StatusOr<OpenAiRequest> request = Stopping();
  const auto parse = [&] {
    request = ParseGenerate(endpoint, parser_->body(), context_.config.max_json_depth);
    return request.status();
  };
  absl::Status status = co_await Parse(parse);
  if (status.ok()) status = FillRequest(request->generate);
  if (!status.ok()) {
    co_await SendError(status, absl::ZeroDuration());
    co_return;
  }
  exchange_.stream = request->stream;
  if (request->stream && exchange_.http_1_0)
    exchange_.keep_alive = false;  // its end is the connection's
  wire_.PumpInput();               // keeps a read pending, so that a disconnect is seen
  if (wire_.closed()) {
    exchange_.status = 499;
    co_return;
  }
  generation_ =
      std::make_unique<Generation>(MakeOptions(*request), context_.service, &wire_, context_.clock);
  tag_ = shard_.Register(generation_.get());
  generation_->Started(context_.service->Generate(std::move(request->generate), &shard_, tag_));
  if (stopping_) generation_->CancelBecause(Stopping());
  // A stream's bytes go out from Generation::Flush meanwhile.
  while (!generation_->ended()) co_await wire_.Wait();
  while (generation_->head_sent() && !wire_.closed() &&
         (!generation_->written() || wire_.blocked())) {
    co_await wire_.Wait();
  }
  const End& end = generation_->end();
  exchange_.usage = end.usage;
  exchange_.finish = FinishReasonName(end.reason);
  const absl::Time first_token = generation_->first_token_time();
  if (first_token != absl::InfiniteFuture()) exchange_.ttft = first_token - exchange_.begin;
  if (wire_.closed()) {
    exchange_.status = 499;
  } else if (!end.status.ok()) {
    status = RenameParam(end.status, *request);
    const absl::Duration retry_after = end.retry_after;
    exchange_.error_code = ErrorCode(status);
    exchange_.status = 200;  // of a stream, whose error stands in it
    if (!generation_->head_sent()) co_await SendError(status, retry_after);
  } else if (request->stream) {
    exchange_.status = 200;
  } else {
    Response response;
    response.body = generation_->WholeJson();
    response.headers.emplace_back("X-Sluice-Seed", fmt::to_string(generation_->accepted()->seed));
    co_await Send(response);
  }
  DropGeneration();
}

void Session::DropGeneration() {
  if (generation_ == nullptr) return;
  shard_.Unregister(tag_);
  generation_.reset();
}

}  // namespace sluice
