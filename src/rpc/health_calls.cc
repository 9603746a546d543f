#include "rpc/health_calls.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "rpc/codec.h"

namespace sluice::rpc {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr std::chrono::milliseconds kPollInterval{100};
constexpr size_t kMaxWatchers = 1024;

bool IsKnown(std::string_view service) {
  return service.empty() || service == "sluice.v1.Inference" ||
         service == "inference.GRPCInferenceService";
}

}  // namespace

class HealthCalls::Checker final : public Call {
 public:
  Checker(HealthCalls* owner, CallContext* context) : owner_(owner), context_(context) {}

  void Start(const grpc::ByteBuffer& request) override {
    HealthCheckRequest message;
    if (const absl::Status parsed = ParseMessage(request, message); !parsed.ok())
      return context_->Finish(EncodeStatus(parsed));
    if (!IsKnown(message.service()))
      return context_->Finish({grpc::StatusCode::NOT_FOUND, "the server has no such service"});
    HealthCheckResponse answer;
    answer.set_status(owner_->Now());
    const absl::Status encoded = context_->Encode(answer);
    if (!encoded.ok()) return context_->Finish(EncodeStatus(encoded));
    context_->FinishWithMessage(grpc::Status::OK);
  }
  void OnCancel() override {}  // Start has finished
  void OnDone() override {}

 private:
  HealthCalls* const owner_;
  CallContext* const context_;
};

// One watch. Lock order: the owner's mutex before this one.
class HealthCalls::Watcher final : public Call {
 public:
  Watcher(HealthCalls* owner, CallContext* context) : owner_(owner), context_(context) {}

  void Start(const grpc::ByteBuffer& request) override {
    HealthCheckRequest message;
    if (const absl::Status parsed = ParseMessage(request, message); !parsed.ok())
      return End(EncodeStatus(parsed));
    known_ = IsKnown(message.service());
    owner_->Enter(this);
  }

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
    cancelled_ = cancelled_ || !ok;
    if (!ok && !end_) end_ = grpc::Status::CANCELLED;
    Advance();
  }
  void OnCancel() override {
    const MutexLock lock(mutex_);
    cancelled_ = true;
    if (!end_) end_ = grpc::Status::CANCELLED;
    Advance();
  }
  void OnDone() override {
    owner_->Remove(this);
    const MutexLock lock(mutex_);
  }

 private:
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (wanted_ && wanted_ != sent_ && !cancelled_ && Encode()) {
      sent_ = wanted_;
      writing_ = true;
      context_->StartWrite();
    } else if (end_) {
      finished_ = true;
      context_->Finish(*end_);
    }
  }

  bool Encode() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    HealthCheckResponse message;
    message.set_status(*wanted_);
    const absl::Status encoded = context_->Encode(message);
    if (!encoded.ok()) end_ = EncodeStatus(encoded);
    return encoded.ok();
  }

  HealthCalls* const owner_;
  bool known_ = false;  // written before others see the watcher
  Mutex mutex_;
  CallContext* const context_ ABSL_PT_GUARDED_BY(mutex_);
  std::optional<Status> wanted_ ABSL_GUARDED_BY(mutex_), sent_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

HealthCalls::HealthCalls(const Service* service) : service_(service), thread_([this] { Poll(); }) {}

HealthCalls::~HealthCalls() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

HealthCalls::Status HealthCalls::Now(bool serving) const {
  if (!serving) return HealthCheckResponse::NOT_SERVING;
  const Health health = service_->GetHealth();
  return health.live && health.ready ? HealthCheckResponse::SERVING
                                     : HealthCheckResponse::NOT_SERVING;
}

void HealthCalls::SetServing(bool serving) {
  {
    const MutexLock lock(mutex_);
    serving_ = serving;
  }
  wake_.notify_one();
}

void HealthCalls::Shutdown() {
  const MutexLock lock(mutex_);
  serving_ = false;
  shut_down_ = true;
  for (Watcher* watcher : watchers_) {
    watcher->Show(HealthCheckResponse::NOT_SERVING);
    watcher->End({grpc::StatusCode::UNAVAILABLE, "the server shuts down"});
  }
}

void HealthCalls::Poll() {
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

void HealthCalls::Remove(Watcher* watcher) {
  const MutexLock lock(mutex_);
  watchers_.erase(watcher);
}

HealthCalls::Status HealthCalls::Now() {
  bool serving = false;
  {
    const MutexLock lock(mutex_);
    serving = serving_;
  }
  return Now(serving);  // not under the mutex: it is the Service's code
}

void HealthCalls::Enter(Watcher* watcher) {
  const Status now = Now();
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
}

std::shared_ptr<Call> HealthCalls::NewCall(std::string_view method, CallContext* context) {
  if (method == "Check") return std::make_shared<Checker>(this, context);
  if (method == "Watch") return std::make_shared<Watcher>(this, context);
  return nullptr;
}

}  // namespace sluice::rpc
