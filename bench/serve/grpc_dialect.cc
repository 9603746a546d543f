#include "bench/serve/grpc_dialect.h"

#include <fmt/format.h>

#include <cstring>
#include <iterator>
#include <utility>

#include "base/status_macros.h"
#include "bench/serve/request_body.h"
#include "kserve/inference.pb.h"
#include "sluice/v1/inference.pb.h"

namespace sluice::load {
namespace {

constexpr size_t kMaxErrorText = 200;

bool Parse(std::string_view bytes, google::protobuf::Message& message, Exchange& exchange) {
  const bool parsed = message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (!parsed) exchange.error = "malformed_event";
  return parsed;
}

// As the other protocols write it; "": none.
const char* ReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_TOOL_CALLS:
      return "tool_calls";
    default:
      return "";
  }
}

// sluice.v1.Inference/GenerateStream.
class SluiceDialect final : public GrpcDialect {
 public:
  SluiceDialect(const LoadOptions& options, const std::string& model) : seeded_(options.seed_each) {
    fixed_.set_model(model);
    fixed_.mutable_sampling()->set_temperature(options.temperature);
    fixed_.mutable_sampling()->set_ignore_eos(options.ignore_eos);
  }

  [[nodiscard]] std::string_view path() const override {
    return "/sluice.v1.Inference/GenerateStream";
  }

  [[nodiscard]] std::string Encode(const Exchange& exchange) const override {
    v1::GenerateRequest request = fixed_;
    if (seeded_) request.mutable_sampling()->set_seed(exchange.seed);
    request.mutable_sampling()->set_max_tokens(exchange.conversation.max_tokens);
    for (const Message& message : exchange.conversation.messages) {
      v1::ChatMessage* one = request.mutable_chat()->add_messages();
      one->set_role(message.role);
      one->set_content(message.content);
    }
    return request.SerializeAsString();
  }

  void Take(std::string_view message, Exchange& exchange, int64_t now_ns,
            ExchangeEvents& events) override {
    if (!Parse(message, event_, exchange)) return;
    if (event_.has_delta()) {
      const v1::Delta& delta = event_.delta();
      if (!delta.content().empty()) events.OnText(exchange, delta.content(), now_ns);
      exchange.finish_reason = ReasonName(delta.finish_reason());
    } else if (event_.has_end()) {
      const v1::Usage& usage = event_.end().usage();
      exchange.prompt_tokens = usage.prompt_tokens();
      exchange.output_tokens = usage.output_tokens();
      exchange.cached_tokens = usage.cached_tokens();
      exchange.saw_done = true;
    }
  }

 private:
  const bool seeded_;
  v1::GenerateRequest fixed_;
  v1::GenerateEvent event_;
};

// inference.GRPCInferenceService, with the tensors of Triton's vLLM backend. Other servers leave
// out what Sluice tells in parameters: reason, usage, and a failure's status.
class KserveDialect final : public GrpcDialect {
 public:
  KserveDialect(const LoadOptions& options, const std::string& model, std::string sampling)
      : seeded_(options.seed_each), streams_(options.stream), sampling_(std::move(sampling)) {
    fixed_.set_model_name(model);
    AddInput("text_input", "BYTES");
    AddInput("sampling_parameters", "BYTES");
    if (!streams_) return;
    AddInput("stream", "BOOL")->mutable_contents()->add_bool_contents(true);
  }

  [[nodiscard]] std::string_view path() const override {
    return streams_ ? "/inference.GRPCInferenceService/ModelStreamInfer"
                    : "/inference.GRPCInferenceService/ModelInfer";
  }

  [[nodiscard]] std::string Encode(const Exchange& exchange) const override {
    inference::ModelInferRequest request = fixed_;
    std::string sampling = sampling_;
    if (seeded_) fmt::format_to(std::back_inserter(sampling), ",\"seed\":{}", exchange.seed);
    fmt::format_to(std::back_inserter(sampling), ",\"max_tokens\":{}}}",
                   exchange.conversation.max_tokens);
    request.set_id(fmt::to_string(exchange.id));
    SetText(request, 0, PlainText(exchange.conversation));
    SetText(request, 1, std::move(sampling));
    return request.SerializeAsString();
  }

