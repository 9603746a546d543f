// What a hostile or merely unsupported quantised folder is told.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "model/hf_folder.h"
#include "model/hf_quantised_matrix.h"
#include "model/weight_source.h"
#include "model/weight_views.h"
#include "tests/model/test_quantised.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kUp = "model.layers.0.mlp.up_proj";  // [64, 32]

// Opens a folder and makes every row of its matrices.
absl::Status Load(const TestHfFolder& model, const std::filesystem::path& path) {
  model.Write(path);
  const auto folder = HfFolder::Open(path);
  if (!folder.ok()) return folder.status();
  const absl::Status found = FindWeights((*folder)->tensors(), (*folder)->config().config).status();
  if (!found.ok()) return found;
  for (const ModelTensor& tensor : (*folder)->tensors().tensors) {
    if (tensor.source == nullptr) continue;
    const WeightView view{tensor.dtype, tensor.dims[1], tensor.dims[0], nullptr, tensor.source};
    std::vector<uint8_t> rows(static_cast<size_t>(tensor.num_bytes));
    const absl::Status made = MakeRows(view, 0, view.rows, 2, rows.data());
    if (!made.ok()) return made;
  }
  return absl::OkStatus();
}

using Form = void (*)(TestHfFolder&);
constexpr Form kForms[] = {QuantiseAsGptq, QuantiseAsPacked, QuantiseAsFp8, QuantiseAsAwq};

TEST(HfQuantised, EveryClassLoadsInEveryForm) {
  for (const char* class_name :
       {"LlamaForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM",
        "Qwen3MoeForCausalLM", "Gemma3ForCausalLM", "Phi3ForCausalLM"}) {
    for (const Form form : kForms) {
      const TemporaryFolder dir;
      TestHfFolder model = MakeTestHfFolder(class_name, "BF16");
      form(model);
      EXPECT_TRUE(Load(model, dir.path()).ok()) << class_name << Load(model, dir.path());
    }
  }
}

TEST(HfQuantised, TheSummaryNamesTheForm) {
  const std::pair<const char*, const char*> kConfigs[] = {
      {kGptqConfig, "gptq: 4 bits in groups of 32"},
      {kPackedConfig, "compressed-tensors: 4 bits in groups of 32 with zero points"},
      {kFp8Config, "fp8: fp8 in blocks of 16 x 32"},
      {R"({"quant_method":"fp8"})", "fp8: fp8 a tensor, or fp8 a row"},
      {R"({"quant_method":"awq","w_bit":4,"q_group_size":-1})",
       "awq: 4 bits a row with zero points"},
      {R"({"quant_method":"gptq","bits":8,"group_size":-1,"sym":true})", "gptq: 8 bits a row"},
  };
  for (const auto& [config, summary] : kConfigs) {
    for (const char* key : {"quantization_config", "compression_config"}) {
      TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
      model.Set(key, config);
      const auto json = HfJson::Parse(model.config, "f");
      const auto read = ReadHfQuantisation(json->root());
      ASSERT_TRUE(read.ok()) << read.status();
      ASSERT_TRUE(read->has_value());
      EXPECT_EQ((*read)->summary, summary);
    }
  }
}

// GPTQ's early writers give every layer a bias; others may not.
TEST(HfQuantised, ABiasOfZerosWithoutAPlaceIsNoBias) {
  TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
  QuantiseAsGptq(model);
  model.tensors.tensors.push_back({kUp + ".bias", "F16", {64}, std::string(128, '\0'), {}});
  const TemporaryFolder dir;
  EXPECT_TRUE(Load(model, dir.path()).ok());
  model.tensors.tensors.back().data[100] = 1;
  EXPECT_THAT(std::string(Load(model, dir.path()).message()),
              HasSubstr("tensor 'blk.0.ffn_up.bias' has no place"));
}

TEST(HfQuantised, ScalesOfActivationsAndOfTheCacheAreReadOver) {
  TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
  QuantiseAsFp8(model);
  for (const char* name : {".mlp.up_proj.input_scale", ".self_attn.k_proj.k_scale",
                           ".self_attn.v_scale", ".mlp.up_proj.activation_scale"}) {
    model.tensors.tensors.push_back(
        {std::string("model.layers.0") + name, "F32", {}, std::string(4, '\0'), {}});
  }
  const TemporaryFolder dir;
  EXPECT_TRUE(Load(model, dir.path()).ok()) << Load(model, dir.path());
}

