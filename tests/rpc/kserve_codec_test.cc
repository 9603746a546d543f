#include "rpc/kserve_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "base/errors.h"

namespace sluice::rpc {
namespace {

using ::testing::HasSubstr;

inference::ModelInferRequest::InferInputTensor& Input(inference::ModelInferRequest& request,
                                                      const char* name, const char* datatype,
                                                      int64_t elements = 1) {
  auto& tensor = *request.add_inputs();
  tensor.set_name(name);
  tensor.set_datatype(datatype);
  tensor.add_shape(elements);
  return tensor;
}

inference::ModelInferRequest Prompt(const std::string& text) {
  inference::ModelInferRequest request;
  request.set_model_name("m");
  Input(request, "text_input", "BYTES").mutable_contents()->add_bytes_contents(text);
  return request;
}

GenerateRequest Generation(inference::ModelInferRequest message) {
  auto request = DecodeInfer(std::move(message), ModelTask::kGenerate);
  EXPECT_TRUE(request.ok()) << request.status();
  return request.ok() ? std::get<GenerateRequest>(request->work) : GenerateRequest();
}

// The error's field and message: "field: message".
std::string Error(inference::ModelInferRequest message, ModelTask task = ModelTask::kGenerate) {
  const auto request = DecodeInfer(std::move(message), task);
  if (request.ok()) return "none";
  return ErrorParam(request.status()) + ": " + std::string(request.status().message());
}

template <typename Number>
std::string Raw(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof(number)};
}
std::string RawText(const std::string& text) {
  return Raw(static_cast<uint32_t>(text.size())) + text;
}

TEST(KserveCodec, ATextAloneTakesTheDefaults) {
  const GenerateRequest request = Generation(Prompt("Hello"));
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(std::get<Text>(request.prompt).Reveal(), "Hello");
  EXPECT_FALSE(request.sampling.temperature.has_value());
  EXPECT_FALSE(request.sampling.max_tokens.has_value());
  EXPECT_EQ(request.default_max_tokens, 16);
}

TEST(KserveCodec, ParametersTensorsAndJsonSayTheSame) {
  constexpr uint64_t kSeed = std::numeric_limits<uint64_t>::max() - 2;  // no double holds it

  inference::ModelInferRequest parameters = Prompt("x");
  auto& map = *parameters.mutable_parameters();
  map["temperature"].set_double_param(0.25);
  map["max_tokens"].set_int64_param(7);
  map["seed"].set_uint64_param(kSeed);
  map["ignore_eos"].set_bool_param(true);
  map["stop"].set_string_param("end");

  inference::ModelInferRequest tensors = Prompt("x");
  Input(tensors, "temperature", "FP32").mutable_contents()->add_fp32_contents(0.25F);
  Input(tensors, "max_tokens", "INT32").mutable_contents()->add_int_contents(7);
  Input(tensors, "seed", "UINT64").mutable_contents()->add_uint64_contents(kSeed);
  Input(tensors, "ignore_eos", "BOOL").mutable_contents()->add_bool_contents(true);
  Input(tensors, "stop", "BYTES").mutable_contents()->add_bytes_contents("end");

  inference::ModelInferRequest raw;
  raw.set_model_name("m");
  Input(raw, "temperature", "FP64");
  raw.add_raw_input_contents(Raw(0.25));
  Input(raw, "max_tokens", "INT64");
  raw.add_raw_input_contents(Raw(int64_t{7}));
  Input(raw, "text_input", "BYTES");
  raw.add_raw_input_contents(RawText("x"));
  Input(raw, "seed", "UINT64");
  raw.add_raw_input_contents(Raw(kSeed));
  Input(raw, "ignore_eos", "BOOL");
  raw.add_raw_input_contents(Raw(uint8_t{1}));
  Input(raw, "stop", "BYTES");
  raw.add_raw_input_contents(RawText("end"));

  inference::ModelInferRequest json = Prompt("x");
  Input(json, "sampling_parameters", "BYTES")
      .mutable_contents()
      ->add_bytes_contents(R"({"temperature":"0.25","max_tokens":7,"stop":["end"],)"
                           R"("seed":"18446744073709551613","ignore_eos":true,"top_k":null})");

  for (const inference::ModelInferRequest& message : {parameters, tensors, raw, json}) {
    const GenerateRequest request = Generation(message);
    EXPECT_EQ(std::get<Text>(request.prompt).Reveal(), "x");
    EXPECT_EQ(request.sampling.temperature, 0.25);
    EXPECT_EQ(request.sampling.max_tokens, 7);
    EXPECT_EQ(request.sampling.seed, kSeed);
    EXPECT_TRUE(request.sampling.ignore_eos);
    ASSERT_EQ(request.sampling.stop.size(), 1U);
    EXPECT_EQ(request.sampling.stop[0].Reveal(), "end");
    EXPECT_FALSE(request.sampling.top_k.has_value());
  }
}

TEST(KserveCodec, ListsAndMapsCome) {
  inference::ModelInferRequest message = Prompt("x");
  auto& stop = Input(message, "stop", "BYTES", 2);
  stop.mutable_contents()->add_bytes_contents("a");
  stop.mutable_contents()->add_bytes_contents("b");
  Input(message, "sampling_parameters", "BYTES")
      .mutable_contents()
      ->add_bytes_contents(R"({"logit_bias":{"5":-1.5},"stop_token_ids":[3,4]})");
  const GenerateRequest request = Generation(message);
  EXPECT_EQ(request.sampling.stop.size(), 2U);
  EXPECT_EQ(request.sampling.stop_token_ids, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(request.sampling.logit_bias, (std::map<int64_t, double>{{5, -1.5}}));
}

TEST(KserveCodec, HowTheAnswerIsToLook) {
  inference::ModelInferRequest message = Prompt("x");
  Input(message, "stream", "BOOL").mutable_contents()->add_bool_contents(true);
  Input(message, "exclude_input_in_output", "BOOL").mutable_contents()->add_bool_contents(true);
  (*message.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  (*message.mutable_parameters())["timeout"].set_int64_param(1'500'000);
  (*message.mutable_parameters())["priority"].set_uint64_param(3);
  (*message.mutable_parameters())["skip_special_tokens"].set_bool_param(false);
  message.add_outputs()->set_name("text_output");
  const auto request = DecodeInfer(message, ModelTask::kGenerate);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->stream);
  EXPECT_TRUE(request->empty_final);
  EXPECT_FALSE(request->raw);
  EXPECT_EQ(request->timeout, absl::Seconds(1.5));
  EXPECT_EQ(std::get<GenerateRequest>(request->work).priority, 3);
  EXPECT_FALSE(std::get<GenerateRequest>(request->work).skip_special_tokens);
  (*message.mutable_parameters())["timeout"].set_int64_param(0);
  EXPECT_EQ(DecodeInfer(message, ModelTask::kGenerate)->timeout, absl::InfiniteDuration());
}

TEST(KserveCodec, AnEmbeddingTakesManyTexts) {
  inference::ModelInferRequest message;
  auto& texts = Input(message, "text_input", "BYTES", 2);
  texts.mutable_contents()->add_bytes_contents("a");
  texts.mutable_contents()->add_bytes_contents("b");
  (*message.mutable_parameters())["dimensions"].set_int64_param(64);
  const auto request = DecodeInfer(message, ModelTask::kEmbed);
  ASSERT_TRUE(request.ok()) << request.status();
  const auto& embed = std::get<EmbedRequest>(request->work);
  ASSERT_EQ(embed.inputs.size(), 2U);
  EXPECT_EQ(std::get<Text>(embed.inputs[1]).Reveal(), "b");
  EXPECT_EQ(embed.dimensions, 64);
  (*message.mutable_parameters())["temperature"].set_double_param(1);
  EXPECT_EQ(Error(message, ModelTask::kEmbed),
            "temperature: there is no input or parameter temperature");
}

TEST(KserveCodec, RefusalsNameTheField) {
  EXPECT_THAT(Error(inference::ModelInferRequest()),
              HasSubstr("text_input: text_input is missing"));
  const auto with = [](const char* name, const auto& set) {
    inference::ModelInferRequest message = Prompt("x");
    set((*message.mutable_parameters())[name]);
    return Error(std::move(message));
  };
  const auto text = [](const char* value) {
    return [value](inference::InferParameter& p) { p.set_string_param(value); };
  };
  EXPECT_THAT(with("nope", text("1")), HasSubstr("nope: there is no input or parameter nope"));
  EXPECT_THAT(with("model", text("1")), HasSubstr("no input or parameter model"));
  EXPECT_THAT(with("temperature", text("hot")), HasSubstr("temperature: temperature has a value"));
  EXPECT_THAT(with("max_tokens", [](auto& p) { p.set_double_param(1.5); }),
              HasSubstr("max_tokens has a value of the wrong type"));
  EXPECT_THAT(with("max_tokens", [](auto&) {}), HasSubstr("max_tokens has no value"));
  EXPECT_THAT(with("stop", text("\xff")), HasSubstr("stop is not UTF-8"));
  EXPECT_THAT(with("top_p", [](auto& p) { p.set_double_param(std::nan("")); }),
              HasSubstr("top_p is not finite"));
  EXPECT_THAT(with("stream", text("yes")), HasSubstr("stream is not a BOOL"));
  EXPECT_THAT(with("timeout", [](auto& p) { p.set_int64_param(-1); }), HasSubstr("timeout: "));
  EXPECT_THAT(with("exclude_input_in_output", [](auto& p) { p.set_bool_param(false); }),
              HasSubstr("never repeat the prompt"));
  EXPECT_THAT(with("n", [](auto& p) { p.set_int64_param(2); }), HasSubstr("n is not 1"));
  EXPECT_THAT(with("logprobs", [](auto& p) { p.set_int64_param(2); }), HasSubstr("logprobs"));

  inference::ModelInferRequest message = Prompt("x");
  Input(message, "text_input", "BYTES").mutable_contents()->add_bytes_contents("y");
  EXPECT_THAT(Error(message), HasSubstr("text_input is given twice"));
  message = Prompt("x");
  (*message.mutable_parameters())["top_k"].set_int64_param(1);
  Input(message, "top_k", "INT32").mutable_contents()->add_int_contents(1);
  EXPECT_THAT(Error(message), HasSubstr("top_k is given twice"));
  message = Prompt("x");
  message.set_model_version("2");
  EXPECT_THAT(Error(message), HasSubstr("no such version"));
  message = Prompt("x");
  message.add_outputs()->set_name("logits");
  EXPECT_THAT(Error(message), HasSubstr("no output logits"));
  message.Clear();
  Input(message, "text_input", "INT32").mutable_contents()->add_int_contents(7);
  EXPECT_THAT(Error(message), HasSubstr("text_input is not BYTES"));
  message = Prompt("\xc3");
  EXPECT_THAT(Error(message), HasSubstr("text_input is not UTF-8"));
  EXPECT_THAT(Error(Prompt("x"), ModelTask::kScore), HasSubstr("score pairs"));
}

TEST(KserveCodec, WhatJsonSaysIsNotRepeated) {
  for (const char* json : {"{\"stop\":[\"secret", "[\"secret\"]", "{\"secret\":1}x",
                           "{\"stop\":\"\xff secret\"}", "{\"seed\":\"secret\"}"}) {
    inference::ModelInferRequest message = Prompt("x");
    Input(message, "sampling_parameters", "BYTES").mutable_contents()->add_bytes_contents(json);
    const std::string error = Error(message);
    EXPECT_NE(error, "none");
    EXPECT_EQ(error.find("secret"), std::string::npos) << error;
  }
}

TEST(KserveCodec, TensorsThatDoNotFitTheirShape) {
  inference::ModelInferRequest message = Prompt("x");
  message.mutable_inputs(0)->add_shape(2);
  EXPECT_THAT(Error(message), HasSubstr("text_input has 1 elements; its shape says 2"));
  message.mutable_inputs(0)->set_shape(1, -1);
  EXPECT_THAT(Error(message), HasSubstr("a dimension of -1"));
  message.mutable_inputs(0)->set_shape(1, std::numeric_limits<int64_t>::max());
  EXPECT_THAT(Error(message), HasSubstr("a dimension of 9223372036854775807"));
  message = Prompt("x");
  for (int i = 0; i < 8; ++i) message.mutable_inputs(0)->add_shape(65'536);
  EXPECT_THAT(Error(message), HasSubstr("its shape says"));
  message = Prompt("x");
  message.mutable_inputs(0)->add_shape(1);  // Triton's batch dimension
  EXPECT_EQ(Error(message), "none");
  message.mutable_inputs(0)->set_datatype("FP16");
  EXPECT_THAT(Error(message), HasSubstr("another datatype"));
}

TEST(KserveCodec, RawBytesThatAreCut) {
  inference::ModelInferRequest message;
  Input(message, "text_input", "BYTES");
  message.add_raw_input_contents(RawText("hello"));
  EXPECT_EQ(Error(message), "none");
  for (const std::string& raw :
       {std::string("\5\0\0", 3), RawText("hello").substr(0, 8), Raw(uint32_t{0xffffffff})}) {
    message.set_raw_input_contents(0, raw);
    EXPECT_THAT(Error(message), HasSubstr("end within an element"));
  }
  message.set_raw_input_contents(0, RawText("hello"));
  message.add_raw_input_contents("");
  EXPECT_THAT(Error(message), HasSubstr("raw_input_contents has 2 entries; there are 1 inputs"));
  Input(message, "top_k", "INT32");
  message.set_raw_input_contents(1, "\1\2\3");
  EXPECT_THAT(Error(message), HasSubstr("no whole number of elements"));
  Input(message, "stop", "BYTES");
  message.set_raw_input_contents(1, Raw(int32_t{1}));
  message.add_raw_input_contents(std::string(4 * 65'537, '\0'));
  EXPECT_THAT(Error(message), HasSubstr("stop has more than 65536 elements"));
}

TEST(KserveCodec, AnswersInBothForms) {
  inference::ModelInferResponse plain, raw;
  AddTextOutput(Text("hi"), false, plain);
  AddTextOutput(Text("hi"), true, raw);
  EXPECT_EQ(plain.outputs(0).contents().bytes_contents(0), "hi");
  EXPECT_EQ(raw.raw_output_contents(0), RawText("hi"));
  EXPECT_EQ(raw.outputs(0).datatype(), "BYTES");

  plain.Clear();
  raw.Clear();
  const std::vector<std::vector<float>> vectors = {{1, 2, 3}, {4, 5, 6}};
  AddVectorOutput(vectors, false, plain);
  AddVectorOutput(vectors, true, raw);
  EXPECT_EQ(plain.outputs(0).contents().fp32_contents(5), 6);
  EXPECT_EQ(raw.raw_output_contents(0).size(), 6 * sizeof(float));
  EXPECT_EQ(raw.outputs(0).shape(0), 2);
  EXPECT_EQ(raw.outputs(0).shape(1), 3);
}

}  // namespace
}  // namespace sluice::rpc
