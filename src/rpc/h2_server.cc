#include "rpc/h2_server.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "rpc/h2_reflection.h"
#include "rpc/inference_calls.h"

namespace sluice::rpc {
namespace {

// Connections over one a call: for one too many to be told so, and for probes.
constexpr int64_t kSpareConnections = 64;
constexpr size_t kMaxReflectionRequest = 16U << 10U;  // an I/O thread answers it
// For clients to take what was written, once the server goes down.
constexpr absl::Duration kGrace = absl::Seconds(1);

template <class Condition>
bool WaitUntil(absl::Time deadline, Condition condition) {
  while (!condition()) {
    if (absl::Now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CallTransport>> H2Server::Start(
    const Config& config, const std::shared_ptr<Environment>& env, HealthCalls* health,
    KserveCalls* kserve, StageWatch* stages) {
  std::unique_ptr<H2Server> server(new H2Server);
  RETURN_IF_ERROR(server->Listen(config, env, health, kserve, stages));
  return server;
}

absl::Status H2Server::Listen(const Config& config, const std::shared_ptr<Environment>& env,
                              HealthCalls* health, KserveCalls* kserve, StageWatch* stages) {
  context_ = std::make_unique<H2Context>();
  context_->config = config;
  context_->limits = {.max_message_bytes = static_cast<size_t>(config.max_body_bytes),
                      .max_header_bytes = static_cast<size_t>(config.max_header_bytes),
                      .max_streams = static_cast<uint32_t>(config.max_connections),
                      .read_timeout = absl::Seconds(config.read_timeout_s),
                      .idle_timeout = absl::Seconds(config.idle_timeout_s),
                      .write_timeout = absl::Seconds(config.write_timeout_s)};
  context_->metrics = env->metrics;
  context_->clock = env->clock;
  if (!config.tls_cert.empty()) {
    // Certificates says clearly what is wrong with a file; both transports say it alike.
    ASSIGN_OR_RETURN(certificates_, Certificates::Load(config));
  }
  ASSIGN_OR_RETURN(context_->tls, TlsContext::Load(config, "h2"));
  AddMethods(env, health, kserve);
  for (int i = 0; i < std::max(1, config.io_threads); ++i)
    shards_.push_back(std::make_unique<H2Shard>(context_.get(), stages));
  ASSIGN_OR_RETURN(listener_, Listener::Open(&shards_[0]->io(), config.host, config.grpc_port,
                                             [this](int fd) { Accept(fd); }));
  listener_->Start();
  for (const auto& shard : shards_) shard->Start();
  serving_ = true;
  return absl::OkStatus();
}

void H2Server::AddMethods(const std::shared_ptr<Environment>& env, HealthCalls* health,
                          KserveCalls* kserve) {
  using NewCall = std::function<std::shared_ptr<Call>(std::string_view, CallContext*)>;
  const auto add = [this](const std::string& service, size_t max_request_bytes,
                          const NewCall& new_call) {
    const auto* descriptor =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(service);
    SLUICE_CHECK(descriptor != nullptr, "{} is not linked", service);
    services_.push_back(service);
    for (int i = 0; i < descriptor->method_count(); ++i) {
      const auto* method = descriptor->method(i);
      context_->methods.emplace(
          fmt::format("/{}/{}", service, method->name()),
          H2Method{method->client_streaming(), max_request_bytes,
                   [new_call, name = std::string(method->name())](CallContext* context) {
                     return new_call(name, context);
                   }});
    }
  };
  const size_t max = context_->limits.max_message_bytes;
  add("sluice.v1.Inference", max, [env](std::string_view method, CallContext* context) {
    return NewInferenceCall(method, env, context);
  });
  add("inference.GRPCInferenceService", max,
      [kserve](std::string_view method, CallContext* context) {
        return kserve->NewCall(method, context);
      });
  add("grpc.health.v1.Health", max, [health](std::string_view method, CallContext* context) {
    return health->NewCall(method, context);
  });
  add("grpc.reflection.v1alpha.ServerReflection", kMaxReflectionRequest,
      [this](std::string_view /*method*/, CallContext* context) {
        return NewReflectionCall(&services_, context);
      });
}

// Connections are spread in turn and stay with their thread.
void H2Server::Accept(int fd) {
  if (context_->num_connections >= context_->config.max_connections + kSpareConnections) {
    ::close(fd);
    context_->metrics->CountRefused("connections");
    return;
  }
  shards_[next_shard_++ % shards_.size()]->Adopt(fd);
}

absl::Status H2Server::ReloadCertificates() {
  if (context_->tls == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(certificates_->Reload());
  return context_->tls->Reload();
}

H2Server::~H2Server() { Shutdown(absl::InfinitePast()); }

void H2Server::SayAll(H2Shard::Farewell farewell) {
  for (const auto& shard : shards_) shard->Say(farewell);
}

void H2Server::Shutdown(absl::Time deadline) {
  if (!std::exchange(serving_, false)) return;
  std::promise<void> closed;
  asio::post(shards_[0]->io(), [this, &closed] {
    listener_->Close();
    closed.set_value();
  });
  closed.get_future().wait();
  SayAll(H2Shard::Farewell::kDrain);
  if (!WaitUntil(deadline, [this] { return context_->num_streams == 0; }))
    SayAll(H2Shard::Farewell::kCancel);
  const auto gone = [this] { return context_->num_connections == 0; };
  if (!WaitUntil(absl::Now() + kGrace, gone)) {
    SayAll(H2Shard::Farewell::kBreak);
    while (!WaitUntil(absl::Now() + absl::Seconds(10), gone)) {
      Log(LogLevel::kError, "grpc_shutdown_waits",
          {{"connections", context_->num_connections.load()}});
    }
  }
  StopShards();
}

void H2Server::StopShards() {
  const absl::Time until = absl::Now() + kEndsTimeout;
  bool all_ended = true;
  for (const auto& shard : shards_)
    all_ended = shard->WaitUntilEmpty(until - absl::Now()) && all_ended;
  for (const auto& shard : shards_) shard->Stop();
  if (all_ended) return;
  Log(LogLevel::kError, "rpc_calls_without_end", {});
  for (auto& shard : shards_) static_cast<void>(shard.release());
  static_cast<void>(context_.release());
  shards_.clear();
}

}  // namespace sluice::rpc
