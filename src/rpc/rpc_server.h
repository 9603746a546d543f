// The gRPC front end: sluice.v1.Inference, the Open Inference Protocol, health and reflection on
// one port.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/api_keys.h"
#include "base/clock.h"
#include "base/stage_watch.h"
#include "metrics/metrics.h"
#include "rpc/call_transport.h"
#include "rpc/health_calls.h"
#include "rpc/kserve_calls.h"
#include "sluice/config.h"
#include "sluice/service.h"

namespace sluice {

// Thread-safe, but for Shutdown, which one thread calls.
class RpcServer {
 public:
  // Listens on config.host:config.grpc_port (0: a free one). Everything passed in outlives the
  // server. With `stages` the event pump is entered there. Errors: InvalidArgument (certificate
  // files), Unavailable (the port, with the system's reason).
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const Config& config, Service* service,
                                                          const ApiKeys* keys, Metrics* metrics,
                                                          const Clock* clock,
                                                          StageWatch* stages = nullptr);
  // Shuts down at once if that has not been done.
  ~RpcServer();

  [[nodiscard]] int port() const { return transport_->port(); }

  // false: health says NOT_SERVING whatever the Service says. Calls are still taken; the Service
  // refuses them.
  void SetServing(bool serving);

  // Reads the certificate files again; without TLS nothing happens. Errors: as Start; the old
  // certificate stays.
  absl::Status ReloadCertificates() { return transport_->ReloadCertificates(); }

  // Refuses new connections and calls, waits for open calls, cancels those left at `deadline`, and
  // waits for their Ends from the Service (at most 5 s more: a wedged engine must not keep the
  // process from ending).
  void Shutdown(absl::Time deadline);

 private:
  explicit RpcServer(const Service* service) : health_(service) {}

  rpc::HealthCalls health_;
  std::unique_ptr<rpc::KserveCalls> kserve_;
  std::unique_ptr<rpc::CallTransport> transport_;
};

}  // namespace sluice
