#include "rpc/health_service.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace sluice::rpc {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr std::chrono::milliseconds kPollInterval{100};
constexpr size_t kMaxWatchers = 1024;

bool IsKnown(std::string_view service) {
  return service.empty() || service == "sluice.v1.Inference";
}

}  // namespace

// One watch. Lock order: the service's mutex before this one.
class HealthService::Watcher final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(HealthService* owner, bool known) : owner_(owner), known_(known) {}

  // Sends `status` unless it is what the client has; a status that comes while a write is in flight
  // replaces the one that waits.
  void Show(Status status) {
    const MutexLock lock(mutex_);
    wanted_ = known_ ? status : HealthCheckResponse::SERVICE_UNKNOWN;
    Advance();
  }

  void End(grpc::Status status) {
    const MutexLock lock(mutex_);
    if (!end_) end_ = std::move(status);
    Advance();
  }

  void OnWriteDone(bool ok) override {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (!ok && !end_) end_ = grpc::Status::CANCELLED;
    Advance();
  }
  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() override {
    owner_->Remove(this);
    delete this;
  }

 private:
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    const bool cancelled = end_ && end_->error_code() == grpc::StatusCode::CANCELLED;
    if (wanted_ && wanted_ != sent_ && !cancelled) {
      sent_ = wanted_;
      message_.set_status(*sent_);
      writing_ = true;
      StartWrite(&message_);
    } else if (end_) {
      finished_ = true;
      Finish(*end_);
    }
  }

  HealthService* const owner_;
  const bool known_;
  Mutex mutex_;
  std::optional<Status> wanted_ ABSL_GUARDED_BY(mutex_), sent_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  HealthCheckResponse message_;  // of the write in flight
};

HealthService::HealthService(const ::sluice::Service* service)
    : service_(service), thread_([this] { Poll(); }) {}

HealthService::~HealthService() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

HealthService::Status HealthService::Now(bool serving) const {
  if (!serving) return HealthCheckResponse::NOT_SERVING;
  const ::sluice::Health health = service_->GetHealth();
  return health.live && health.ready ? HealthCheckResponse::SERVING
                                     : HealthCheckResponse::NOT_SERVING;
}

void HealthService::SetServing(bool serving) {
  {
    const MutexLock lock(mutex_);
    serving_ = serving;
  }
  wake_.notify_one();
}

void HealthService::Shutdown() {
  const MutexLock lock(mutex_);
  serving_ = false;
  shut_down_ = true;
  for (Watcher* watcher : watchers_) {
    watcher->Show(HealthCheckResponse::NOT_SERVING);
    watcher->End({grpc::StatusCode::UNAVAILABLE, "the server shuts down"});
  }
}

void HealthService::Poll() {
  for (;;) {
    bool serving = false;
    {
      const MutexLock lock(mutex_);
      if (stop_) return;
      serving = serving_;
    }
    const Status now = Now(serving);  // not under the mutex: it is the Service's code
    const MutexLock lock(mutex_);
    if (!shut_down_ && serving == serving_) {
      for (Watcher* watcher : watchers_) watcher->Show(now);
    }
    if (!stop_ && serving == serving_) wake_.wait_for(mutex_, kPollInterval);
  }
}

void HealthService::Remove(Watcher* watcher) {
  const MutexLock lock(mutex_);
  watchers_.erase(watcher);
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context,
                                               const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!IsKnown(request->service())) {
    reactor->Finish({grpc::StatusCode::NOT_FOUND, "the server has no such service"});
    return reactor;
  }
  bool serving = false;
  {
    const MutexLock lock(mutex_);
    serving = serving_;
  }
  response->set_status(Now(serving));
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(
    grpc::CallbackServerContext* /*context*/, const HealthCheckRequest* request) {
  auto* watcher =
      new Watcher(this, IsKnown(request->service()));  // gRPC's API: it goes with its OnDone
  bool serving = false;
  {
    const MutexLock lock(mutex_);
    serving = serving_;
  }
  const Status now = Now(serving);
  const MutexLock lock(mutex_);
  if (shut_down_) {
    watcher->End({grpc::StatusCode::UNAVAILABLE, "the server shuts down"});
  } else if (watchers_.size() >= kMaxWatchers) {
    watcher->End(
        {grpc::StatusCode::RESOURCE_EXHAUSTED, fmt::format("more than {} watches", kMaxWatchers)});
  } else {
    watchers_.insert(watcher);
    watcher->Show(now);
  }
  return watcher;
}

}  // namespace sluice::rpc
