// The life of one HTTP connection: requests in, one after the other, answers out in the same order.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/api_keys.h"
#include "http/embed_request.h"
#include "http/generation.h"
#include "http/request_parser.h"
#include "http/response.h"
#include "http/route_table.h"
#include "http/shard.h"
#include "net/asio.h"
#include "net/wire.h"

namespace sluice {

// I/O thread only.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(ServerContext* context, Shard* shard, Transport transport, bool admin);
  ~Session();

  // Runs until the connection ends; the coroutine keeps the session alive.
  static void Spawn(std::shared_ptr<Session> session);

  void Sweep(SteadyTime now) { wire_.Sweep(now); }
  // The server is going down: no further request, a running generation is cancelled. `hard`: the
  // socket closes now.
  void Stop(bool hard);

 private:
  // One request and its answer, for the log line.
  struct Exchange {
    absl::Time begin;
    RouteMatch match;
    std::string request_id;
    std::string allowed_origin;  // for CORS; empty: none
    Identity identity;
    bool http_1_0 = false;
    bool head = false;  // the body is left out
    bool keep_alive = false;
    bool stream = false;
    int status = 0;
    std::string error_code;
    std::optional<Usage> usage;
    std::string_view finish;
    absl::Duration ttft;  // 0: no token came
  };

  // session.cc: the connection and the frame of a request
  asio::awaitable<void> Run();
  asio::awaitable<void> Serve();
  asio::awaitable<absl::Status> ReadHeader();
  asio::awaitable<absl::Status> ReadBody();
  asio::awaitable<absl::Status> ReadUntil(bool whole);
  void BeginExchange();
  absl::Status CheckHeader();
  asio::awaitable<void> Answer();
  // `response` must outlive the call: a named local.
  asio::awaitable<void> Send(const Response& response);
  asio::awaitable<void> SendError(const absl::Status& status, absl::Duration retry_after);
  void AppendCommonHeaders(std::string& head) const;
  void LogExchange();

  static absl::Status Stopping();  // the reason given to what a shutdown cancels

  // session_routes.cc: what the routes do
  asio::awaitable<Response> Handle();
  asio::awaitable<Response> Tokenize();
  asio::awaitable<Response> Detokenize();
  asio::awaitable<Response> LoadModel();
  asio::awaitable<Response> UnloadModel();
  // On a pool of the Service, which this thread does not wait for.
  using Submit = absl::Status (Service::*)(std::function<void()>);
  asio::awaitable<absl::Status> Elsewhere(Submit submit, std::function<void()> work);
  // Calls `parse`, for a large body on the prepare pool. Errors: also what that pool says.
  asio::awaitable<absl::Status> Parse(std::function<absl::Status()> parse);
  static constexpr size_t kInlineJsonBytes = 64 << 10;
  [[nodiscard]] absl::StatusOr<absl::Time> Deadline() const;
  // Fills in what does not stand in a body.
  template <class Request>
  absl::Status FillOrigin(Request& request);

  // session_generate.cc
  asio::awaitable<void> Generate(Endpoint endpoint);
  absl::Status FillRequest(GenerateRequest& generate);
  [[nodiscard]] Generation::Options MakeOptions(const OpenAiRequest& request) const;

  // session_embed.cc
  asio::awaitable<void> Embed(EmbedEndpoint endpoint);
  // Lets go of the generation, once it has ended.
  void DropGeneration();

  friend struct PreparedWork;

  ServerContext& context_;
  Shard& shard_;
  const PortRules port_;
  Wire wire_;
  bool stopping_ = false;
  bool first_request_ = true;
  bool work_done_ = false;  // of OnPreparePool
  std::optional<RequestParser> parser_;
  Exchange exchange_;
  std::unique_ptr<Generation> generation_;
  StreamTag tag_ = 0;
};

template <class Request>
absl::Status Session::FillOrigin(Request& request) {
  const absl::StatusOr<absl::Time> deadline = Deadline();
  if (!deadline.ok()) return deadline.status();
  request.deadline = *deadline;
  request.tenant = exchange_.identity.tenant;
  // The header wins: it is what proxies and logs know.
  const bool named_in_header = IsValidId(parser_->Header("x-request-id"));
  if (!named_in_header && !request.request_id.empty()) exchange_.request_id = request.request_id;
  request.request_id = exchange_.request_id;
  return absl::OkStatus();
}

}  // namespace sluice