  void Take(std::string_view message, Exchange& exchange, int64_t now_ns,
            ExchangeEvents& events) override {
    if (!streams_) {
      inference::ModelInferResponse& response = *event_.mutable_infer_response();
      if (Parse(message, response, exchange)) TakeResponse(exchange, now_ns, events);
    } else if (Parse(message, event_, exchange)) {
      if (event_.error_message().empty()) return TakeResponse(exchange, now_ns, events);
      const int64_t status = Integer("grpc_status");
      exchange.error = status < 0 ? "infer_error" : fmt::format("grpc_{}", status);
      exchange.message = event_.error_message().substr(0, kMaxErrorText);
    }
  }

 private:
  inference::ModelInferRequest::InferInputTensor* AddInput(const char* name, const char* type) {
    auto* const tensor = fixed_.add_inputs();
    tensor->set_name(name);
    tensor->set_datatype(type);
    tensor->add_shape(1);
    return tensor;
  }
  static void SetText(inference::ModelInferRequest& request, int input, std::string text) {
    request.mutable_inputs(input)->mutable_contents()->add_bytes_contents(std::move(text));
  }

  void TakeResponse(Exchange& exchange, int64_t now_ns, ExchangeEvents& events) {
    const std::string_view text = Text();
    if (!text.empty()) events.OnText(exchange, text, now_ns);
    exchange.prompt_tokens = Integer("prompt_tokens", exchange.prompt_tokens);
    exchange.output_tokens = Integer("output_tokens", exchange.output_tokens);
    exchange.cached_tokens = Integer("cached_tokens", exchange.cached_tokens);
    const auto& parameters = event_.infer_response().parameters();
    if (const auto reason = parameters.find("finish_reason"); reason != parameters.end())
      exchange.finish_reason = reason->second.string_param();
    exchange.saw_done = true;  // the call's own status says whether more was to come
  }

  [[nodiscard]] std::string_view Text() const {
    const inference::ModelInferResponse& response = event_.infer_response();
    for (int i = 0; i < response.outputs_size(); ++i) {
      const auto& tensor = response.outputs(i);
      if (tensor.name() != "text_output" || tensor.datatype() != "BYTES") continue;
      if (tensor.contents().bytes_contents_size() > 0) return tensor.contents().bytes_contents(0);
      uint32_t size = 0;
      if (i >= response.raw_output_contents_size()) continue;
      std::string_view raw = response.raw_output_contents(i);
      if (raw.size() < sizeof(size)) continue;
      std::memcpy(&size, raw.data(), sizeof(size));
      return raw.substr(sizeof(size), size);
    }
    return {};
  }

  [[nodiscard]] int64_t Integer(const char* name, int64_t otherwise = -1) const {
    const auto& parameters = event_.infer_response().parameters();
    const auto found = parameters.find(name);
    return found == parameters.end() ? otherwise : found->second.int64_param();
  }

  const bool seeded_, streams_;
  const std::string sampling_;  // JSON that lacks its end
  inference::ModelInferRequest fixed_;
  inference::ModelStreamInferResponse event_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcDialect>> GrpcDialect::Create(const LoadOptions& options,
                                                                 const std::string& model) {
  if (options.protocol == "grpc") return std::make_unique<SluiceDialect>(options, model);
  ASSIGN_OR_RETURN(const std::string extra, ExtraFields(options.extra_body));
  std::string sampling = fmt::format("{{\"temperature\":{}", options.temperature);
  if (options.ignore_eos) sampling += ",\"ignore_eos\":true";
  return std::make_unique<KserveDialect>(options, model, sampling + extra);
}

}  // namespace sluice::load