TEST(HfQuantised, ActivationsAreFp8WhereEverySchemeSaysSo) {
  const auto inputs = [](const char* first, const char* second) {
    TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
    constexpr const char* kGroup =
        R"({{"weights":{{"num_bits":8,"type":"float","strategy":"channel"}},"input_activations":{}}})";
    model.Set("quantization_config",
              R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{)"
              R"("group_0":)" +
                  fmt::format(fmt::runtime(kGroup), first) + R"(,"group_1":)" +
                  fmt::format(fmt::runtime(kGroup), second) + "}}");
    const auto json = HfJson::Parse(model.config, "f");
    const auto read = ReadHfQuantisation(json->root());
    EXPECT_TRUE(read.ok()) << read.status();
    EXPECT_EQ((*read)->schemes[0].fp8_inputs, (*read)->schemes[1].fp8_inputs);
    return (*read)->schemes[0].fp8_inputs;
  };
  constexpr const char* kFloats =
      R"({"num_bits":8,"type":"float","strategy":"token","dynamic":true})";
  EXPECT_TRUE(inputs(kFloats, kFloats));
  EXPECT_FALSE(inputs(kFloats, "null"));
  EXPECT_FALSE(inputs("null", "null"));
  EXPECT_FALSE(inputs(R"({"num_bits":8,"type":"int"})", kFloats));
}

TEST(HfQuantised, AKeptCodeThatIsNoNumberIsRefused) {
  TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
  QuantiseAsFp8(model);
  model.tensors.Tensor(kUp + ".weight").data[70] = 0x7f;
  const TemporaryFolder dir;
  model.Write(dir.path());
  const auto folder = HfFolder::Open(dir.path(), /*keep_fp8=*/true);
  ASSERT_TRUE(folder.ok()) << folder.status();
  const ModelTensor* tensor = (*folder)->tensors().Find("blk.0.ffn_up.weight");
  ASSERT_EQ(tensor->dtype, DType::kFp8A8);
  std::vector<uint8_t> rows(static_cast<size_t>(tensor->num_bytes));
  EXPECT_THAT(std::string(tensor->source->MakeRows(0, tensor->dims[1], rows.data()).message()),
              HasSubstr("in row 2 holds a number that is not finite"));
}

struct Hostile {
  const char* name;
  Form form;
  std::function<void(TestHfFolder&)> spoil;
  const char* message;
};

// `json` in place of the quantization_config.
std::function<void(TestHfFolder&)> Config(const char* json) {
  return [json](TestHfFolder& f) { f.Set("quantization_config", json); };
}

std::function<void(TestHfFolder&)> Without(const std::string& name) {
  return [name](TestHfFolder& f) {
    std::erase_if(f.tensors.tensors, [&](const TestSafetensor& t) { return t.name == name; });
  };
}

// Number `index` of the tensor of layer 0's up_proj becomes `value`.
template <typename T>
std::function<void(TestHfFolder&)> Put(const char* suffix, size_t index, T value) {
  return [=](TestHfFolder& f) {
    std::memcpy(f.tensors.Tensor(kUp + suffix).data.data() + index * sizeof(T), &value, sizeof(T));
  };
}

std::function<void(TestHfFolder&)> Shape(const char* suffix, std::vector<int64_t> shape) {
  return [=](TestHfFolder& f) { f.tensors.Tensor(kUp + suffix).shape = shape; };
}

std::function<void(TestHfFolder&)> Type(const char* suffix, const char* dtype) {
  return [=](TestHfFolder& f) { f.tensors.Tensor(kUp + suffix).dtype = dtype; };
}

