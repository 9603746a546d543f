#include "rpc/grpc_services.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <string_view>

#include "base/status_macros.h"
#include "rpc/call.h"
#include "rpc/codec.h"
#include "rpc/inference_calls.h"

namespace sluice::rpc {
namespace {

// A call of grpc++, which owns itself until OnDone.
template <class Reactor>
class GrpcCall : public Reactor, public CallContext {
 public:
  GrpcCall(grpc::CallbackServerContext* context, EventBook* events)
      : context_(context), events_(events) {}

  // The handler's thread, before it returns this to grpc++.
  void Run(std::shared_ptr<Call> call, const grpc::ByteBuffer& request) {
    call_ = std::move(call);
    call_->Start(request);
  }

  [[nodiscard]] std::string Peer() const final { return context_->peer(); }
  [[nodiscard]] std::string Metadata(const char* name) const final {
    const auto found = context_->client_metadata().find(name);
    return found == context_->client_metadata().end()
               ? std::string()
               : std::string(found->second.data(), found->second.size());
  }
  [[nodiscard]] size_t CountMetadata(const char* name) const final {
    return context_->client_metadata().count(name);
  }
  [[nodiscard]] absl::Time Deadline() const final {
    const auto deadline = context_->deadline();
    return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture()
                                                                    : absl::FromChrono(deadline);
  }
  [[nodiscard]] EventBook* events() final { return events_; }
  void AddInitialMetadata(const std::string& name, const std::string& value) final {
    context_->AddInitialMetadata(name, value);
  }
  void AddTrailingMetadata(const std::string& name, const std::string& value) final {
    context_->AddTrailingMetadata(name, value);
  }
  void Finish(grpc::Status status) final { Reactor::Finish(std::move(status)); }
  void TryCancel() final { context_->TryCancel(); }

  void OnCancel() override { call_->OnCancel(); }
  void OnDone() override {
    call_->OnDone();
    delete this;
  }

 protected:
  std::shared_ptr<Call> call_;  // its share until OnDone

 private:
  grpc::CallbackServerContext* const context_;
  EventBook* const events_;
};

absl::Status EncodeInto(grpc::ByteBuffer& buffer, const google::protobuf::Message& message) {
  ASSIGN_OR_RETURN(buffer, SerializeMessage(message));
  return absl::OkStatus();
}

class GrpcUnaryCall final : public GrpcCall<UnaryReactor> {
 public:
  GrpcUnaryCall(grpc::CallbackServerContext* context, EventBook* events, grpc::ByteBuffer* response)
      : GrpcCall(context, events), response_(response) {}
  absl::Status Encode(const google::protobuf::Message& message) override {
    return EncodeInto(*response_, message);
  }
  void StartWrite() override {}  // a unary call has its one message with the finish
  void FinishWithMessage(grpc::Status status) override { Finish(std::move(status)); }

 private:
  grpc::ByteBuffer* const response_;
};

class GrpcStreamCall final : public GrpcCall<StreamReactor> {
 public:
  using GrpcCall::GrpcCall;
  absl::Status Encode(const google::protobuf::Message& message) override {
    return EncodeInto(buffer_, message);
  }
  void StartWrite() override { StreamReactor::StartWrite(&buffer_); }
  void FinishWithMessage(grpc::Status status) override {
    StartWriteAndFinish(&buffer_, grpc::WriteOptions(), std::move(status));
  }
  void OnWriteDone(bool ok) override { call_->OnWriteDone(ok); }

 private:
  grpc::ByteBuffer buffer_;  // of the write in flight
};

// The first message brings the call to life; the client may be gone by then.
class GrpcBidiCall final : public GrpcCall<BidiReactor> {
 public:
  using NewCall = std::function<std::shared_ptr<Call>(CallContext*)>;
  GrpcBidiCall(grpc::CallbackServerContext* context, EventBook* events, NewCall new_call)
      : GrpcCall(context, events), new_call_(std::move(new_call)) {
    StartRead();
  }
  absl::Status Encode(const google::protobuf::Message& message) override {
    return EncodeInto(buffer_, message);
  }
  void StartWrite() override { BidiReactor::StartWrite(&buffer_); }
  void StartRead() override { BidiReactor::StartRead(&request_); }
  void FinishWithMessage(grpc::Status status) override {
    StartWriteAndFinish(&buffer_, grpc::WriteOptions(), std::move(status));
  }
  void OnWriteDone(bool ok) override { call_->OnWriteDone(ok); }
  void OnReadDone(bool ok) override {
    const grpc::ByteBuffer request = std::exchange(request_, {});
    if (call_ != nullptr) return ok ? call_->OnRequest(request) : call_->OnRequestsDone();
    if (!ok) return Finish(grpc::Status::OK);  // a stream without requests has had its answers
    call_ = new_call_(this);
    call_->Start(request);
    if (Meet()) call_->OnCancel();
  }
  void OnCancel() override {
    if (Meet()) call_->OnCancel();
  }
  void OnDone() override {
    if (call_ != nullptr) call_->OnDone();
    delete this;
  }

