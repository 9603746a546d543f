// grpc.health.v1.Health that says what Service::GetHealth() says. Not grpc++'s default service:
// that one says SERVING from its start until told otherwise, and reflection does not know it.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <unordered_set>

#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "sluice/service.h"

namespace sluice::rpc {

// Knows the names "" and "sluice.v1.Inference". Check asks the Service itself; Watch follows within
// 100 ms. Needs no key. Thread-safe.
class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  explicit HealthService(
      const ::sluice::Service* service);  // Service alone is the generated base's
  ~HealthService() override;

  // false: NOT_SERVING whatever the Service says (drain).
  void SetServing(bool serving);

  // NOT_SERVING, then every watch ends (Unavailable): without it a watch would hold up the server's
  // own shutdown.
  void Shutdown();

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  class Watcher;
  void Poll();
  void Remove(Watcher* watcher);
  [[nodiscard]] Status Now(bool serving) const;

  const ::sluice::Service* const service_;
  Mutex mutex_;
  CondVar wake_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = true;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_set<Watcher*> watchers_ ABSL_GUARDED_BY(mutex_);  // each owns itself until OnDone
  std::thread thread_;                                             // last: it uses the rest
};

}  // namespace sluice::rpc