const Hostile kHostile[] = {
    // The configuration.
    {"MethodUnknown", QuantiseAsGptq,
     Config(R"({"quant_method":"bitsandbytes","load_in_4bit":true})"),
     "key 'quantization_config.quant_method' is 'bitsandbytes'; supported: fp8, "
     "compressed-tensors, awq, gptq"},
    {"ConfigNoObject", QuantiseAsGptq, Config("7"), "is of type integer; an object is needed"},
    {"MethodNoText", QuantiseAsGptq, Config(R"({"quant_method":7})"), "a string is needed"},
    {"GptqThreeBits", QuantiseAsGptq, Config(R"({"quant_method":"gptq","bits":3,"group_size":32})"),
     "bits' is '3'; supported: 4, 8"},
    {"GptqNoBits", QuantiseAsGptq, Config(R"({"quant_method":"gptq","group_size":32})"),
     "key 'quantization_config.bits' is missing"},
    {"GptqGroupZero", QuantiseAsGptq, Config(R"({"quant_method":"gptq","bits":4,"group_size":0})"),
     "is 0; it must be -1 or at least 1"},
    {"GptqGroupHuge", QuantiseAsGptq,
     Config(R"({"quant_method":"gptq","bits":4,"group_size":99999999999999999999})"),
     "group_size' is "},
    {"GptqMarlin", QuantiseAsGptq,
     Config(R"({"quant_method":"gptq","bits":4,"group_size":32,"checkpoint_format":"marlin"})"),
     "is 'marlin'; supported: gptq, gptq_v2"},
    {"AwqGemv", QuantiseAsAwq,
     Config(R"({"quant_method":"awq","bits":4,"group_size":32,"version":"gemv"})"),
     "version' is 'gemv'; supported: gemm"},
    {"AwqWithoutZeros", QuantiseAsAwq,
     Config(R"({"quant_method":"awq","bits":4,"group_size":32,"zero_point":false})"),
     "zero_point' is 'false'; supported: true"},
    {"Fp8OfAnotherKind", QuantiseAsFp8, Config(R"({"quant_method":"fp8","fmt":"e5m2"})"),
     "fmt' is 'e5m2'; supported: e4m3"},
    {"Fp8BlockOfOneSide", QuantiseAsFp8,
     Config(R"({"quant_method":"fp8","weight_block_size":[128]})"), "has 1 elements; 2 are needed"},
    {"Fp8BlockOfHalves", QuantiseAsFp8,
     Config(R"({"quant_method":"fp8","weight_block_size":[1.5,2]})"), "has a side with a fraction"},
    {"Sparse", QuantiseAsPacked,
     Config(R"({"format":"pack-quantized","config_groups":{},)"
            R"("sparsity_config":{"format":"sparse-24-bitmask"}})"),
     "sparsity_config.format' is 'sparse-24-bitmask'; supported: dense"},
    {"Rotated", QuantiseAsPacked,
     Config(R"({"format":"pack-quantized","config_groups":{},)"
            R"("transform_config":{"config_groups":{"u":{}}}})"),
     "has transforms; none are supported"},
    {"FormatUnknown", QuantiseAsPacked,
     Config(R"({"format":"nvfp4-pack-quantized","config_groups":{}})"),
     "is 'nvfp4-pack-quantized'; supported: float-quantized"},
    {"FormatOfMarlin", QuantiseAsPacked, Config(R"({"format":"marlin-24","config_groups":{}})"),
     "is 'marlin-24'; supported"},
    {"SixBits", QuantiseAsPacked,
     Config(R"({"format":"pack-quantized","config_groups":{"a":{"weights":{"num_bits":6}}}})"),
     "config_groups.a.weights.num_bits' is '6'; supported: 4, 8"},
    {"StrategyUnknown", QuantiseAsPacked,
     Config(R"({"format":"pack-quantized","config_groups":{"a":{"weights":)"
            R"({"num_bits":4,"strategy":"token"}}}})"),
     "strategy' is 'token'; supported: tensor, channel, group, block"},
    {"NoSchemes", QuantiseAsPacked, Config(R"({"format":"pack-quantized","config_groups":{}})"),
     "is quantised; the configuration names no way"},
    // The tensors.
    {"NoConfigAtAll", QuantiseAsFp8, [](TestHfFolder& f) { f.Remove("quantization_config"); },
     "has type F8_E4M3; supported types are F32, F16, BF16"},
    {"NoScales", QuantiseAsGptq, Without(kUp + ".scales"),
     "tensor 'model.layers.0.mlp.up_proj.qweight' is quantised and has no scales beside it"},
    {"NoCodes", QuantiseAsGptq, Without(kUp + ".qweight"),
     ".scales' belongs to no quantised weight"},
    {"NoZeros", QuantiseAsAwq, Without(kUp + ".qzeros"),
     "is quantised with zero points and has none beside it"},
    {"NoShape", QuantiseAsPacked, Without(kUp + ".weight_shape"),
     "weight_packed' has no 'weight_shape' beside it"},
    {"ShapeTooWide", QuantiseAsPacked, Put<int64_t>(".weight_shape", 1, 33), "says [64, 33]"},
    {"ShapeTooNarrow", QuantiseAsPacked, Put<int64_t>(".weight_shape", 1, 24), "says [64, 24]"},
    {"ShapeNegative", QuantiseAsPacked, Put<int64_t>(".weight_shape", 0, -64), "says [-64, 32]"},
    {"ShapeHuge", QuantiseAsPacked,
     Put<int64_t>(".weight_shape", 1, std::numeric_limits<int64_t>::max()), "says [64, 92233"},
    {"ScalesOfOtherShape", QuantiseAsGptq, Shape(".scales", {2, 32}),
     "scales' has shape [2, 32]; a quantised weight of shape [64, 32] asks for [1, 64]"},
    {"ZerosOfOtherShape", QuantiseAsAwq, Shape(".qzeros", {8, 1}), "asks for [1, 8]"},
    {"ScalesOfIntegers", QuantiseAsGptq, Type(".scales", "I16"),
     "scales' has type I16; supported types are F32, F16, BF16"},
    {"CodesOfFloats", QuantiseAsGptq, Type(".qweight", "F32"),
     "qweight' has type F32; the quantisation asks for I32"},
    {"ZerosOfFloats", QuantiseAsGptq, Type(".qzeros", "F32"), "has type F32; I32 is needed"},
    {"CodesOfOneDimension", QuantiseAsGptq, Shape(".qweight", {256}), "a matrix is needed"},
    {"BlocksOfOtherSize", QuantiseAsFp8,
     Config(R"({"quant_method":"fp8","weight_block_size":[128,128]})"),
     "weight_scale_inv' has shape"},
    {"GroupTooLarge", QuantiseAsGptq, Put<int32_t>(".g_idx", 5, 1),
     "has group 1 for column 5; there are 1 groups"},
    {"GroupNegative", QuantiseAsGptq, Put<int32_t>(".g_idx", 5, -1),
     "has group -1 for column 5; there are 1 groups"},
    {"GroupIndexTooShort", QuantiseAsGptq, Shape(".g_idx", {4, 8}), "asks for 32 integers"},
    {"EmbeddingQuantised", QuantiseAsFp8,
     [](TestHfFolder& f) {
       TestSafetensor& t = f.tensors.Tensor("model.embed_tokens.weight");
       t.dtype = "F8_E4M3";
       t.data.resize(t.data.size() / 4);
     },
     "'model.embed_tokens.weight' is quantised; supported for linear layers only"},
    {"TwoScales", QuantiseAsFp8,
     [](TestHfFolder& f) {
       TestSafetensor t = f.tensors.Tensor(kUp + ".weight_scale_inv");
       t.name = kUp + ".weight_scale";
       f.tensors.tensors.push_back(t);
     },
     "weight_scale_inv' is for the same as"},
    {"FloatsBesideCodes", QuantiseAsGptq,
     [](TestHfFolder& f) {
       f.tensors.tensors.push_back(
           {kUp + ".weight", "F32", {64, 32}, std::string(64 * 32 * 4, '\0'), {}});
     },
     "two tensors are 'blk.0.ffn_up.weight' of the model"},
    {"LayerUnknown", QuantiseAsGptq,
     [](TestHfFolder& f) {
       f.tensors.tensors.push_back(
           {"model.layers.0.adapter.qweight", "I32", {4, 64}, std::string(1024, '\0'), {}});
     },
     "'model.layers.0.adapter.qweight' has no place in LlamaForCausalLM"},
    {"WrongSizeForTheModel", QuantiseAsGptq,
     [](TestHfFolder& f) { f.Set("intermediate_size", "96"); },
     "has shape [32, 64]; the metadata asks for [32, 96]"},
    // The numbers.
    {"ScaleInfinite", QuantiseAsGptq, Put<uint16_t>(".scales", 9, 0x7c00),
     "in row 9 has a scale of inf, which Q4_0 cannot hold"},
    {"ScaleNoNumber", QuantiseAsAwq, Put<uint16_t>(".scales", 9, 0x7e00),
     "in row 9 has a scale of nan, which Q4_1 cannot hold"},
    {"ScaleBeyondHalf", QuantiseAsPacked, Put<uint16_t>(".weight_scale", 3, 0x4780),
     "in row 3 has a scale of 65536, which Q4_1 cannot hold"},
    {"CodeNoNumber", QuantiseAsFp8, Put<uint8_t>(".weight", 70, 0x7f),
     "in row 2 holds a number that is not finite or too large for F16"},
    {"NumberBeyondHalf", QuantiseAsFp8, Put<float>(".weight_scale_inv", 1, 1e30F),
     "in row 16 holds a number that is not finite or too large for F16"},
    {"SymmetricWithAZeroPoint", QuantiseAsGptq, Put<uint32_t>(".qzeros", 1, 0x77777747),
     "in row 9 has the zero point 5 where symmetric codes have 8"},
};

class HfQuantisedHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(HfQuantisedHostile, IsRefusedInOneSentence) {
  TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
  GetParam().form(model);
  const TemporaryFolder good, dir;
  ASSERT_TRUE(Load(model, good.path()).ok()) << Load(model, good.path());
  GetParam().spoil(model);
  const absl::Status status = Load(model, dir.path());
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(StartsWith(dir.path().string()), HasSubstr(GetParam().message), Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(Folders, HfQuantisedHostile, ::testing::ValuesIn(kHostile),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice
