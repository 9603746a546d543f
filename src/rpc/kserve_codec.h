// inference.* messages (the Open Inference Protocol v2) to and from the types of include/sluice.
// docs/api/kserve.md says which tensors and parameters there are. Pure functions; bytes from the
// wire are hostile.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kserve/inference.pb.h"
#include "sluice/service.h"
#include "sluice/types.h"

namespace sluice::rpc {

// The one version of every model.
inline constexpr char kModelVersion[] = "1";

struct InferRequest {
  std::variant<GenerateRequest, EmbedRequest> work;
  // How the answer is to look:
  bool raw = false;          // tensors as raw bytes, as the request's
  bool stream = false;       // as it is made
  bool empty_final = false;  // streamed: the last message has no tensor
  absl::Duration timeout = absl::InfiniteDuration();
};

// What a request asks of a model of `task`. Text is moved out of the message. request_id, tenant
// and deadline are the caller's to fill. Errors: InvalidArgument that names the tensor or
// parameter, NotFound (version); the values of sampling are checked by the Service.
absl::StatusOr<InferRequest> DecodeInfer(inference::ModelInferRequest message, ModelTask task);

// Output tensors. `raw`: as InferRequest's.
void AddTextOutput(Text text, bool raw, inference::ModelInferResponse& response);
// Shape [vectors.size(), elements of one]; all are of one size, and there is one at least.
void AddVectorOutput(const std::vector<std::vector<float>>& vectors, bool raw,
                     inference::ModelInferResponse& response);
void AddUsage(const Usage& usage, inference::ModelInferResponse& response);

inference::ModelMetadataResponse EncodeMetadata(const ModelDescription& model);

}  // namespace sluice::rpc
