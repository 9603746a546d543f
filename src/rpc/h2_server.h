// gRPC over libnghttp2: its own I/O threads, and one write a connection for a step's tokens.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "net/listener.h"
#include "rpc/call_record.h"
#include "rpc/call_transport.h"
#include "rpc/certificates.h"
#include "rpc/h2_shard.h"
#include "rpc/health_calls.h"
#include "rpc/kserve_calls.h"
#include "sluice/config.h"

namespace sluice::rpc {

class H2Server final : public CallTransport {
 public:
  // As GrpcServer::Start.
  static absl::StatusOr<std::unique_ptr<CallTransport>> Start(
      const Config& config, const std::shared_ptr<Environment>& env, HealthCalls* health,
      KserveCalls* kserve, StageWatch* stages);
  ~H2Server() override;

  [[nodiscard]] int port() const override { return listener_->port(); }
  absl::Status ReloadCertificates() override;
  void Shutdown(absl::Time deadline) override;

 private:
  H2Server() = default;
  absl::Status Listen(const Config& config, const std::shared_ptr<Environment>& env,
                      HealthCalls* health, KserveCalls* kserve, StageWatch* stages);
  void AddMethods(const std::shared_ptr<Environment>& env, HealthCalls* health,
                  KserveCalls* kserve);
  void Accept(int fd);
  void SayAll(H2Shard::Farewell farewell);
  void StopShards();

  std::vector<std::string> services_;  // as reflection lists them
  // Owners: this, until a wedged engine may still publish to a shard that stays for it.
  std::unique_ptr<H2Context> context_;
  std::unique_ptr<Certificates> certificates_;
  std::vector<std::unique_ptr<H2Shard>> shards_;
  std::unique_ptr<Listener> listener_;
  size_t next_shard_ = 0;
  bool serving_ = false;
};

}  // namespace sluice::rpc
