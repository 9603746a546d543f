#include "rpc/grpc_server.h"

#include <fmt/format.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"

namespace sluice::rpc {
namespace {

// Reflection is gRPC's own synchronous service: a stream holds a thread.
constexpr int kMaxReflectionThreads = 16;
constexpr int kKeepaliveMs =
    60'000;  // a peer that vanished without a word is noticed after at most
constexpr int kKeepaliveTimeoutMs = 20'000;  // the two together
constexpr int kMinClientPingMs = 10'000;     // a client that pings more often is sent away

int ToMilliseconds(double seconds) {
  return static_cast<int>(
      std::clamp(seconds * 1000, 1.0, static_cast<double>(std::numeric_limits<int>::max())));
}

std::string Address(const std::string& host, int port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

// Why the address cannot be listened on: grpc++ only says that it cannot.
std::string BindError(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), fmt::to_string(port).c_str(), &hints, &found);
      error != 0) {
    return gai_strerror(error);
  }
  std::string reason = "the address was refused";
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) continue;
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const bool bound = bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1) == 0;
    if (!bound) reason = std::strerror(errno);
    close(fd);
    if (!bound) break;
  }
  freeaddrinfo(found);
  return reason;
}

// gRPC's own complaints (a failed handshake, for instance) become lines of our log.
void LogFromGrpc(gpr_log_func_args* args) {
  const LogLevel level =
      args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarn : LogLevel::kDebug;
  Log(level, "grpc", {{"message", args->message}});
}

void SetLimits(const Config& config, grpc::ServerBuilder& builder) {
  const int64_t max_int = std::numeric_limits<int>::max();
  builder.SetMaxReceiveMessageSize(static_cast<int>(std::min(config.max_body_bytes, max_int)));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                             static_cast<int>(std::min(config.max_header_bytes, max_int)));
  // A port in use is an error; by default a second server would silently take half of the
  // connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             ToMilliseconds(config.read_timeout_s));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                             ToMilliseconds(config.idle_timeout_s));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_connections);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinClientPingMs);
  // The size limit counts compressed bytes, so a small message could unpack to gigabytes: none is
  // unpacked.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  grpc::ResourceQuota quota("sluice");
  quota.SetMaxThreads(kMaxReflectionThreads);
  builder.SetResourceQuota(quota);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
}

}  // namespace

GrpcServer::GrpcServer(const Config& config, const std::shared_ptr<Environment>& env,
                       HealthCalls* health, KserveCalls* kserve, StageWatch* stages)
    : pump_(std::make_unique<EventPump>(
          &env->metrics->orphans, stages == nullptr ? nullptr : stages->Add("gRPC events"),
          absl::Seconds(config.stall_timeout_s), PlantedStall(config.plant_fault, "pump"))),
      inference_(env, pump_.get()),
      kserve_(kserve, pump_.get()),
      health_(health) {}

absl::StatusOr<std::unique_ptr<CallTransport>> GrpcServer::Start(
    const Config& config, const std::shared_ptr<Environment>& env, HealthCalls* health,
    KserveCalls* kserve, StageWatch* stages) {
  std::unique_ptr<GrpcServer> server(new GrpcServer(config, env, health, kserve, stages));
  if (!config.tls_cert.empty()) {
    ASSIGN_OR_RETURN(server->certificates_, Certificates::Load(config));
  }
  RETURN_IF_ERROR(server->Listen(config));
  return server;
}

absl::Status GrpcServer::Listen(const Config& config) {
  gpr_set_log_function(&LogFromGrpc);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetLimits(config, builder);
  builder.AddListeningPort(
      Address(config.host, config.grpc_port),
      certificates_ ? certificates_->Credentials() : grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(&inference_);
  builder.RegisterService(&kserve_);
  builder.RegisterService(&health_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) {
    return absl::UnavailableError(fmt::format("gRPC cannot listen on {}: {}",
                                              Address(config.host, config.grpc_port),
                                              BindError(config.host, config.grpc_port)));
  }
  return absl::OkStatus();
}

GrpcServer::~GrpcServer() { Shutdown(absl::InfinitePast()); }

absl::Status GrpcServer::ReloadCertificates() {
  return certificates_ ? certificates_->Reload() : absl::OkStatus();
}

void GrpcServer::Shutdown(absl::Time deadline) {
  if (server_ == nullptr) return;
  const absl::Time until = std::clamp(deadline, absl::Now(), absl::Now() + absl::Hours(24));
  server_->Shutdown(absl::ToChronoTime(until));
  server_ = nullptr;
  if (pump_->WaitUntilEmpty(kEndsTimeout)) return;
  Log(LogLevel::kError, "rpc_calls_without_end", {});
  pump_->Stop();
  static_cast<void>(pump_.release());
}

}  // namespace sluice::rpc
