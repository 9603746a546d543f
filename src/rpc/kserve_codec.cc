#include "rpc/kserve_codec.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/errors.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "rpc/codec.h"
#include "sluice/v1/inference.pb.h"

namespace sluice::rpc {
namespace {

namespace json = boost::json;
using google::protobuf::Message;
using inference::InferParameter;
using inference::InferTensorContents;
using Tensor = inference::ModelInferRequest::InferInputTensor;
using Elements = std::vector<json::value>;

constexpr size_t kMaxElements = 65'536;  // of a tensor
constexpr size_t kMaxNameBytes = 64;
constexpr char kTextInput[] = "text_input", kTextOutput[] = "text_output";
constexpr char kSamplingParameters[] = "sampling_parameters", kEmbedding[] = "embedding";

template <typename Scalar>
absl::StatusOr<json::value> Convert(const std::string& name, Scalar scalar) {
  if constexpr (std::is_floating_point_v<Scalar>) {
    if (!std::isfinite(scalar)) return FieldError(name, fmt::format("{} is not finite", name));
  }
  return json::value(scalar);
}
absl::StatusOr<json::value> ConvertText(const std::string& name, std::string_view text) {
  if (!IsValidUtf8(text)) return FieldError(name, fmt::format("{} is not UTF-8", name));
  return json::value(json::string_view(text.data(), text.size()));
}

absl::StatusOr<json::value> Convert(const std::string& name, const InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return Convert(name, parameter.bool_param());
    case InferParameter::kInt64Param:
      return Convert(name, int64_t{parameter.int64_param()});
    case InferParameter::kUint64Param:
      return Convert(name, uint64_t{parameter.uint64_param()});
    case InferParameter::kDoubleParam:
      return Convert(name, parameter.double_param());
    case InferParameter::kStringParam:
      return ConvertText(name, parameter.string_param());
    case InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return FieldError(name, fmt::format("{} has no value", name));
}

absl::Status TooManyElements(const std::string& name) {
  return FieldError(name, fmt::format("{} has more than {} elements", name, kMaxElements));
}

template <typename Number>
absl::StatusOr<Elements> RawNumbers(const std::string& name, std::string_view raw) {
  const size_t count = raw.size() / sizeof(Number);
  if (count > kMaxElements) return TooManyElements(name);
  if (raw.size() % sizeof(Number) != 0)
    return FieldError(name, fmt::format("{}: {} raw bytes are no whole number of elements of {}",
                                        name, raw.size(), sizeof(Number)));
  Elements elements;
  for (size_t i = 0; i < count; ++i) {
    Number number;
    std::memcpy(&number, raw.data() + i * sizeof(Number), sizeof(Number));
    ASSIGN_OR_RETURN(elements.emplace_back(), Convert(name, number));
  }
  return elements;
}

absl::StatusOr<Elements> RawTexts(const std::string& name, std::string_view raw) {
  Elements elements;
  while (!raw.empty()) {
    uint32_t size = 0;
    if (elements.size() == kMaxElements) return TooManyElements(name);
    if (raw.size() >= sizeof(size)) std::memcpy(&size, raw.data(), sizeof(size));
    if (raw.size() < sizeof(size) || raw.size() - sizeof(size) < size)
      return FieldError(name, fmt::format("{}: the raw bytes end within an element", name));
    ASSIGN_OR_RETURN(elements.emplace_back(), ConvertText(name, raw.substr(sizeof(size), size)));
    raw.remove_prefix(sizeof(size) + size);
  }
  return elements;
}

absl::StatusOr<Elements> RawElements(const Tensor& tensor, std::string_view raw) {
  const std::string& name = tensor.name();
  const std::string& type = tensor.datatype();
  if (type == "BYTES") return RawTexts(name, raw);
  if (type == "BOOL") {
    ASSIGN_OR_RETURN(Elements elements, RawNumbers<uint8_t>(name, raw));
    for (json::value& element : elements) element = element.get_uint64() != 0;
    return elements;
  }
  if (type == "INT32") return RawNumbers<int32_t>(name, raw);
  if (type == "INT64") return RawNumbers<int64_t>(name, raw);
  if (type == "UINT32") return RawNumbers<uint32_t>(name, raw);
  if (type == "UINT64") return RawNumbers<uint64_t>(name, raw);
  if (type == "FP32") return RawNumbers<float>(name, raw);
  if (type == "FP64") return RawNumbers<double>(name, raw);
  return FieldError(name, fmt::format("{} has another datatype than BYTES, BOOL, INT32, INT64, "
                                      "UINT32, UINT64, FP32 and FP64",
                                      name));
}

template <typename Repeated>
absl::StatusOr<Elements> Numbers(const std::string& name, const Repeated& numbers) {
  if (static_cast<size_t>(numbers.size()) > kMaxElements) return TooManyElements(name);
  Elements elements;
  for (const auto number : numbers) {
    ASSIGN_OR_RETURN(elements.emplace_back(), Convert(name, number));
  }
  return elements;
}

absl::StatusOr<Elements> ContentElements(const Tensor& tensor) {
  const std::string& name = tensor.name();
  const std::string& type = tensor.datatype();
  const InferTensorContents& contents = tensor.contents();
  if (type == "BOOL") return Numbers(name, contents.bool_contents());
  if (type == "INT32") return Numbers(name, contents.int_contents());
  if (type == "INT64") return Numbers(name, contents.int64_contents());
  if (type == "UINT32") return Numbers(name, contents.uint_contents());
  if (type == "UINT64") return Numbers(name, contents.uint64_contents());
  if (type == "FP32") return Numbers(name, contents.fp32_contents());
  if (type == "FP64") return Numbers(name, contents.fp64_contents());
  if (type != "BYTES") return RawElements(tensor, "");  // which says what is understood
  if (static_cast<size_t>(contents.bytes_contents_size()) > kMaxElements)
    return TooManyElements(name);
  Elements elements;
  for (const std::string& text : contents.bytes_contents()) {
    ASSIGN_OR_RETURN(elements.emplace_back(), ConvertText(name, text));
  }
  return elements;
}

// The elements of input `index`, as many as its shape says.
absl::StatusOr<Elements> InputElements(const inference::ModelInferRequest& message, int index) {
  const Tensor& tensor = message.inputs(index);
  const bool raw = message.raw_input_contents_size() > 0;
  ASSIGN_OR_RETURN(Elements elements, raw ? RawElements(tensor, message.raw_input_contents(index))
                                          : ContentElements(tensor));
  size_t count = 1;
  for (const int64_t dimension : tensor.shape()) {
    if (dimension < 0 || dimension > static_cast<int64_t>(kMaxElements))
      return FieldError(tensor.name(), fmt::format("{} has a dimension of {}; 0 to {} are allowed",
                                                   tensor.name(), dimension, kMaxElements));
    count = std::min(count * static_cast<size_t>(dimension), kMaxElements + 1);
  }
  if (count != elements.size())
    return FieldError(tensor.name(), fmt::format("{} has {} elements; its shape says {}",
                                                 tensor.name(), elements.size(), count));
  return elements;
}

// What is named in errors, which go out as metadata too.
absl::Status CheckName(std::string_view name) {
  const bool is_name =
      !name.empty() && name.size() <= kMaxNameBytes &&
      std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
  if (is_name) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "the name of an input, output or parameter is not 1 to {} ASCII letters, digits and _",
      kMaxNameBytes));
}

