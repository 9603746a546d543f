// grpc.health.v1.Health that says what Service::GetHealth() says, whatever the transport. Not
// grpc++'s default service: that one says SERVING from its start until told otherwise, and
// reflection does not know it.
#pragma once

#include <memory>
#include <string_view>
#include <thread>
#include <unordered_set>

#include "base/mutex.h"
#include "grpc/health/v1/health.pb.h"
#include "rpc/call.h"
#include "sluice/service.h"

namespace sluice::rpc {

// Knows the names "" and those of the services that generate. Check asks the Service itself; Watch
// follows within 100 ms. Needs no key. Thread-safe.
class HealthCalls final {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  explicit HealthCalls(const Service* service);
  ~HealthCalls();

  // What Check says of them.
  [[nodiscard]] bool Serving() { return Now() == grpc::health::v1::HealthCheckResponse::SERVING; }

  // false: NOT_SERVING whatever the Service says (drain).
  void SetServing(bool serving);

  // NOT_SERVING, then every watch ends (Unavailable): without it a watch would hold up the server's
  // own shutdown.
  void Shutdown();

  // The call of "Check" or "Watch"; null: there is no such method. This outlives it.
  std::shared_ptr<Call> NewCall(std::string_view method, CallContext* context);

 private:
  class Checker;
  class Watcher;
  void Poll();
  void Enter(Watcher* watcher);
  void Remove(Watcher* watcher);
  [[nodiscard]] Status Now();
  [[nodiscard]] Status Now(bool serving) const;

  const Service* const service_;
  Mutex mutex_;
  CondVar wake_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = true;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_set<Watcher*> watchers_ ABSL_GUARDED_BY(mutex_);  // each leaves with its OnDone
  std::thread thread_;                                             // last: it uses the rest
};

}  // namespace sluice::rpc