 private:
  // Of the call's start and the cancellation, which come by different threads: true for the later.
  bool Meet() { return met_.exchange(true); }

  const NewCall new_call_;
  std::atomic<bool> met_{false};
  grpc::ByteBuffer request_, buffer_;  // of the operations in flight
};

// A reactor goes with its OnDone, which grpc++ calls only after the handler has returned it.
template <class NewCall>
UnaryReactor* RunUnary(grpc::CallbackServerContext* context, EventBook* events,
                       const grpc::ByteBuffer& request, grpc::ByteBuffer* response,
                       NewCall new_call) {
  auto* const reactor = new GrpcUnaryCall(context, events, response);
  reactor->Run(new_call(reactor), request);
  return reactor;
}

template <class NewCall>
StreamReactor* RunStream(grpc::CallbackServerContext* context, EventBook* events,
                         const grpc::ByteBuffer& request, NewCall new_call) {
  auto* const reactor = new GrpcStreamCall(context, events);
  reactor->Run(new_call(reactor), request);
  return reactor;
}

}  // namespace

#define SLUICE_UNARY(service, method)                                                          \
  UnaryReactor* service::method(grpc::CallbackServerContext* context,                          \
                                const grpc::ByteBuffer* request, grpc::ByteBuffer* response) { \
    return RunUnary(context, events_, *request, response,                                      \
                    [this](CallContext* call) { return NewCall(#method, call); });             \
  }
SLUICE_UNARY(GrpcInference, Generate)
SLUICE_UNARY(GrpcInference, Embed)
SLUICE_UNARY(GrpcInference, Tokenize)
SLUICE_UNARY(GrpcInference, Detokenize)
SLUICE_UNARY(GrpcInference, ListModels)
SLUICE_UNARY(GrpcKserve, ServerLive)
SLUICE_UNARY(GrpcKserve, ServerReady)
SLUICE_UNARY(GrpcKserve, ModelReady)
SLUICE_UNARY(GrpcKserve, ServerMetadata)
SLUICE_UNARY(GrpcKserve, ModelMetadata)
SLUICE_UNARY(GrpcKserve, ModelInfer)
#undef SLUICE_UNARY

std::shared_ptr<Call> GrpcInference::NewCall(std::string_view method, CallContext* context) {
  return NewInferenceCall(method, env_, context);
}

std::shared_ptr<Call> GrpcKserve::NewCall(std::string_view method, CallContext* context) {
  return calls_->NewCall(method, context);
}

BidiReactor* GrpcKserve::ModelStreamInfer(grpc::CallbackServerContext* context) {
  return new GrpcBidiCall(context, events_,
                          [this](CallContext* call) { return NewCall("ModelStreamInfer", call); });
}

StreamReactor* GrpcInference::GenerateStream(grpc::CallbackServerContext* context,
                                             const grpc::ByteBuffer* request) {
  return RunStream(context, events_, *request,
                   [this](CallContext* call) { return NewCall("GenerateStream", call); });
}

UnaryReactor* GrpcHealth::Check(grpc::CallbackServerContext* context,
                                const grpc::ByteBuffer* request, grpc::ByteBuffer* response) {
  return RunUnary(context, nullptr, *request, response,
                  [this](CallContext* call) { return calls_->NewCall("Check", call); });
}

StreamReactor* GrpcHealth::Watch(grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer* request) {
  return RunStream(context, nullptr, *request,
                   [this](CallContext* call) { return calls_->NewCall("Watch", call); });
}

}  // namespace sluice::rpc