absl::Status Put(json::string_view name, json::value value, json::object& fields) {
  RETURN_IF_ERROR(CheckName({name.data(), name.size()}));
  if (fields.emplace(name, std::move(value)).second) return absl::OkStatus();
  const std::string shown(name);
  return FieldError(shown, fmt::format("{} is given twice", shown));
}

// A JSON object's members. What is wrong with it is not told: it may hold a client's text.
absl::Status PutJson(const Elements& elements, json::object& fields) {
  json::error_code error;
  json::value parsed;
  if (elements.size() == 1 && elements[0].is_string()) {
    parsed = json::parse(elements[0].get_string(), error);
  }
  if (error || !parsed.is_object())
    return FieldError(kSamplingParameters, "sampling_parameters is not one JSON object");
  for (auto& member : parsed.get_object())
    RETURN_IF_ERROR(Put(member.key(), std::move(member.value()), fields));
  return absl::OkStatus();
}

// Everything but the texts, by name, whether it came as a parameter, a tensor or a member of
// sampling_parameters.
absl::StatusOr<json::object> TakeFields(const inference::ModelInferRequest& message,
                                        Elements& texts) {
  if (message.raw_input_contents_size() > 0 &&
      message.raw_input_contents_size() != message.inputs_size()) {
    return FieldError("raw_input_contents",
                      fmt::format("raw_input_contents has {} entries; there are {} inputs",
                                  message.raw_input_contents_size(), message.inputs_size()));
  }
  json::object fields;
  for (const auto& [name, parameter] : message.parameters()) {
    RETURN_IF_ERROR(CheckName(name));
    ASSIGN_OR_RETURN(json::value value, Convert(name, parameter));
    RETURN_IF_ERROR(Put(name, std::move(value), fields));
  }
  for (int i = 0; i < message.inputs_size(); ++i) {
    const std::string& name = message.inputs(i).name();
    RETURN_IF_ERROR(CheckName(name));
    ASSIGN_OR_RETURN(Elements elements, InputElements(message, i));
    if (name == kTextInput) {
      if (!texts.empty()) return FieldError(name, fmt::format("{} is given twice", name));
      texts = std::move(elements);
    } else if (name == kSamplingParameters) {
      RETURN_IF_ERROR(PutJson(elements, fields));
    } else if (elements.size() == 1) {
      RETURN_IF_ERROR(Put(name, std::move(elements[0]), fields));
    } else {
      json::array list(elements.begin(), elements.end());
      RETURN_IF_ERROR(Put(name, std::move(list), fields));
    }
  }
  if (texts.empty()) return FieldError(kTextInput, "text_input is missing", "missing_field");
  return fields;
}

