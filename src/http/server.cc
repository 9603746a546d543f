#include "http/server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "base/logging.h"
#include "base/status_macros.h"
#include "http/response.h"
#include "http/shard.h"
#include "net/listener.h"

namespace sluice {
namespace {

constexpr auto kGrace =
    std::chrono::seconds(1);  // to take what was written, once the server goes down
constexpr auto kEndsWithin =
    std::chrono::seconds(10);  // every cancelled call must have had its End

// For a connection that is one too many.
std::string RefusalOf(int64_t max_connections) {
  const Response response = ErrorResponse(absl::UnavailableError(
      fmt::format("the server has its {} connections already", max_connections)));
  std::string out;
  AppendStatusLine(response.status, out);
  for (const auto& [name, value] : response.headers) AppendHeader(name, value, out);
  AppendHeader("Content-Type", response.content_type, out);
  AppendHeader("Content-Length", fmt::to_string(response.body.size()), out);
  AppendHeader("Connection", "close", out);
  return out + "\r\n" + response.body;
}

}  // namespace

class HttpServer::Impl {
 public:
  absl::Status Start(const Config& config, Service* service, ApiKeys* keys, Metrics* metrics,
                     const Clock* clock, StageWatch* stages) {
    context_.config = config;
    context_.service = service;
    context_.keys = keys;
    context_.metrics = metrics;
    context_.clock = clock;
    ASSIGN_OR_RETURN(context_.tls, TlsContext::Load(config, "http/1.1"));
    for (int i = 0; i < std::max(1, config.io_threads); ++i)
      shards_.push_back(std::make_unique<Shard>(
          &context_, stages == nullptr ? std::make_shared<Stage>("") : stages->Add("HTTP I/O")));
    asio::io_context* const io = &shards_[0]->io();
    ASSIGN_OR_RETURN(
        public_, Listener::Open(io, config.host, config.http_port, [this](int fd) { Take(fd); }));
    if (config.admin_port >= 0) {
      const auto take = [this](int fd) { shards_[0]->Adopt(fd, true); };
      ASSIGN_OR_RETURN(admin_, Listener::Open(io, "127.0.0.1", config.admin_port, take));
    }
    public_->Start();
    if (admin_ != nullptr) admin_->Start();
    for (const auto& shard : shards_) shard->Start();
    started_ = true;
    return absl::OkStatus();
  }

  void StopAccepting() {
    context_.closing = true;
    OnFirstThread([this] { public_->Close(); });
  }

  void Shutdown() {
    if (!std::exchange(started_, false)) return;
    StopAccepting();
    OnFirstThread([this] {
      if (admin_ != nullptr) admin_->Close();
    });
    CloseSessions(false);
    if (!WaitForSessions(kGrace)) {
      CloseSessions(true);
      // A thread that still waits for an End cannot be stopped: the Service would publish to a
      // queue that is gone.
      while (!WaitForSessions(kEndsWithin)) {
        Log(LogLevel::kError, "http_shutdown_waits",
            {{"connections", context_.num_connections.load()}});
      }
    }
    for (const auto& shard : shards_) shard->Stop();
    for (const auto& shard : shards_) shard->Join();
  }

  ServerContext context_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<Listener> public_, admin_;

 private:
  // Connections are spread in turn and stay with their thread.
  void Take(int fd) {
    if (context_.num_connections >= context_.config.max_connections) {
      if (context_.tls == nullptr) {
        const std::string answer = RefusalOf(context_.config.max_connections);
        [[maybe_unused]] const ssize_t sent =
            ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      }
      ::close(fd);
      context_.metrics->CountRefused("connections");
      return;
    }
    shards_[next_shard_++ % shards_.size()]->Adopt(fd, false);
  }

  void OnFirstThread(const std::function<void()>& work) {
    std::promise<void> done;
    asio::post(shards_[0]->io(), [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  void CloseSessions(bool hard) {
    for (const auto& shard : shards_) shard->CloseSessions(hard);
  }

  bool WaitForSessions(std::chrono::steady_clock::duration time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (context_.num_connections > 0) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  size_t next_shard_ = 0;
  bool started_ = false;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Config& config,
                                                              Service* service, ApiKeys* keys,
                                                              Metrics* metrics, const Clock* clock,
                                                              StageWatch* stages) {
  auto impl = std::make_unique<Impl>();
  RETURN_IF_ERROR(impl->Start(config, service, keys, metrics, clock, stages));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { Shutdown(); }
int HttpServer::port() const { return impl_->public_->port(); }
int HttpServer::admin_port() const { return impl_->admin_ == nullptr ? -1 : impl_->admin_->port(); }
void HttpServer::StopAccepting() { impl_->StopAccepting(); }
void HttpServer::Shutdown() { impl_->Shutdown(); }

void HttpServer::ReloadTls() {
  if (impl_->context_.tls == nullptr) return;
  const absl::Status status = impl_->context_.tls->Reload();
  Log(status.ok() ? LogLevel::kInfo : LogLevel::kError, "http_tls_reloaded",
      {{"error", std::string(status.message())}});
}

}  // namespace sluice
