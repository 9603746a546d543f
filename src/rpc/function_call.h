// A unary call that one function answers.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "rpc/call.h"
#include "rpc/call_record.h"

namespace sluice::rpc {

// Thread-safe.
class FunctionCall final : public Call, public std::enable_shared_from_this<FunctionCall> {
 public:
  using Answer = std::unique_ptr<google::protobuf::Message>;
  using Function = std::function<absl::StatusOr<Answer>(const grpc::ByteBuffer& request)>;
  // kOpen: whoever asks is answered, without a key and whatever the load; for probes.
  enum class Door : uint8_t { kKeyed, kOpen };

  // `answer` runs here, or on the prepare pool for a longer request; `method` is a literal.
  FunctionCall(std::shared_ptr<Environment> env, std::string_view method, Function answer,
               CallContext* context, Door door = Door::kKeyed)
      : env_(std::move(env)),
        answer_(std::move(answer)),
        door_(door),
        context_(context),
        record_(env_.get(), method, context) {}

  void Start(const grpc::ByteBuffer& request) override;
  void OnCancel() override;
  void OnDone() override { const MutexLock lock(mutex_); }

 private:
  void Run(const grpc::ByteBuffer& request);
  void Finish(const absl::Status& status, absl::Duration retry_after = absl::ZeroDuration())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<Environment> env_;  // before record_, which uses it to the last
  const Function answer_;
  const Door door_;
  Mutex mutex_;
  CallContext* const context_ ABSL_PT_GUARDED_BY(mutex_);
  CallRecord record_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::rpc
