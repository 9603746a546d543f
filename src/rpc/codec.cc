#include "rpc/codec.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <utility>

#include "base/errors.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "sluice/v1/error_details.pb.h"

namespace sluice::rpc {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr size_t kMaxFields = 65'536;
constexpr size_t kMaxStatusMessageBytes = 1024;
constexpr int32_t kTextMaxTokens =
    16;  // of a plain text or token prompt without max_tokens, as /v1/completions

// Counts the fields of `input` and of its known submessages into `count`. False: malformed, or over
// kMaxFields.
bool CountFields(CodedInputStream& input, const Descriptor& type, size_t& count) {
  while (const uint32_t tag = input.ReadTag()) {
    if (++count > kMaxFields) return false;
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    const bool is_message =
        field != nullptr && field->type() == FieldDescriptor::TYPE_MESSAGE &&
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
    if (!is_message) {
      if (!WireFormatLite::SkipField(&input, tag)) return false;
      continue;
    }
    uint32_t size = 0;
    if (!input.ReadVarint32(&size) || size > static_cast<uint32_t>(std::numeric_limits<int>::max()))
      return false;
    const auto limit = input.PushLimit(static_cast<int>(size));
    if (!CountFields(input, *field->message_type(), count)) return false;
    input.PopLimit(limit);
  }
  return input.ConsumedEntireMessage();
}

SamplingOptions DecodeSampling(v1::Sampling& message) {
  SamplingOptions s;
  if (message.has_temperature()) s.temperature = message.temperature();
  if (message.has_top_k()) s.top_k = message.top_k();
  if (message.has_top_p()) s.top_p = message.top_p();
  if (message.has_min_p()) s.min_p = message.min_p();
  if (message.has_repetition_penalty()) s.repetition_penalty = message.repetition_penalty();
  if (message.has_presence_penalty()) s.presence_penalty = message.presence_penalty();
  if (message.has_frequency_penalty()) s.frequency_penalty = message.frequency_penalty();
  s.logit_bias.insert(message.logit_bias().begin(), message.logit_bias().end());
  if (message.has_min_tokens()) s.min_tokens = message.min_tokens();
  if (message.has_max_tokens()) s.max_tokens = message.max_tokens();
  for (std::string& stop : *message.mutable_stop()) s.stop.emplace_back(std::move(stop));
  s.stop_token_ids.assign(message.stop_token_ids().begin(), message.stop_token_ids().end());
  s.ignore_eos = message.ignore_eos();
  if (message.has_seed()) s.seed = message.seed();
  if (message.has_n()) s.n = message.n();
  if (message.has_logprobs()) s.num_logprobs = message.logprobs();
  return s;
}

std::vector<ChatMessage> DecodeChat(v1::ChatPrompt& chat) {
  std::vector<ChatMessage> messages;
  messages.reserve(static_cast<size_t>(chat.messages_size()));
  for (v1::ChatMessage& message : *chat.mutable_messages()) {
    messages.push_back(
        {std::move(*message.mutable_role()), Text(std::move(*message.mutable_content()))});
  }
  return messages;
}

bool AddGenerationPrompt(const v1::ChatPrompt& chat) {
  return !chat.has_add_generation_prompt() || chat.add_generation_prompt();
}

v1::TokenLogprob EncodeLogprob(TokenLogprob logprob) {
  v1::TokenLogprob message;
  message.set_token(logprob.token);
  message.set_token_bytes(std::move(logprob.bytes).Reveal());
  message.set_logprob(logprob.logprob);
  for (TokenLogprob::Alternative& alternative : logprob.top) {
    v1::TokenLogprob::Alternative& top = *message.add_top();
    top.set_token(alternative.token);
    top.set_token_bytes(std::move(alternative.bytes).Reveal());
    top.set_logprob(alternative.logprob);
  }
  return message;
}

// Delta and Choice have the same fields.
template <typename Message>
size_t Merge(TokenEvent event, Message& message) {
  size_t bytes = event.content.size() + 5 * event.tokens.size();
  if (!event.content.empty()) message.mutable_content()->append(std::move(event.content).Reveal());
  for (const TokenId token : event.tokens) message.add_tokens(token);
  for (TokenLogprob& logprob : event.logprobs) {
    v1::TokenLogprob& added = *message.add_logprobs();
    added = EncodeLogprob(std::move(logprob));
    bytes += added.ByteSizeLong() + 4;
  }
  if (event.finish) message.set_finish_reason(EncodeFinish(*event.finish));
  return bytes;
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  const std::string name(message.GetDescriptor()->name());
  grpc::Slice slice;
  if (!bytes.DumpToSingleSlice(&slice).ok() || slice.size() > std::numeric_limits<int>::max()) {
    return absl::InvalidArgumentError(fmt::format("the {} could not be read", name));
  }
  const int size = static_cast<int>(slice.size());
  CodedInputStream input(slice.begin(), size);
  size_t count = 0;
  if (!CountFields(input, *message.GetDescriptor(), count)) {
    if (count > kMaxFields) {
      return absl::InvalidArgumentError(
          fmt::format("the {} has more than {} fields", name, kMaxFields));
    }
    return absl::InvalidArgumentError(fmt::format("the bytes are not a {} message", name));
  }
  if (!message.ParseFromArray(slice.begin(), size)) {
    return absl::InvalidArgumentError(
        fmt::format("the bytes are not a {} message, or one of its strings is not UTF-8", name));
  }
  return absl::OkStatus();
}

absl::StatusOr<grpc::ByteBuffer> SerializeMessage(const google::protobuf::Message& message) {
  const size_t size = message.ByteSizeLong();
  if (size > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return absl::InternalError(fmt::format("an answer of {} bytes does not fit one message", size));
  }
  grpc::Slice slice(size);
  message.SerializeWithCachedSizesToArray(
      const_cast<uint8_t*>(slice.begin()));  // ours alone until it is in a buffer
  return grpc::ByteBuffer(&slice, 1);
}

absl::StatusOr<GenerateRequest> DecodeGenerate(v1::GenerateRequest message) {
  GenerateRequest request;
  request.model = std::move(*message.mutable_model());
  switch (message.prompt_case()) {
    case v1::GenerateRequest::kText:
      request.prompt = Text(std::move(*message.mutable_text()));
      request.default_max_tokens = kTextMaxTokens;
      break;
    case v1::GenerateRequest::kChat:
      request.add_generation_prompt = AddGenerationPrompt(message.chat());
      request.prompt = DecodeChat(*message.mutable_chat());
      break;
    case v1::GenerateRequest::kTokens:
      request.prompt =
          std::vector<TokenId>(message.tokens().ids().begin(), message.tokens().ids().end());
      request.default_max_tokens = kTextMaxTokens;
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return FieldError("prompt", "the prompt is missing: one of text, chat or tokens is needed",
                        "missing_field");
  }
  request.parse_special = !message.has_parse_special() || message.parse_special();
  request.skip_special_tokens = !message.has_skip_special_tokens() || message.skip_special_tokens();
  request.include_stop_str_in_output = message.include_stop_str_in_output();
  if (message.has_stream_interval()) request.stream_interval = message.stream_interval();
  request.sampling = DecodeSampling(*message.mutable_sampling());
  request.priority = message.priority();
  request.idempotency_key = std::move(*message.mutable_idempotency_key());
  request.resume_output_tokens.assign(message.resume_output_tokens().begin(),
                                      message.resume_output_tokens().end());
  return request;
}

absl::StatusOr<EmbedRequest> DecodeEmbed(v1::EmbedRequest message) {
  EmbedRequest request;
  request.model = std::move(*message.mutable_model());
  request.inputs.reserve(static_cast<size_t>(message.inputs_size()));
  for (v1::EmbedInput& input : *message.mutable_inputs()) {
    switch (input.input_case()) {
      case v1::EmbedInput::kText:
        request.inputs.emplace_back(Text(std::move(*input.mutable_text())));
        break;
      case v1::EmbedInput::kTokens:
        request.inputs.emplace_back(
            std::vector<TokenId>(input.tokens().ids().begin(), input.tokens().ids().end()));
        break;
      case v1::EmbedInput::kPair:
        request.inputs.emplace_back(
            TextPair{Text(std::move(*input.mutable_pair()->mutable_first())),
                     Text(std::move(*input.mutable_pair()->mutable_second()))});
        break;
      case v1::EmbedInput::INPUT_NOT_SET:
        return FieldError(
            "inputs", fmt::format("inputs[{}] has no text, tokens or pair", request.inputs.size()));
    }
  }
  if (message.has_dimensions()) request.dimensions = message.dimensions();
  if (message.has_truncate_prompt_tokens())
    request.truncate_tokens = message.truncate_prompt_tokens();
  if (message.has_normalise()) request.normalise = message.normalise();
  request.priority = message.priority();
  return request;
}

absl::StatusOr<TokenizeRequest> DecodeTokenize(v1::TokenizeRequest message) {
  TokenizeRequest request;
  request.model = std::move(*message.mutable_model());
  switch (message.prompt_case()) {
    case v1::TokenizeRequest::kText:
      request.prompt = Text(std::move(*message.mutable_text()));
      break;
    case v1::TokenizeRequest::kChat:
      request.add_generation_prompt = AddGenerationPrompt(message.chat());
      request.prompt = DecodeChat(*message.mutable_chat());
      break;
    case v1::TokenizeRequest::PROMPT_NOT_SET:
      return FieldError("prompt", "the prompt is missing: one of text or chat is needed",
                        "missing_field");
  }
  request.parse_special = !message.has_parse_special() || message.parse_special();
  request.add_special_tokens = !message.has_add_special_tokens() || message.add_special_tokens();
  return request;
}

v1::TokenizeResponse EncodeTokenize(TokenizeResult result) {
  v1::TokenizeResponse message;
  message.mutable_tokens()->Add(result.tokens.begin(), result.tokens.end());
  for (Text& bytes : result.token_bytes) message.add_token_bytes(std::move(bytes).Reveal());
  message.set_max_model_len(result.max_model_len);
  return message;
}

v1::DetokenizeResponse EncodeDetokenize(Text text) {
  v1::DetokenizeResponse message;
  message.set_text(std::move(text).Reveal());
  return message;
}

v1::ListModelsResponse EncodeModels(const std::vector<ModelDescription>& models) {
  v1::ListModelsResponse message;
  for (const ModelDescription& description : models) {
    v1::Model& model = *message.add_models();
    model.set_id(description.id);
    for (const std::string& alias : description.aliases) model.add_aliases(alias);
    model.set_created(description.created);
    model.set_max_model_len(description.max_model_len);
    model.set_architecture(description.architecture);
  }
  return message;
}

v1::Usage EncodeUsage(const Usage& usage) {
  v1::Usage message;
  message.set_prompt_tokens(usage.prompt_tokens);
  message.set_output_tokens(usage.output_tokens);
  message.set_cached_tokens(usage.cached_tokens);
  return message;
}

v1::FinishReason EncodeFinish(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kToolCalls:
      return v1::FINISH_REASON_TOOL_CALLS;
    case FinishReason::kCancelled:
    case FinishReason::kDeadline:
    case FinishReason::kError:
      break;  // the call's status says which
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

size_t MergeInto(TokenEvent event, v1::Delta& delta) {
  if (delta.tokens().empty()) delta.set_index(event.index);
  delta.set_choice(event.choice);
  return Merge(std::move(event), delta);
}

size_t MergeInto(TokenEvent event, v1::Choice& choice) {
  choice.set_index(event.choice);
  return Merge(std::move(event), choice);
}

grpc::Status EncodeStatus(const absl::Status& status, absl::Duration retry_after) {
  if (status.ok()) return grpc::Status::OK;
  std::string message;  // cut between characters: it also travels within messages
  AppendWholeCharacters(
      {status.message().data(), std::min(status.message().size(), kMaxStatusMessageBytes)},
      message);
  const auto code = static_cast<grpc::StatusCode>(ToWireError(status).grpc_code);
  if (retry_after <= absl::ZeroDuration()) return {code, message};
  v1::RetryInfo retry;
  const int64_t seconds = absl::IDivDuration(retry_after, absl::Seconds(1), &retry_after);
  retry.mutable_retry_delay()->set_seconds(seconds);
  retry.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(retry_after)));
  v1::StatusDetails details;
  details.set_code(static_cast<int32_t>(code));
  details.set_message(message);
  google::protobuf::Any& any = *details.add_details();
  any.set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  any.set_value(retry.SerializeAsString());
  return {code, message, details.SerializeAsString()};
}

std::string ProtoField(std::string_view param) {
  constexpr std::array<std::string_view, 14> kSampling = {
      "temperature",       "top_k",      "top_p",      "min_p",      "repetition_penalty",
      "presence_penalty",  "n",          "logit_bias", "min_tokens", "stop_token_ids",
      "frequency_penalty", "ignore_eos", "seed",       "stop"};
  const size_t end = std::min(param.find_first_of(".["), param.size());
  const std::string_view head = param.substr(0, end);
  const std::string_view rest = param.substr(end);
  if (std::find(kSampling.begin(), kSampling.end(), head) != kSampling.end())
    return fmt::format("sampling.{}", param);
  if (head == "max_tokens" || head == "max_completion_tokens")
    return fmt::format("sampling.max_tokens{}", rest);
  if (head == "logprobs" || head == "top_logprobs" || head == "num_logprobs")
    return "sampling.logprobs";
  if (head == "input") return fmt::format("inputs{}", rest);
  if (head == "messages") return fmt::format("chat.{}", param);
  return std::string(param);
}

}  // namespace sluice::rpc
