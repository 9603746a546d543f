// gRPC by grpc++: its server, its threads, its reflection.
#pragma once

#include <grpcpp/server.h>

#include <memory>

#include "absl/status/statusor.h"
#include "rpc/call_transport.h"
#include "rpc/certificates.h"
#include "rpc/event_pump.h"
#include "rpc/grpc_services.h"
#include "sluice/config.h"

namespace sluice::rpc {

class GrpcServer final : public CallTransport {
 public:
  // Listens on config.host:config.grpc_port (0: a free one). `health` outlives the server. Errors:
  // InvalidArgument (certificate files), Unavailable (the port, with the system's reason).
  static absl::StatusOr<std::unique_ptr<CallTransport>> Start(
      const Config& config, const std::shared_ptr<Environment>& env, HealthCalls* health,
      KserveCalls* kserve, StageWatch* stages);
  ~GrpcServer() override;

  [[nodiscard]] int port() const override { return port_; }
  absl::Status ReloadCertificates() override;
  void Shutdown(absl::Time deadline) override;

 private:
  GrpcServer(const Config& config, const std::shared_ptr<Environment>& env, HealthCalls* health,
             KserveCalls* kserve, StageWatch* stages);
  absl::Status Listen(const Config& config);

  std::unique_ptr<Certificates> certificates_;
  std::unique_ptr<EventPump> pump_;
  GrpcInference inference_;
  GrpcKserve kserve_;
  GrpcHealth health_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace sluice::rpc