absl::StatusOr<bool> TakeBool(const std::string& name, bool otherwise, json::object& fields) {
  const auto found = fields.find(name);
  if (found == fields.end()) return otherwise;
  const json::value value = std::move(found->value());
  fields.erase(found);
  if (!value.is_bool()) return FieldError(name, fmt::format("{} is not a BOOL", name));
  return value.get_bool();
}

absl::StatusOr<absl::Duration> TakeTimeout(json::object& fields) {
  const auto found = fields.find("timeout");
  if (found == fields.end()) return absl::InfiniteDuration();
  json::error_code error;
  const auto microseconds = found->value().to_number<int64_t>(error);
  if (error || microseconds < 0)
    return FieldError("timeout", "timeout is not a number of microseconds");
  fields.erase(found);
  // 0 is how the field's clients say: none.
  return microseconds == 0 ? absl::InfiniteDuration() : absl::Microseconds(microseconds);
}

// Fills fields of `message`, those of `top` or of its message "sampling", by protobuf's rules for
// JSON.
absl::Status Fill(const json::object& fields, std::initializer_list<std::string_view> top,
                  Message& message) {
  const auto* sampling = message.GetDescriptor()->FindFieldByName("sampling");
  for (const auto& member : fields) {
    const std::string name(member.key());
    Message* target = &message;
    if (std::find(top.begin(), top.end(), name) == top.end()) {
      target = sampling == nullptr ? nullptr
                                   : message.GetReflection()->MutableMessage(&message, sampling);
    }
    const auto* field =
        target == nullptr ? nullptr : target->GetDescriptor()->FindFieldByName(name);
    if (field == nullptr)
      return FieldError(name, fmt::format("there is no input or parameter {}", name));
    const bool lacks_list = field->is_repeated() && !field->is_map() && !member.value().is_array();
    const json::object one{
        {name, lacks_list ? json::value(json::array{member.value()}) : member.value()}};
    const std::unique_ptr<Message> parsed(target->New());
    if (!google::protobuf::util::JsonStringToMessage(json::serialize(one), parsed.get()).ok())
      return FieldError(name, fmt::format("{} has a value of the wrong type", name));
    target->MergeFrom(*parsed);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> PromptOf(const json::value& element) {
  if (!element.is_string()) return FieldError(kTextInput, "text_input is not BYTES");
  return std::string(element.get_string());
}

absl::StatusOr<GenerateRequest> Generation(std::string model, const Elements& texts,
                                           const json::object& fields) {
  v1::GenerateRequest message;
  RETURN_IF_ERROR(Fill(fields,
                       {"priority", "parse_special", "skip_special_tokens",
                        "include_stop_str_in_output", "stream_interval"},
                       message));
  if (texts.size() != 1)
    return FieldError(kTextInput,
                      fmt::format("text_input has {} elements; a prompt is one", texts.size()));
  if (message.sampling().has_n() && message.sampling().n() != 1)
    return FieldError("n", "n is not 1: an answer has one choice here");
  if (message.sampling().has_logprobs())
    return FieldError("logprobs", "logprobs are not offered here; sluice.v1.Inference has them");
  message.set_model(std::move(model));
  ASSIGN_OR_RETURN(*message.mutable_text(), PromptOf(texts[0]));
  return DecodeGenerate(std::move(message));
}

absl::StatusOr<EmbedRequest> Embedding(std::string model, const Elements& texts,
                                       const json::object& fields) {
  v1::EmbedRequest message;
  RETURN_IF_ERROR(
      Fill(fields, {"priority", "dimensions", "normalise", "truncate_prompt_tokens"}, message));
  message.set_model(std::move(model));
  for (const json::value& text : texts) {
    ASSIGN_OR_RETURN(*message.add_inputs()->mutable_text(), PromptOf(text));
  }
  return DecodeEmbed(std::move(message));
}

}  // namespace

absl::StatusOr<InferRequest> DecodeInfer(inference::ModelInferRequest message, ModelTask task) {
  if (!message.model_version().empty() && message.model_version() != kModelVersion)
    return absl::NotFoundError(
        fmt::format("the model has no such version; there is {}", kModelVersion));
  InferRequest request;
  request.raw = message.raw_input_contents_size() > 0;
  Elements texts;
  ASSIGN_OR_RETURN(json::object fields, TakeFields(message, texts));
  ASSIGN_OR_RETURN(request.stream, TakeBool("stream", false, fields));
  ASSIGN_OR_RETURN(request.empty_final,
                   TakeBool("triton_enable_empty_final_response", false, fields));
  ASSIGN_OR_RETURN(request.timeout, TakeTimeout(fields));
  ASSIGN_OR_RETURN(const bool excludes, TakeBool("exclude_input_in_output", true, fields));
  if (!excludes)
    return FieldError("exclude_input_in_output",
                      "exclude_input_in_output is false: answers never repeat the prompt");
  const bool generates = task == ModelTask::kGenerate;
  for (const auto& output : message.outputs()) {
    RETURN_IF_ERROR(CheckName(output.name()));
    if (output.name() != (generates ? kTextOutput : kEmbedding))
      return FieldError("outputs", fmt::format("the model has no output {}", output.name()));
  }
  std::string model = std::move(*message.mutable_model_name());
  if (task == ModelTask::kScore)
    return absl::UnimplementedError("models that score pairs are not offered here");
  if (generates) {
    ASSIGN_OR_RETURN(request.work, Generation(std::move(model), texts, fields));
  } else {
    ASSIGN_OR_RETURN(request.work, Embedding(std::move(model), texts, fields));
  }
  return request;
}

void AddTextOutput(Text text, bool raw, inference::ModelInferResponse& response) {
  auto& tensor = *response.add_outputs();
  tensor.set_name(kTextOutput);
  tensor.set_datatype("BYTES");
  tensor.add_shape(1);
  if (!raw) {
    tensor.mutable_contents()->add_bytes_contents(std::move(text).Reveal());
    return;
  }
  std::string& bytes = *response.add_raw_output_contents();
  const auto size = static_cast<uint32_t>(text.size());
  bytes.reserve(sizeof(size) + text.size());
  bytes.append(reinterpret_cast<const char*>(&size), sizeof(size));
  bytes += text.Reveal();
}

void AddVectorOutput(const std::vector<std::vector<float>>& vectors, bool raw,
                     inference::ModelInferResponse& response) {
  auto& tensor = *response.add_outputs();
  tensor.set_name(kEmbedding);
  tensor.set_datatype("FP32");
  tensor.add_shape(static_cast<int64_t>(vectors.size()));
  tensor.add_shape(static_cast<int64_t>(vectors[0].size()));
  std::string* const bytes = raw ? response.add_raw_output_contents() : nullptr;
  for (const std::vector<float>& vector : vectors) {
    if (raw) {
      bytes->append(reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float));
    } else {
      tensor.mutable_contents()->mutable_fp32_contents()->Add(vector.begin(), vector.end());
    }
  }
}

