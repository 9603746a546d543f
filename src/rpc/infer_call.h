// ModelInfer of the Open Inference Protocol: a generation or embedding, alone or as one request of
// a ModelStreamInfer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kserve/inference.pb.h"
#include "rpc/generate_call.h"
#include "sluice/service.h"

namespace sluice::rpc {

// By name or alias; nullopt: there is no such model.
std::optional<ModelDescription> FindModel(const Service& service, std::string_view name);

// What carries a request of a stream.
class InferContext : public CallContext {
 public:
  // The request's id, for an answer that is an error. Before any answer.
  virtual void SetId(const std::string& id) = 0;
};

// Sends ModelInferResponse alone, ModelStreamInferResponse in a stream: one at the end or, where
// the request asks for it, one a step. What comes while a write is in flight merges into the next.
class InferCall final : public GenerateCall {
 public:
  InferCall(std::shared_ptr<Environment> env, CallContext* context)
      : GenerateCall(std::move(env), "ModelInfer", context) {}
  InferCall(std::shared_ptr<Environment> env, InferContext* context)
      : GenerateCall(std::move(env), "ModelInfer", context), in_stream_(context) {}

 private:
  absl::StatusOr<Work> Prepare(const grpc::ByteBuffer& bytes) override;
  absl::Status TakeId(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(Accepted accepted) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(TokenEvent tokens) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(VectorEvent vector) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WritePending() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A message with `pending_`, or without a tensor.
  inference::ModelStreamInferResponse Message(bool last, bool has_tensor)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  InferContext* const in_stream_ ABSL_PT_GUARDED_BY(mutex_) = nullptr;
  std::string id_ ABSL_GUARDED_BY(mutex_), model_ ABSL_GUARDED_BY(mutex_);
  bool raw_ ABSL_GUARDED_BY(mutex_) = false, stream_ ABSL_GUARDED_BY(mutex_) = false,
            empty_final_ ABSL_GUARDED_BY(mutex_) = false;
  Text pending_ ABSL_GUARDED_BY(mutex_);
  std::optional<FinishReason> finish_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::vector<float>> vectors_ ABSL_GUARDED_BY(mutex_);  // empty: of a generation
};

}  // namespace sluice::rpc
