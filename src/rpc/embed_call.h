// Embed: the answer at once, with all vectors or scores.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <utility>

#include "rpc/generate_call.h"

namespace sluice::rpc {

class UnaryEmbed final : public GenerateCall {
 public:
  UnaryEmbed(std::shared_ptr<Environment> env, CallContext* context)
      : GenerateCall(std::move(env), "Embed", context) {}

 private:
  absl::StatusOr<Work> Prepare(const grpc::ByteBuffer& bytes) override;
  void Take(Accepted accepted) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(TokenEvent /*tokens*/) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  void Take(VectorEvent vector) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WritePending() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  v1::EmbedResponse answer_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::rpc