void AddUsage(const Usage& usage, inference::ModelInferResponse& response) {
  auto& parameters = *response.mutable_parameters();
  parameters["prompt_tokens"].set_int64_param(usage.prompt_tokens);
  parameters["output_tokens"].set_int64_param(usage.output_tokens);
  parameters["cached_tokens"].set_int64_param(usage.cached_tokens);
}

inference::ModelMetadataResponse EncodeMetadata(const ModelDescription& model) {
  inference::ModelMetadataResponse response;
  const auto fill = [](auto* tensor, const char* name, const char* datatype,
                       std::initializer_list<int64_t> shape) {
    tensor->set_name(name);
    tensor->set_datatype(datatype);
    tensor->mutable_shape()->Add(shape.begin(), shape.end());
  };
  response.set_name(model.id);
  response.add_versions(kModelVersion);
  response.set_platform("sluice");
  if (model.task == ModelTask::kGenerate) {
    fill(response.add_inputs(), kTextInput, "BYTES", {1});
    fill(response.add_inputs(), "stream", "BOOL", {1});
    fill(response.add_inputs(), kSamplingParameters, "BYTES", {1});
    fill(response.add_outputs(), kTextOutput, "BYTES", {1});
  } else if (model.task == ModelTask::kEmbed) {
    fill(response.add_inputs(), kTextInput, "BYTES", {-1});
    fill(response.add_outputs(), kEmbedding, "FP32", {-1, -1});
  }
  return response;
}

}  // namespace sluice::rpc
