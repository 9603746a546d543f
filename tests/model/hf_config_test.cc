#include "model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/model/test_hf_folder.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

absl::StatusOr<HfConfig> Read(const TestHfFolder& folder) {
  const auto json = HfJson::Parse(folder.config, "dir/config.json");
  if (!json.ok()) return json.status();
  return ReadHfConfig(json->root());
}

TEST(HfConfig, ReadsALlama) {
  const auto read = Read(MakeTestHfFolder("LlamaForCausalLM"));
  ASSERT_TRUE(read.ok()) << read.status();
  const ModelConfig& c = read->config;
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.model_dim, 32);
  EXPECT_EQ(c.ffn_dim, 64);
  EXPECT_EQ(c.vocab_size, 48);
  EXPECT_EQ(c.num_layers, 2);
  EXPECT_EQ(c.num_q_heads, 4);
  EXPECT_EQ(c.num_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.max_context, 512);
  EXPECT_EQ(c.norm_eps, 1e-5F);
  EXPECT_EQ(c.embedding_scale, 1);
  EXPECT_FLOAT_EQ(c.attention_scale, 1 / std::sqrt(8.0F));
  EXPECT_EQ(c.activation, Activation::kSilu);
  EXPECT_EQ(c.rope.theta, 10000);
  EXPECT_EQ(c.rope.dim, 8);
  EXPECT_FALSE(c.rope.interleaved);
  EXPECT_THAT(c.windows, IsEmpty());
  EXPECT_EQ(c.moe.num_experts, 0);
  EXPECT_FALSE(read->tied_head);
  EXPECT_FALSE(read->norms_from_one);
}

TEST(HfConfig, EveryClassHasItsFamily) {
  const std::pair<const char*, const char*> kClasses[] = {
      {"LlamaForCausalLM", "llama"},       {"MistralForCausalLM", "llama"},
      {"MixtralForCausalLM", "llama"},     {"Qwen2ForCausalLM", "qwen2"},
      {"Qwen2MoeForCausalLM", "qwen2moe"}, {"Qwen3ForCausalLM", "qwen3"},
      {"Qwen3MoeForCausalLM", "qwen3moe"}, {"GemmaForCausalLM", "gemma"},
      {"Gemma2ForCausalLM", "gemma2"},     {"Gemma3ForCausalLM", "gemma3"},
      {"Phi3ForCausalLM", "phi3"}};
  for (const auto& [class_name, gguf_name] : kClasses) {
    const auto read = Read(MakeTestHfFolder(class_name));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->config.architecture, gguf_name);
    const bool gemma = std::string(gguf_name).starts_with("gemma");
    EXPECT_EQ(read->norms_from_one, gemma);
    EXPECT_EQ(read->config.activation, gemma ? Activation::kGeluTanh : Activation::kSilu);
    EXPECT_FLOAT_EQ(read->config.embedding_scale, gemma ? std::sqrt(32.0F) : 1.0F);
  }
}

TEST(HfConfig, HeadsDivideTheModelUnlessAKeySaysOtherwise) {
  TestHfFolder folder = MakeTestHfFolder("LlamaForCausalLM");
  folder.Set("hidden_size", "64");
  EXPECT_EQ(Read(folder)->config.head_dim, 8);
  folder.Remove("head_dim");
  EXPECT_EQ(Read(folder)->config.head_dim, 16);
  folder.Remove("num_key_value_heads");
  EXPECT_EQ(Read(folder)->config.num_kv_heads, 4);
  TestHfFolder qwen = MakeTestHfFolder("Qwen3ForCausalLM");
  qwen.Remove("head_dim");
  EXPECT_EQ(Read(qwen)->config.head_dim, 128);
}

TEST(HfConfig, WindowsFollowTheClass) {
  TestHfFolder mistral = MakeTestHfFolder("MistralForCausalLM");
  EXPECT_THAT(Read(mistral)->config.windows, IsEmpty());  // 4096 by default, more than the context
  mistral.Set("sliding_window", "64");
  EXPECT_THAT(Read(mistral)->config.windows, ElementsAre(64, 64));
  mistral.Set("sliding_window", "null");
  EXPECT_THAT(Read(mistral)->config.windows, IsEmpty());

  TestHfFolder qwen = MakeTestHfFolder("Qwen2ForCausalLM");
  qwen.Set("sliding_window", "64");
  qwen.Set("max_window_layers", "1");
  EXPECT_THAT(Read(qwen)->config.windows, IsEmpty());
  qwen.Set("use_sliding_window", "true");
  EXPECT_THAT(Read(qwen)->config.windows, ElementsAre(0, 64));
  qwen.Set("layer_types", R"(["sliding_attention","full_attention"])");
  EXPECT_THAT(Read(qwen)->config.windows, ElementsAre(64, 0));

  TestHfFolder gemma = MakeTestHfFolder("Gemma2ForCausalLM");
  EXPECT_THAT(Read(gemma)->config.windows, ElementsAre(16, 0));
  gemma = MakeTestHfFolder("Gemma3ForCausalLM");
  gemma.Set("num_hidden_layers", "7");
  EXPECT_THAT(Read(gemma)->config.windows, ElementsAre(16, 16, 16, 16, 16, 0, 16));
  gemma.Set("sliding_window", "4096");  // seen by nobody, but its layers rotate otherwise
  EXPECT_THAT(Read(gemma)->config.windows, ElementsAre(512, 512, 512, 512, 512, 0, 512));
}

