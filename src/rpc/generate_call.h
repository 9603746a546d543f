// Generate and GenerateStream: a call of a transport on one side, one of the Service on the other.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "rpc/call.h"
#include "rpc/call_record.h"
#include "rpc/event_book.h"
#include "sluice/v1/inference.pb.h"

namespace sluice::rpc {

// What both have: admission, hand-over to the Service, and the end of the two lives. The client's
// side is over with OnDone, the Service's side with End; either may come first, and the object goes
// with the later one. Thread-safe: the transport's threads, the book's and the prepare pool meet
// under mutex_.
class GenerateCall : public Call,
                     public EventSink,
                     public std::enable_shared_from_this<GenerateCall> {
 public:
  void Start(const grpc::ByteBuffer& request) final;
  void OnCancel() final { Abandon(); }
  void OnWriteDone(bool ok) final;
  void OnDone() final;

  void Apply(decltype(StreamEvent::event) event) final;
  void Flush() final;
  void Sweep(absl::Time now) final;

 protected:
  GenerateCall(std::shared_ptr<Environment> env, std::string_view method, CallContext* context)
      : env_(std::move(env)), context_(context), record_(env_.get(), method, context) {}

  // The client has gone, or cannot be written to: Service::Cancel at once, and the RPC finishes.
  void Abandon();

  // The forms. All are called under mutex_ and only while the RPC is not finished.
  virtual void Take(Accepted accepted) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  virtual void Take(TokenEvent tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;
  // NOLINTNEXTLINE(performance-unnecessary-value-param): the one that takes it moves from it
  virtual void Take(VectorEvent /*vector*/) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  // Writes what is pending; after `end_`, finishes with FinishLocked or FinishWith.
  virtual void WritePending() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) = 0;

  void FinishLocked(const absl::Status& status, absl::Duration retry_after = absl::ZeroDuration())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Around a write: none may be in flight. False: the message could not be written, and the RPC has
  // been finished.
  bool BeginWrite(const google::protobuf::Message& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends `message` and finishes with OK.
  void FinishWith(const google::protobuf::Message& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<Environment> env_;  // before record_, which uses it to the last
  Mutex mutex_;
  CallContext* const context_ ABSL_PT_GUARDED_BY(mutex_);
  CallRecord record_ ABSL_GUARDED_BY(mutex_);
  std::optional<End> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called: the context may vanish
  absl::Time busy_since_ ABSL_GUARDED_BY(mutex_) =
      absl::InfiniteFuture();  // a write or the finish is under way

  // What is asked of the Service, with the call's ids, tenant and deadline. Not under mutex_.
  using Work = std::variant<GenerateRequest, EmbedRequest>;
  virtual absl::StatusOr<Work> Prepare(const grpc::ByteBuffer& bytes);

 private:
  void Begin(const grpc::ByteBuffer& bytes);
  void CancelCall();
  void FlushLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::optional<CallId> call_ ABSL_GUARDED_BY(mutex_);
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancel_sent_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time cancel_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
};

// The answer at once.
class UnaryGenerate final : public GenerateCall {
 public:
  UnaryGenerate(std::shared_ptr<Environment> env, CallContext* context)
      : GenerateCall(std::move(env), "Generate", context) {}

 private:
  void Take(Accepted accepted) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(TokenEvent tokens) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WritePending() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  v1::GenerateResponse answer_ ABSL_GUARDED_BY(mutex_);
};

// The answer as it is made: exactly one write in flight, and what comes meanwhile merges into one
// Delta a choice.
class StreamGenerate final : public GenerateCall {
 public:
  StreamGenerate(std::shared_ptr<Environment> env, CallContext* context)
      : GenerateCall(std::move(env), "GenerateStream", context) {}

 private:
  struct Pending {
    v1::GenerateEvent event;
    size_t bytes = 0;  // about
  };
  void Take(Accepted accepted) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(TokenEvent tokens) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WritePending() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::deque<Pending> pending_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::rpc
