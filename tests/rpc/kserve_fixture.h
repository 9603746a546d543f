// Requests of the Open Inference Protocol, and a test with a generated client.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "kserve/inference.grpc.pb.h"
#include "tests/rpc/rpc_fixture.h"

namespace sluice::rpc {

using inference::GRPCInferenceService;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using inference::ModelStreamInferResponse;

inline TokenEvent Tokens(const std::string& text, int32_t index) {
  TokenEvent event;
  event.index = index;
  event.content = Text(text);
  event.tokens = {index};
  return event;
}

inline TokenEvent LastTokens(const std::string& text, int32_t index) {
  TokenEvent event = Tokens(text, index);
  event.finish = FinishReason::kLength;
  return event;
}

inline ModelInferRequest Request(const std::string& id, bool stream = false) {
  ModelInferRequest request;
  request.set_model_name("fake-1");
  request.set_id(id);
  auto& tensor = *request.add_inputs();
  tensor.set_name("text_input");
  tensor.set_datatype("BYTES");
  tensor.add_shape(1);
  tensor.mutable_contents()->add_bytes_contents("hi");
  (*request.mutable_parameters())["stream"].set_bool_param(stream);
  return request;
}

inline std::string TextOf(const ModelInferResponse& response) {
  return response.outputs_size() == 0 ? "(none)" : response.outputs(0).contents().bytes_contents(0);
}

inline bool IsLast(const ModelStreamInferResponse& message) {
  return message.infer_response().parameters().at("triton_final_response").bool_param();
}

class KserveTest : public RpcTest {
 protected:
  using Stream = grpc::ClientReaderWriter<ModelInferRequest, ModelStreamInferResponse>;

  std::unique_ptr<GRPCInferenceService::Stub> Stub() {
    return GRPCInferenceService::NewStub(Connect());
  }
  std::unique_ptr<Stream> Open(grpc::ClientContext& context,
                               std::chrono::seconds timeout = std::chrono::seconds(60)) {
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    stub_ = Stub();
    return stub_->ModelStreamInfer(&context);
  }
  grpc::Status Infer(const ModelInferRequest& request, ModelInferResponse& response) {
    grpc::ClientContext context;
    return Stub()->ModelInfer(&context, request, &response);
  }

  std::unique_ptr<GRPCInferenceService::Stub> stub_;
};

}  // namespace sluice::rpc