TEST(HfConfig, ScoresAreScaledAndCapped) {
  TestHfFolder gemma = MakeTestHfFolder("Gemma2ForCausalLM");
  EXPECT_EQ(Read(gemma)->config.attention_scale, 0.25F);
  EXPECT_EQ(Read(gemma)->config.attention_softcap, 50);
  EXPECT_EQ(Read(gemma)->config.final_softcap, 30);
  gemma.Set("attn_logit_softcapping", "null");
  gemma.Set("final_logit_softcapping", "20.5");
  EXPECT_EQ(Read(gemma)->config.attention_softcap, 0);
  EXPECT_EQ(Read(gemma)->config.final_softcap, 20.5F);
}

TEST(HfConfig, ReadsExperts) {
  const auto mixtral = Read(MakeTestHfFolder("MixtralForCausalLM"));
  EXPECT_EQ(mixtral->config.moe.num_experts, 4);
  EXPECT_EQ(mixtral->config.moe.num_used, 2);
  EXPECT_EQ(mixtral->config.moe.ffn_dim, 64);
  EXPECT_TRUE(mixtral->config.moe.renormalise);
  TestHfFolder folder = MakeTestHfFolder("Qwen2MoeForCausalLM");
  const auto qwen = Read(folder);
  EXPECT_EQ(qwen->config.moe.ffn_dim, 32);
  EXPECT_EQ(qwen->config.moe.shared_ffn_dim, 64);
  EXPECT_FALSE(qwen->config.moe.renormalise);
  folder.Set("norm_topk_prob", "true");
  EXPECT_TRUE(Read(folder)->config.moe.renormalise);
}

TEST(HfConfig, RotationsUnderOldAndNewNames) {
  TestHfFolder f = MakeTestHfFolder("LlamaForCausalLM");
  f.Set("rope_scaling", R"({"type":"linear","factor":4.0})");
  EXPECT_EQ(Read(f)->config.rope.position_scale, 0.25);
  f.Remove("rope_scaling");
  f.Remove("rope_theta");
  f.Set("rope_parameters", R"({"rope_type":"linear","factor":2,"rope_theta":5000.0})");
  EXPECT_EQ(Read(f)->config.rope.position_scale, 0.5);
  EXPECT_EQ(Read(f)->config.rope.theta, 5000);
  f.Set("rope_parameters",
        R"({"rope_type":"default","rope_theta":7.0,"partial_rotary_factor":0.5})");
  EXPECT_EQ(Read(f)->config.rope.dim, 4);
  EXPECT_THAT(Read(f)->config.rope.divisors, IsEmpty());
}

TEST(HfConfig, RotationsOfLlama3AreDividedByWavelength) {
  TestHfFolder f = MakeTestHfFolder("LlamaForCausalLM");
  f.Set("rope_scaling", R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
        "high_freq_factor":4.0,"original_max_position_embeddings":64})");
  const auto read = Read(f);
  ASSERT_TRUE(read.ok()) << read.status();
  // Wavelengths 6, 63, 628 and 6283 against 64 / 4 and 64 / 1: kept, blended, divided, divided.
  const double kept = (64 / (2 * M_PI * 10) - 1) / 3;
  EXPECT_THAT(
      read->config.rope.divisors,
      ElementsAre(1, testing::FloatNear(static_cast<float>(1 / ((1 - kept) / 8 + kept)), 1e-5F), 8,
                  8));
  EXPECT_EQ(read->config.max_context, 512);
}

