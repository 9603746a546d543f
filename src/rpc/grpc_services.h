// The services as grpc++ wants them: generated bases, whose methods hand raw bytes to the calls.
// (grpc++ itself would answer bytes that are no message with Unimplemented.)
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string_view>
#include <utility>

#include "grpc/health/v1/health.grpc.pb.h"
#include "kserve/inference.grpc.pb.h"
#include "rpc/call_record.h"
#include "rpc/event_book.h"
#include "rpc/health_calls.h"
#include "rpc/kserve_calls.h"
#include "sluice/v1/inference.grpc.pb.h"

namespace sluice::rpc {

namespace internal {
using RawInference = v1::Inference::WithRawCallbackMethod_Generate<
    v1::Inference::WithRawCallbackMethod_GenerateStream<
        v1::Inference::WithRawCallbackMethod_Embed<v1::Inference::WithRawCallbackMethod_Tokenize<
            v1::Inference::WithRawCallbackMethod_Detokenize<
                v1::Inference::WithRawCallbackMethod_ListModels<v1::Inference::Service>>>>>>;
using inference::GRPCInferenceService;
using RawKserve = GRPCInferenceService::WithRawCallbackMethod_ServerLive<
    GRPCInferenceService::WithRawCallbackMethod_ServerReady<
        GRPCInferenceService::WithRawCallbackMethod_ModelReady<
            GRPCInferenceService::WithRawCallbackMethod_ServerMetadata<
                GRPCInferenceService::WithRawCallbackMethod_ModelMetadata<
                    GRPCInferenceService::WithRawCallbackMethod_ModelInfer<
                        GRPCInferenceService::WithRawCallbackMethod_ModelStreamInfer<
                            GRPCInferenceService::Service>>>>>>>;
using grpc::health::v1::Health;
using RawHealth =
    Health::WithRawCallbackMethod_Check<Health::WithRawCallbackMethod_Watch<Health::Service>>;
}  // namespace internal

using UnaryReactor = grpc::ServerUnaryReactor;
using StreamReactor = grpc::ServerWriteReactor<grpc::ByteBuffer>;
using BidiReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

// Thread-safe.
class GrpcInference final : public internal::RawInference {
 public:
  // `events` outlives the calls.
  GrpcInference(std::shared_ptr<Environment> env, EventBook* events)
      : env_(std::move(env)), events_(events) {}

  UnaryReactor* Generate(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                         grpc::ByteBuffer* response) override;
  StreamReactor* GenerateStream(grpc::CallbackServerContext* context,
                                const grpc::ByteBuffer* request) override;
  UnaryReactor* Embed(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                      grpc::ByteBuffer* response) override;
  UnaryReactor* Tokenize(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                         grpc::ByteBuffer* response) override;
  UnaryReactor* Detokenize(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                           grpc::ByteBuffer* response) override;
  UnaryReactor* ListModels(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                           grpc::ByteBuffer* response) override;

 private:
  std::shared_ptr<Call> NewCall(std::string_view method, CallContext* context);

  const std::shared_ptr<Environment> env_;  // owners: see Environment
  EventBook* const events_;
};

// Thread-safe.
class GrpcKserve final : public internal::RawKserve {
 public:
  // Both outlive the calls.
  GrpcKserve(KserveCalls* calls, EventBook* events) : calls_(calls), events_(events) {}

  UnaryReactor* ServerLive(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                           grpc::ByteBuffer* response) override;
  UnaryReactor* ServerReady(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                            grpc::ByteBuffer* response) override;
  UnaryReactor* ModelReady(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                           grpc::ByteBuffer* response) override;
  UnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                               const grpc::ByteBuffer* request,
                               grpc::ByteBuffer* response) override;
  UnaryReactor* ModelMetadata(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                              grpc::ByteBuffer* response) override;
  UnaryReactor* ModelInfer(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                           grpc::ByteBuffer* response) override;
  BidiReactor* ModelStreamInfer(grpc::CallbackServerContext* context) override;

 private:
  std::shared_ptr<Call> NewCall(std::string_view method, CallContext* context);

  KserveCalls* const calls_;
  EventBook* const events_;
};

// Thread-safe.
class GrpcHealth final : public internal::RawHealth {
 public:
  explicit GrpcHealth(HealthCalls* calls) : calls_(calls) {}
  UnaryReactor* Check(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                      grpc::ByteBuffer* response) override;
  StreamReactor* Watch(grpc::CallbackServerContext* context,
                       const grpc::ByteBuffer* request) override;

 private:
  HealthCalls* const calls_;
};

}  // namespace sluice::rpc
