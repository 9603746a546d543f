#include "rpc/rpc_server.h"

#include <google/protobuf/stubs/logging.h>

#include <string>

#include "base/logging.h"
#include "base/status_macros.h"
#include "rpc/call_record.h"
#include "rpc/grpc_server.h"
#include "rpc/h2_server.h"

namespace sluice {
namespace {

// Protobuf names the field of a string that is not UTF-8; the caller is told by its status.
void LogFromProtobuf(google::protobuf::LogLevel /*level*/, const char* /*file*/, int /*line*/,
                     const std::string& message) {
  Log(LogLevel::kDebug, "protobuf", {{"message", message}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const Config& config, Service* service,
                                                            const ApiKeys* keys, Metrics* metrics,
                                                            const Clock* clock,
                                                            StageWatch* stages) {
  google::protobuf::SetLogHandler(&LogFromProtobuf);
  const std::shared_ptr<rpc::Environment> env(
      new rpc::Environment{.service = service,
                           .keys = keys,
                           .metrics = metrics,
                           .clock = clock,
                           .write_timeout = absl::Seconds(config.write_timeout_s),
                           .default_deadline = absl::Seconds(config.default_deadline_s),
                           .max_calls = config.max_connections});
  std::unique_ptr<RpcServer> server(new RpcServer(service));
  server->kserve_ = std::make_unique<rpc::KserveCalls>(env, &server->health_);
  const auto start =
      config.grpc_transport == "nghttp2" ? &rpc::H2Server::Start : &rpc::GrpcServer::Start;
  ASSIGN_OR_RETURN(server->transport_,
                   start(config, env, &server->health_, server->kserve_.get(), stages));
  return server;
}

RpcServer::~RpcServer() { Shutdown(absl::InfinitePast()); }

void RpcServer::SetServing(bool serving) { health_.SetServing(serving); }

void RpcServer::Shutdown(absl::Time deadline) {
  if (transport_ == nullptr) return;  // it did not start
  health_.Shutdown();
  kserve_->Shutdown();
  transport_->Shutdown(deadline);
}

}  // namespace sluice