TEST(HfConfig, YarnStretchesTheContext) {
  TestHfFolder f = MakeTestHfFolder("Qwen2ForCausalLM");
  f.Set("rope_scaling", R"({"type":"yarn","factor":4.0,"original_max_position_embeddings":512})");
  const auto read = Read(f);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->config.max_context, 2048);
  EXPECT_NEAR(read->config.rope.magnitude, 0.1 * std::log(4.0) + 1, 1e-12);
  EXPECT_EQ(read->config.rope.divisors.size(), 4U);
  EXPECT_TRUE(read->yarn.has_value());
}

TEST(HfConfig, LongRopeHasTwoSetsOfDivisors) {
  TestHfFolder f = MakeTestHfFolder("Phi3ForCausalLM");
  f.Set("original_max_position_embeddings", "128");
  f.Set("rope_scaling",
        R"({"type":"longrope","short_factor":[1,1,1,1.5],"long_factor":[1,2,4,8]})");
  const auto read = Read(f);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->config.rope.divisors, ElementsAre(1, 1, 1, 1.5));
  EXPECT_THAT(read->config.rope.long_divisors, ElementsAre(1, 2, 4, 8));
  EXPECT_EQ(read->config.rope.original_context, 128);
  EXPECT_NEAR(read->config.rope.magnitude, std::sqrt(1 + std::log(4.0) / std::log(128.0)), 1e-12);
}

TEST(HfConfig, Gemma3RotatesItsWindowsOnTheirOwn) {
  TestHfFolder f = MakeTestHfFolder("Gemma3ForCausalLM");
  f.Set("rope_theta", "1000000.0");
  f.Set("rope_local_base_freq", "5000.0");
  f.Set("rope_scaling", R"({"rope_type":"linear","factor":8.0})");
  for (const bool by_kind : {false, true}) {
    if (by_kind) {
      f.Remove("rope_theta");
      f.Remove("rope_scaling");
      f.Remove("rope_local_base_freq");
      f.Set("rope_parameters",
            R"({"full_attention":{"rope_type":"linear","factor":8.0,"rope_theta":1000000.0},
                "sliding_attention":{"rope_type":"default","rope_theta":5000.0}})");
    }
    const auto read = Read(f);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->config.rope.theta, 1e6);
    EXPECT_EQ(read->config.rope.position_scale, 0.125);
    ASSERT_TRUE(read->config.window_rope.has_value());
    EXPECT_EQ(read->config.window_rope->theta, 5000);
    EXPECT_EQ(read->config.window_rope->position_scale, 1);
  }
}

TEST(HfConfig, Gemma3LeavesOutWhatIsItsDefault) {
  TestHfFolder f = MakeTestHfFolder("Gemma3ForConditionalGeneration");
  EXPECT_EQ(Read(f)->config.model_dim, 32);
  EXPECT_TRUE(Read(f)->nested);
  // As the folder of the 4B model has it.
  f.Set("text_config", R"({"hidden_size":2560,"intermediate_size":10240,"num_hidden_layers":34,
        "model_type":"gemma3_text","rope_scaling":{"factor":8.0,"rope_type":"linear"},
        "sliding_window":1024})");
  f.Remove("tie_word_embeddings");
  const auto read = Read(f);
  ASSERT_TRUE(read.ok()) << read.status();
  const ModelConfig& c = read->config;
  EXPECT_EQ(c.architecture, "gemma3");
  EXPECT_EQ(c.model_dim, 2560);
  EXPECT_EQ(c.ffn_dim, 10240);
  EXPECT_EQ(c.num_layers, 34);
  EXPECT_EQ(c.vocab_size, 262208);
  EXPECT_EQ(c.max_context, 131072);
  EXPECT_EQ(c.num_q_heads, 8);
  EXPECT_EQ(c.num_kv_heads, 4);
  EXPECT_EQ(c.head_dim, 256);
  EXPECT_EQ(c.attention_scale, 1.0F / 16);
  EXPECT_EQ(c.norm_eps, 1e-6F);
  EXPECT_EQ(c.rope.theta, 1e6);
  EXPECT_EQ(c.rope.position_scale, 0.125);
  EXPECT_EQ(c.window_rope->theta, 1e4);
  ASSERT_EQ(c.windows.size(), 34U);
  EXPECT_EQ(c.windows[4], 1024);
  EXPECT_EQ(c.windows[5], 0);
  EXPECT_TRUE(read->tied_head);
  EXPECT_TRUE(read->norms_from_one);
}

struct Hostile {
  const char* name;
  const char* class_name;
  const char* key;
  const char* json;  // "": the key is removed
  const char* message;
};

