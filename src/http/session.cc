#include "http/session.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/errors.h"
#include "base/logging.h"

namespace sluice {
namespace {

// How far beyond a header to read ahead: pipelined requests, or a part of a body.
constexpr size_t kReadAheadBytes = 64 << 10;

SteadyDuration Seconds(double seconds) {
  return std::chrono::duration_cast<SteadyDuration>(std::chrono::duration<double>(seconds));
}

absl::string_view Absl(std::string_view s) { return {s.data(), s.size()}; }

bool IsJson(std::string_view content_type) {
  const std::string_view media = content_type.substr(0, content_type.find(';'));
  const size_t end = media.find_last_not_of(" \t");
  if (!absl::EqualsIgnoreCase(Absl(media.substr(0, end + 1)), "application/json")) return false;
  const std::string parameters = absl::AsciiStrToLower(Absl(content_type));
  return !absl::StrContains(parameters, "charset=") || absl::StrContains(parameters, "utf-8");
}

}  // namespace

Session::Session(ServerContext* context, Shard* shard, Transport transport, bool admin)
    : context_(*context),
      shard_(*shard),
      port_{admin, context->config.admin_only_metrics},
      wire_(std::move(transport),
            static_cast<size_t>(context->config.max_header_bytes) + kReadAheadBytes,
            Seconds(context->config.write_timeout_s)) {}

Session::~Session() { shard_.Remove(this); }

void Session::Spawn(std::shared_ptr<Session> session) {
  Session* const self = session.get();
  const auto on_closed = [self] {
    if (self->generation_ != nullptr) self->generation_->Cancel();
  };
  const auto on_drained = [self] {
    if (self->generation_ != nullptr) self->generation_->Flush(nullptr);
  };
  self->wire_.Attach(session, on_closed, on_drained);
  const auto run = [session = std::move(session)]() -> asio::awaitable<void> {
    co_await session->Run();
  };
  asio::co_spawn(self->shard_.io(), run, asio::detached);
}

absl::Status Session::Stopping() { return absl::UnavailableError("the server is going down"); }

void Session::Stop(bool hard) {
  stopping_ = true;
  if (generation_ != nullptr) generation_->CancelBecause(Stopping());
  if (hard) wire_.Break();
  wire_.Wake();
}

asio::awaitable<void> Session::Run() {
  try {
    co_await Serve();
  } catch (const std::exception& e) {  // out of memory, or a broken promise of a library
    Log(LogLevel::kError, "http_connection_failed", {{"error", e.what()}});
  }
  wire_.Break();
  while (generation_ != nullptr && !generation_->ended()) co_await wire_.Wait();
  DropGeneration();
}

asio::awaitable<void> Session::Serve() {
  wire_.SetReadDeadline(std::chrono::steady_clock::now() + Seconds(context_.config.read_timeout_s));
  const bool connected = co_await wire_.Handshake();
  if (!connected) co_return;
  bool unread = false;
  do {
    parser_.emplace(
        RequestLimits{context_.config.max_header_bytes, context_.config.max_body_bytes});
    exchange_ = Exchange();
    absl::Status status = co_await ReadHeader();
    if (absl::IsCancelled(status)) break;  // nobody to answer
    BeginExchange();
    if (status.ok()) status = CheckHeader();
    if (status.ok()) status = co_await ReadBody();
    if (absl::IsCancelled(status)) break;
    wire_.ClearReadDeadline();
    unread = !parser_->done();
    if (unread) exchange_.keep_alive = false;
    if (status.ok()) {
      co_await Answer();
    } else {
      co_await SendError(status, absl::ZeroDuration());
    }
    LogExchange();
    while (wire_.blocked()) co_await wire_.Wait();
    first_request_ = false;
  } while (exchange_.keep_alive && !stopping_ && !wire_.closed());
  if (!wire_.closed()) co_await wire_.Close(unread || !wire_.input().empty());
}

asio::awaitable<absl::Status> Session::ReadHeader() {
  const Config& config = context_.config;
  wire_.ReleaseMemory();
  wire_.SetReadDeadline(std::chrono::steady_clock::now() +
                        Seconds(first_request_ ? config.read_timeout_s : config.idle_timeout_s));
  while (wire_.input().empty()) {
    if (wire_.PumpInput() && !wire_.input().empty()) break;
    if (wire_.closed() || wire_.timed_out() || stopping_) co_return absl::CancelledError();
    co_await wire_.Wait();
  }
  wire_.SetReadDeadline(std::chrono::steady_clock::now() + Seconds(config.read_timeout_s));
  absl::Status status = co_await ReadUntil(false);
  co_return status;
}

asio::awaitable<absl::Status> Session::ReadBody() {
  if (parser_->done()) co_return absl::OkStatus();
  if (!exchange_.http_1_0 && !parser_->Header("expect").empty() && wire_.input().empty()) {
    wire_.Append("HTTP/1.1 100 Continue\r\n\r\n");
    wire_.Flush();
  }
  absl::Status status = co_await ReadUntil(true);
  co_return status;
}

asio::awaitable<absl::Status> Session::ReadUntil(bool whole) {
  std::string& input = wire_.input();
  for (;;) {
    const absl::StatusOr<size_t> taken = parser_->Parse(input);
    if (!taken.ok()) co_return taken.status();
    input.erase(0, *taken);
    if (whole ? parser_->done() : parser_->header_done()) co_return absl::OkStatus();
    if (*taken > 0 && !input.empty()) continue;
    if (wire_.PumpInput() && !wire_.closed()) continue;
    if (wire_.closed()) co_return absl::CancelledError();
    if (wire_.timed_out()) {
      co_return HttpError(408, "the request did not arrive in time");
    }
    co_await wire_.Wait();
  }
}

void Session::BeginExchange() {
  exchange_.begin = context_.clock->Now();
  exchange_.request_id = shard_.RandomHex(16);
  if (!parser_->header_done()) return;  // refused before its end
  exchange_.match = FindRoute(parser_->method(), parser_->target(), port_);
  if (const std::string_view id = parser_->Header("x-request-id"); IsValidId(id))
    exchange_.request_id = id;
  exchange_.http_1_0 = parser_->is_http_1_0();
  exchange_.head = parser_->method() == "HEAD";
  exchange_.keep_alive = parser_->keep_alive() && !context_.closing;
  const std::string_view origin = parser_->Header("origin");
  const std::vector<std::string>& origins = context_.config.cors_origin;
  const bool allowed = std::any_of(origins.begin(), origins.end(), [&](const std::string& entry) {
    return entry == "*" || entry == origin;
  });
  if (!origin.empty() && !port_.admin && allowed) exchange_.allowed_origin = origin;
}

// What can be refused before the body comes.
absl::Status Session::CheckHeader() {
  const std::string_view method = parser_->method();
  const RouteMatch& match = exchange_.match;
  if (method == "OPTIONS" && !exchange_.allowed_origin.empty()) return absl::OkStatus();
  // A page in a browser on this machine could otherwise reach the loopback port with a plain form.
  if (port_.admin && !parser_->Header("origin").empty()) {
    return absl::PermissionDeniedError("the admin port takes no requests of web pages");
  }
  if (match.route == nullptr || match.route->needs_key) {
    // Before anything is said about routes, so that they cannot be listed without a key.
    absl::StatusOr<Identity> identity =
        context_.keys->Authenticate(parser_->Header("authorization"));
    if (!identity.ok()) return identity.status();
    exchange_.identity = *std::move(identity);
  }
  if (!match.status.ok()) return match.status;
  const std::string_view expect = parser_->Header("expect");
  if (!expect.empty() && !absl::EqualsIgnoreCase(Absl(expect), "100-continue")) {
    return HttpError(417, "the only expectation supported is 100-continue");
  }
  if (match.route->method != "POST" || match.route->door == Door::kAdmin) return absl::OkStatus();
  if (!parser_->has_length())
    return HttpError(411, "the request needs a Content-Length or a chunked body");
  if (!IsJson(parser_->Header("content-type"))) {
    return HttpError(415, "the request's Content-Type must be application/json (in UTF-8)");
  }
  const std::string_view coding = parser_->Header("content-encoding");
  if (!coding.empty() && !absl::EqualsIgnoreCase(Absl(coding), "identity")) {
    return HttpError(415, "compressed requests are not supported");
  }
  return absl::OkStatus();
}

asio::awaitable<void> Session::Answer() {
  if (parser_->method() == "OPTIONS") {  // a preflight that CheckHeader let pass
    Response response;
    response.status = 204;
    response.headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
    response.headers.emplace_back(
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, X-Request-ID, X-Request-Timeout-Ms, Idempotency-Key");
    response.headers.emplace_back("Access-Control-Max-Age", "600");
    co_await Send(response);
    co_return;
  }
  const RouteId id = exchange_.match.route->id;
  if (id == RouteId::kChat) {
    co_await Generate(Endpoint::kChat);
  } else if (id == RouteId::kCompletion) {
    co_await Generate(Endpoint::kCompletion);
  } else if (id == RouteId::kEmbeddings) {
    co_await Embed(EmbedEndpoint::kEmbeddings);
  } else if (id == RouteId::kRerank) {
    co_await Embed(EmbedEndpoint::kRerank);
  } else if (id == RouteId::kScore) {
    co_await Embed(EmbedEndpoint::kScore);
  } else {
    const Response response = co_await Handle();
    co_await Send(response);
  }
}

void Session::AppendCommonHeaders(std::string& head) const {
  AppendHeader("Date", shard_.HttpDate(), head);
  AppendHeader("X-Request-ID", exchange_.request_id, head);
  if (!exchange_.allowed_origin.empty()) {
    AppendHeader("Access-Control-Allow-Origin", exchange_.allowed_origin, head);
    AppendHeader("Access-Control-Expose-Headers", "X-Request-ID, Retry-After", head);
  }
  if (!context_.config.cors_origin.empty()) AppendHeader("Vary", "Origin", head);
  if (!exchange_.keep_alive) {
    AppendHeader("Connection", "close", head);
  } else if (exchange_.http_1_0) {
    AppendHeader("Connection", "keep-alive", head);
  }
}

asio::awaitable<void> Session::SendError(const absl::Status& status, absl::Duration retry_after) {
  Response response = ErrorResponse(status, retry_after);
  if (response.status == 405) response.headers.emplace_back("Allow", exchange_.match.allow);
  exchange_.error_code = ErrorCode(status);
  if (exchange_.error_code.empty()) exchange_.error_code = absl::StatusCodeToString(status.code());
  if (!parser_->header_done()) exchange_.keep_alive = false;
  co_await Send(response);
}

asio::awaitable<void> Session::Send(const Response& response) {
  exchange_.status = response.status;
  std::string head;
  AppendStatusLine(response.status, head);
  AppendCommonHeaders(head);
  for (const auto& [name, value] : response.headers) AppendHeader(name, value, head);
  if (response.status != 204) {
    AppendHeader("Content-Type", response.content_type, head);
    AppendHeader("Content-Length", std::to_string(response.body.size()), head);
  }
  head += "\r\n";
  wire_.Append(head);
  if (!exchange_.head) wire_.Append(response.body);
  wire_.Flush();
  while (wire_.blocked()) co_await wire_.Wait();
}

void Session::LogExchange() {
  const absl::Duration time = context_.clock->Now() - exchange_.begin;
  const std::string_view route = RouteName(exchange_.match);
  context_.metrics->CountHttpRequest(route, exchange_.status, time);
  const bool probe =
      exchange_.match.route != nullptr && exchange_.match.route->door == Door::kOperations;
  const LogLevel level = exchange_.status >= 500 && !probe ? LogLevel::kWarn
                         : probe                           ? LogLevel::kDebug
                                                           : LogLevel::kInfo;
  if (!exchange_.usage) {
    Log(level, "http_request",
        {{"route", route},
         {"status", exchange_.status},
         {"request_id", exchange_.request_id},
         {"key", exchange_.identity.name},
         {"tenant", exchange_.identity.tenant},
         {"error", exchange_.error_code},
         {"time_s", time}});
    return;
  }
  Log(level, "http_request",
      {{"route", route},
       {"status", exchange_.status},
       {"request_id", exchange_.request_id},
       {"key", exchange_.identity.name},
       {"tenant", exchange_.identity.tenant},
       {"stream", exchange_.stream},
       {"prompt_tokens", exchange_.usage->prompt_tokens},
       {"cached_tokens", exchange_.usage->cached_tokens},
       {"output_tokens", exchange_.usage->output_tokens},
       {"finish", exchange_.finish},
       {"error", exchange_.error_code},
       {"ttft_s", exchange_.ttft},
       {"time_s", time}});
}

}  // namespace sluice
