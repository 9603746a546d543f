// inference.GRPCInferenceService, the Open Inference Protocol v2, over the Service.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "rpc/call.h"
#include "rpc/call_record.h"
#include "rpc/health_calls.h"
#include "rpc/infer_stream.h"

namespace sluice::rpc {

// Thread-safe.
class KserveCalls final {
 public:
  // `health` outlives this.
  KserveCalls(std::shared_ptr<Environment> env, HealthCalls* health)
      : env_(std::move(env)), health_(health) {}

  // The call of a method, such as "ModelInfer"; null: there is no such method. ServerLive and
  // ServerReady, which are for probes, need no key. This outlives it.
  std::shared_ptr<Call> NewCall(std::string_view method, CallContext* context);

  // Streams end with their last request.
  void Shutdown() { streams_.Shutdown(); }

 private:
  const std::shared_ptr<Environment> env_;  // owners: see Environment
  HealthCalls* const health_;
  InferStreams streams_;
};

}  // namespace sluice::rpc