const Hostile kHostile[] = {
    {"UnknownClass", "LlamaForCausalLM", "architectures", R"(["MambaForCausalLM"])",
     "architecture 'MambaForCausalLM' is not supported; supported: LlamaForCausalLM, Mistral"},
    {"NoClass", "LlamaForCausalLM", "architectures", "", "key 'architectures' is missing"},
    {"ClassIsText", "LlamaForCausalLM", "architectures", "\"x\"", "must be an array"},
    {"ClassIsNumber", "LlamaForCausalLM", "architectures", "[1]",
     "element 0, which must be a string"},
    {"TwoClasses", "LlamaForCausalLM", "architectures", R"(["a","b"])", "has 2 names; 1 is needed"},
    {"NoSize", "LlamaForCausalLM", "hidden_size", "", "key 'hidden_size' is missing"},
    {"SizeIsText", "LlamaForCausalLM", "hidden_size", "\"32\"",
     "key 'hidden_size' is of type string; an integer is needed"},
    {"SizeIsNull", "LlamaForCausalLM", "hidden_size", "null", "key 'hidden_size' is missing"},
    {"SizeZero", "LlamaForCausalLM", "hidden_size", "0",
     "key 'hidden_size' is 0; must be a whole number in [1, 65536]"},
    {"SizeFraction", "LlamaForCausalLM", "hidden_size", "32.5", "key 'hidden_size' is 32.5"},
    {"SizeHuge", "LlamaForCausalLM", "hidden_size", "1e300", "key 'hidden_size' is 1e+300"},
    {"SizeBeyondInt64", "LlamaForCausalLM", "intermediate_size", "18446744073709551615",
     "'intermediate_size' is 1.8446744073709552e+19"},
    {"LayersNegative", "LlamaForCausalLM", "num_hidden_layers", "-1", "in [1, 1024]"},
    {"HeadsHuge", "LlamaForCausalLM", "num_attention_heads", "100000", "in [1, 1024]"},
    {"KvHeadsDoNotDivide", "LlamaForCausalLM", "num_key_value_heads", "3",
     "is 3; it must divide the 4 query heads"},
    {"KvHeadsTooMany", "LlamaForCausalLM", "num_key_value_heads", "8", "in [1, 4]"},
    {"HeadDimOdd", "LlamaForCausalLM", "head_dim", "7", "heads of 7 elements"},
    {"HeadDimHuge", "LlamaForCausalLM", "head_dim", "1000", "must be a whole number in [2, 256]"},
    {"EpsilonZero", "LlamaForCausalLM", "rms_norm_eps", "0", "key 'rms_norm_eps' is 0"},
    {"VocabHuge", "LlamaForCausalLM", "vocab_size", "4194304", "'vocab_size' is 4194304"},
    {"ActivationUnknown", "LlamaForCausalLM", "hidden_act", "\"relu\"",
     "key 'hidden_act' is 'relu'; supported here: silu"},
    {"GemmaActivationUnknown", "Gemma2ForCausalLM", "hidden_activation", "\"gelu\"",
     "key 'hidden_activation' is 'gelu'; supported here: gelu_pytorch_tanh"},
    {"ScalingUnknown", "LlamaForCausalLM", "rope_scaling", R"({"type":"dynamic","factor":2})",
     "key 'rope_scaling.type' is 'dynamic'; supported: default, linear, llama3, yarn, longrope"},
    {"ScalingIsList", "LlamaForCausalLM", "rope_scaling", "[]",
     "key 'rope_scaling' is of type array; an object is needed"},
    {"ScalingWithoutFactor", "LlamaForCausalLM", "rope_scaling", R"({"type":"linear"})",
     "key 'rope_scaling.factor' is missing"},
    {"ScalingFactorZero", "LlamaForCausalLM", "rope_scaling", R"({"type":"linear","factor":0})",
     "key 'rope_scaling.factor' is 0"},
    {"Llama3FactorsSwapped", "LlamaForCausalLM", "rope_scaling",
     R"({"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":1})",
     "'rope_scaling.high_freq_factor' is 1; must be above low_freq_factor, 4"},
    {"LongRopeTooFew", "Phi3ForCausalLM", "rope_scaling",
     R"({"type":"longrope","short_factor":[1],"long_factor":[1,1,1,1]})",
     "'rope_scaling.short_factor' has 1 numbers; a rotation of 8 elements needs 4"},
    {"LongRopeTooMany", "Phi3ForCausalLM", "rope_scaling",
     R"({"type":"longrope","short_factor":[1,1,1,1,1],"long_factor":[1,1,1,1]})",
     "must be an array of at most 4 numbers"},
    {"LongRopeZero", "Phi3ForCausalLM", "rope_scaling",
     R"({"type":"longrope","short_factor":[1,0,1,1],"long_factor":[1,1,1,1]})",
     "has element 1, which must be a number in [1e-06, 1000000]"},
    {"YarnUntruncated", "Qwen2ForCausalLM", "rope_scaling",
     R"({"type":"yarn","factor":2,"truncate":false})", "'rope_scaling.truncate' is false"},
    {"ThetaNegative", "LlamaForCausalLM", "rope_theta", "-1", "key 'rope_theta' is -1"},
    {"RotaryShareOdd", "Phi3ForCausalLM", "partial_rotary_factor", "0.4", "rotates 3 elements"},
    {"WindowZero", "MistralForCausalLM", "sliding_window", "0", "key 'sliding_window' is 0"},
    {"WindowNoneInGemma3", "Gemma3ForCausalLM", "sliding_window", "null", "needs a window"},
    {"AttentionBothWays", "Gemma3ForCausalLM", "use_bidirectional_attention", "true",
     "key 'use_bidirectional_attention' is true; only false is supported"},
    {"TextIsList", "Gemma3ForConditionalGeneration", "text_config", "[]",
     "key 'text_config' is of type array; an object is needed"},
    {"TextIsText", "Gemma3ForConditionalGeneration", "text_config", "\"gemma\"",
     "key 'text_config' is of type string; an object is needed"},
    {"TextIsNull", "Gemma3ForConditionalGeneration", "text_config", "null",
     "key 'text_config' is missing"},
    {"NoText", "Gemma3ForConditionalGeneration", "text_config", "", "key 'text_config' is missing"},
    {"TextOfAnotherModel", "Gemma3ForConditionalGeneration", "text_config",
     R"({"model_type":"gemma2"})",
     "key 'text_config.model_type' is 'gemma2'; supported here: gemma3_text"},
    {"TextSizeIsText", "Gemma3ForConditionalGeneration", "text_config", R"({"hidden_size":"32"})",
     "key 'text_config.hidden_size' is of type string; an integer is needed"},
    {"TextKvHeadsDoNotDivide", "Gemma3ForConditionalGeneration", "text_config",
     R"({"num_attention_heads":6})",
     "key 'text_config.num_key_value_heads' is 4; it must divide the 6 query heads"},
    {"AnotherModelOfImages", "LlamaForCausalLM", "architectures",
     R"(["LlavaForConditionalGeneration"])",
     "architecture 'LlavaForConditionalGeneration' is not supported"},
    {"LayerTypesTooFew", "Gemma3ForCausalLM", "layer_types", R"(["full_attention"])",
     "key 'layer_types' has 1 elements for 2 layers"},
    {"LayerTypeUnknown", "Gemma3ForCausalLM", "layer_types", R"(["full_attention","linear"])",
     "key 'layer_types' has 'linear'"},
    {"NoExperts", "MixtralForCausalLM", "num_local_experts", "", "'num_local_experts' is missing"},
    {"OneExpert", "MixtralForCausalLM", "num_local_experts", "1", "'num_local_experts' is 1"},
    {"MoreExpertsUsed", "Qwen3MoeForCausalLM", "num_experts_per_tok", "5", "in [1, 4]"},
    {"TiedIsText", "LlamaForCausalLM", "tie_word_embeddings", "\"yes\"",
     "key 'tie_word_embeddings' is of type string; a bool is needed"},
};

class HfConfigHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(HfConfigHostile, IsRefusedInOneSentence) {
  const Hostile& p = GetParam();
  TestHfFolder folder = MakeTestHfFolder(p.class_name);
  if (std::string_view(p.json).empty()) {
    folder.Remove(p.key);
  } else {
    folder.Set(p.key, p.json);
  }
  const auto read = Read(folder);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(std::string(read.status().message()),
              AllOf(StartsWith("dir/config.json: "), HasSubstr(p.message), Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(Files, HfConfigHostile, ::testing::ValuesIn(kHostile),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(HfJson, RefusesWhatIsNoJsonObject) {
  const auto message = [](std::string_view text) {
    return std::string(HfJson::Parse(text, "f").status().message());
  };
  EXPECT_THAT(message("[1]"), HasSubstr("f: not valid JSON: an object is needed"));
  EXPECT_THAT(message(""), StartsWith("f: not valid JSON: "));
  EXPECT_THAT(message("{\"a\":1} x"), HasSubstr("extra data at byte 8"));
  EXPECT_THAT(message("{\"a\":\"\xff\"}"), StartsWith("f: not valid JSON: "));
  const std::string deep = "{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}";
  EXPECT_THAT(message(deep), HasSubstr("nesting is deeper than 16 levels"));
}

}  // namespace
}  // namespace sluice
