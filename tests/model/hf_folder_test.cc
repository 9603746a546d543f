#include "model/hf_folder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "model/hf_info.h"
#include "model/weight_views.h"
#include "tests/model/test_hf_folder.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kClasses[] = {
    "LlamaForCausalLM",    "MistralForCausalLM",  "MixtralForCausalLM",
    "Qwen2ForCausalLM",    "Qwen2MoeForCausalLM", "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM", "GemmaForCausalLM",    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",   "Phi3ForCausalLM",     "Gemma3ForConditionalGeneration"};

float First(const WeightView& view) {
  float value = 0;
  std::memcpy(&value, view.data, sizeof(value));
  return value;
}

TEST(HfFolder, EveryClassFindsAllItsWeights) {
  for (const char* class_name : kClasses) {
    for (const char* dtype : {"F32", "BF16"}) {
      const TemporaryFolder dir;
      MakeTestHfFolder(class_name, dtype).Write(dir.path());
      const auto folder = HfFolder::Open(dir.path());
      ASSERT_TRUE(folder.ok()) << class_name << ": " << folder.status();
      const ModelConfig& c = (*folder)->config().config;
      const auto weights = FindWeights((*folder)->tensors(), c);
      ASSERT_TRUE(weights.ok()) << class_name << ": " << weights.status();
      EXPECT_EQ(weights->head.data == nullptr, (*folder)->config().tied_head);
      EXPECT_EQ(weights->layers.size(), 2U);
      EXPECT_EQ(weights->layers[1].attn_norm.dtype, DType::kF32) << "vectors become F32";
      EXPECT_EQ(weights->layers[1].o.dtype, dtype[0] == 'F' ? DType::kF32 : DType::kBF16);
    }
  }
}

TEST(HfFolder, GemmasNormsGetTheirOne) {
  const TemporaryFolder dir, llama_dir;
  const TestHfFolder gemma = MakeTestHfFolder("Gemma3ForCausalLM"),
                     llama = MakeTestHfFolder("LlamaForCausalLM");
  gemma.Write(dir.path());
  llama.Write(llama_dir.path());
  const auto stored = [](TestHfFolder folder, const char* name) {
    float value = 0;
    std::memcpy(&value, folder.tensors.Tensor(name).data.data(), sizeof(value));
    return value;
  };
  const auto folder = HfFolder::Open(dir.path());
  const auto weights = FindWeights((*folder)->tensors(), (*folder)->config().config);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const LayerViews& layer = weights->layers[1];
  const std::string prefix = "model.layers.1.";
  const std::pair<WeightView, const char*> kNorms[] = {
      {layer.attn_norm, "model.layers.1.input_layernorm.weight"},
      {layer.post_attention_norm, "model.layers.1.post_attention_layernorm.weight"},
      {layer.ffn_norm, "model.layers.1.pre_feedforward_layernorm.weight"},
      {layer.post_ffn_norm, "model.layers.1.post_feedforward_layernorm.weight"},
      {layer.q_norm, "model.layers.1.self_attn.q_norm.weight"},
      {layer.k_norm, "model.layers.1.self_attn.k_norm.weight"},
      {weights->output_norm, "model.norm.weight"}};
  for (const auto& [view, name] : kNorms) EXPECT_EQ(First(view), 1 + stored(gemma, name)) << name;
  EXPECT_EQ(First(layer.o), stored(gemma, "model.layers.1.self_attn.o_proj.weight"));

  const auto plain = HfFolder::Open(llama_dir.path());
  const auto plain_weights = FindWeights((*plain)->tensors(), (*plain)->config().config);
  EXPECT_EQ(First(plain_weights->layers[1].ffn_norm),
            stored(llama, "model.layers.1.post_attention_layernorm.weight"));
}

TEST(HfFolder, TensorsAtOddAddressesAreCopied) {
  const TemporaryFolder dir;
  TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
  // One byte in front of all others, which nothing is computed from.
  model.tensors.tensors.insert(model.tensors.tensors.begin(),
                               {"model.rotary_emb.inv_freq", "U8", {1}, "x", {}});
  model.Write(dir.path());
  const auto folder = HfFolder::Open(dir.path());
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto weights = FindWeights((*folder)->tensors(), (*folder)->config().config);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(weights->token_embd.data) % 4, 0U);
  EXPECT_EQ(std::memcmp(weights->token_embd.data,
                        model.tensors.Tensor("model.embed_tokens.weight").data.data(), 48 * 32 * 4),
            0);
}

// The tensors in two files with an index.
void Shard(TestHfFolder& f) {
  TestSafetensors halves[2];
  std::string map;
  for (size_t i = 0; i < f.tensors.tensors.size(); ++i) {
    const TestSafetensor& tensor = f.tensors.tensors[i];
    halves[i % 2].tensors.push_back(tensor);
    map +=
        fmt::format("{}\"{}\":\"part-{}.safetensors\"", map.empty() ? "" : ",", tensor.name, i % 2);
  }
  for (int i = 0; i < 2; ++i) {
    const std::vector<uint8_t> bytes = halves[i].Build();
    f.files[fmt::format("part-{}.safetensors", i)] = {bytes.begin(), bytes.end()};
  }
  f.files["model.safetensors"] = "";
  f.files["model.safetensors.index.json"] =
      R"({"metadata":{"total_size":1},"weight_map":{)" + map + "}}";
}

TEST(HfFolder, ReadsShards) {
  const TemporaryFolder whole_dir, dir;
  TestHfFolder model = MakeTestHfFolder("Qwen2ForCausalLM");
  model.Write(whole_dir.path());
  Shard(model);
  model.Write(dir.path());
  const auto whole = HfFolder::Open(whole_dir.path()), folder = HfFolder::Open(dir.path());
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ((*folder)->num_files(), 2U);
  const auto& a = (*whole)->tensors().tensors;
  const auto& b = (*folder)->tensors().tensors;
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    ASSERT_EQ(a[i].num_bytes, b[i].num_bytes);
    EXPECT_EQ(std::memcmp(a[i].data, b[i].data, static_cast<size_t>(a[i].num_bytes)), 0);
  }
}

struct Hostile {
  const char* name;
  std::function<void(TestHfFolder&)> spoil;
  const char* message;
};

void Replace(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}

const Hostile kHostile[] = {
    {"NoConfig", [](TestHfFolder& f) { f.config = ""; }, "config.json: cannot open"},
    {"ConfigNoJson", [](TestHfFolder& f) { f.config = "{"; }, "config.json: not valid JSON"},
    {"ConfigTooLong", [](TestHfFolder& f) { f.config += std::string((1 << 20) + 1, ' '); },
     "at most 1048576 are allowed"},
    {"NoTensors", [](TestHfFolder& f) { f.files["model.safetensors"] = ""; },
     "model.safetensors: cannot open"},
    {"LeftoverTensor",
     [](TestHfFolder& f) {
       f.tensors.tensors.push_back({"model.layers.0.self_attn.sinks", "F32", {1}, "abcd", {}});
     },
     "tensor 'model.layers.0.self_attn.sinks' has no place in LlamaForCausalLM"},
    {"BiasWithoutAPlace",
     [](TestHfFolder& f) {
       f.tensors.tensors.push_back(
           {"model.layers.0.mlp.up_proj.bias", "F32", {64}, std::string(256, '\0'), {}});
     },
     "tensor 'blk.0.ffn_up.bias' has no place"},
    {"LayerNumberHuge",
     [](TestHfFolder& f) {
       f.tensors.Tensor("model.layers.0.mlp.up_proj.weight").name =
           "model.layers.99999999999999999999.mlp.up_proj.weight";
     },
     "has no place in LlamaForCausalLM"},
    {"MissingTensor", [](TestHfFolder& f) { f.tensors.tensors.erase(f.tensors.tensors.begin()); },
     "tensor 'token_embd.weight' is missing"},
    {"MissingHead", [](TestHfFolder& f) { f.tensors.tensors.pop_back(); },
     "tensor 'lm_head.weight' is missing and tie_word_embeddings is false"},
    {"WrongShape", [](TestHfFolder& f) { f.Set("intermediate_size", "96"); },
     "tensor 'blk.0.ffn_gate.weight' has shape [32, 64]; the metadata asks for [32, 96]"},
    {"UnsupportedType",
     [](TestHfFolder& f) {
       TestSafetensor& t = f.tensors.Tensor("model.layers.0.mlp.up_proj.weight");
       t.dtype = "F64";
       t.data += t.data;
     },
     "has type F64; supported types are F32, F16, BF16"},
    {"ScalarTensor",
     [](TestHfFolder& f) {
       TestSafetensor& t = f.tensors.Tensor("model.norm.weight");
       t.shape = {};
       t.data.resize(4);
     },
     "tensor 'model.norm.weight' has shape [] and no rows"},
    {"TwoNamesForOnePlace",
     [](TestHfFolder& f) {
       TestSafetensor t = f.tensors.Tensor("model.layers.0.mlp.up_proj.weight");
       t.name = "model.layers.0.mlp.gate_up_proj.weight";
       f.tensors.tensors.push_back(t);
     },
     "two tensors are 'blk.0.ffn_up.weight' of the model"},
    {"IndexLeadsUp",
     [](TestHfFolder& f) {
       Shard(f);
       Replace(f.files["model.safetensors.index.json"], "part-0", "../part-0");
     },
     "names '../part-0.safetensors', which is no file below the folder"},
    {"IndexLeadsUpInside",
     [](TestHfFolder& f) {
       Shard(f);
       Replace(f.files["model.safetensors.index.json"], "part-0", "a/../../part-0");
     },
     "which is no file below the folder"},
    {"IndexIsAbsolute",
     [](TestHfFolder& f) {
       Shard(f);
       Replace(f.files["model.safetensors.index.json"], "part-0", "/etc/part-0");
     },
     "which is no file below the folder"},
    {"IndexWithoutMap",
     [](TestHfFolder& f) { f.files["model.safetensors.index.json"] = R"({"weight_map":[]})"; },
     "key 'weight_map' is of type array"},
    {"IndexNamesNumbers",
     [](TestHfFolder& f) { f.files["model.safetensors.index.json"] = R"({"weight_map":{"a":1}})"; },
     "key 'weight_map.a' is of type integer; a string is needed"},
    {"IndexNamesNoFile",
     [](TestHfFolder& f) {
       f.files["model.safetensors.index.json"] = R"({"weight_map":{"a":"b.safetensors"}})";
     },
     "b.safetensors: cannot open"},
    {"IndexPromisesTooMuch",
     [](TestHfFolder& f) {
       Shard(f);
       Replace(f.files["model.safetensors.index.json"], "\"weight_map\":{",
               "\"weight_map\":{\"more\":\"part-0.safetensors\",");
     },
     "key 'weight_map.more' names 'part-0.safetensors', which does not hold that tensor"},
    {"SameTensorInTwoShards",
     [](TestHfFolder& f) {
       Shard(f);
       f.files["part-1.safetensors"] = f.files["part-0.safetensors"];
       std::string map;
       for (size_t i = 0; i < f.tensors.tensors.size(); i += 2) {
         map += fmt::format("{}\"{}\":\"part-{}.safetensors\"", i == 0 ? "" : ",",
                            f.tensors.tensors[i].name, i / 2 % 2);
       }
       f.files["model.safetensors.index.json"] = "{\"weight_map\":{" + map + "}}";
     },
     "two tensors are 'blk."},
};

class HfFolderHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(HfFolderHostile, IsRefusedInOneSentence) {
  const TemporaryFolder dir;
  TestHfFolder model = MakeTestHfFolder("LlamaForCausalLM");
  GetParam().spoil(model);
  model.Write(dir.path());
  absl::Status status;
  const auto folder = HfFolder::Open(dir.path());
  status = folder.status();
  if (status.ok()) {
    status = FindWeights((*folder)->tensors(), (*folder)->config().config).status();
  }
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(StartsWith(dir.path().string()), HasSubstr(GetParam().message), Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(Files, HfFolderHostile, ::testing::ValuesIn(kHostile),
                         [](const auto& info) { return std::string(info.param.name); });

absl::StatusOr<GenerationDefaults> Generation(std::string_view text) {
  const auto json = HfJson::Parse(text, "generation_config.json");
  return ReadHfGeneration(json->root());
}

TEST(HfInfo, ReadsGenerationDefaults) {
  const auto g = Generation(
      R"({"temperature":0.7,"top_k":20,"top_p":0.8,"repetition_penalty":1.05,"do_sample":true})");
  ASSERT_TRUE(g.ok()) << g.status();
  EXPECT_EQ(g->temperature, 0.7F);
  EXPECT_EQ(g->top_k, 20);
  EXPECT_EQ(g->top_p, 0.8F);
  EXPECT_EQ(g->min_p, 0);
  EXPECT_EQ(g->repetition_penalty, 1.05F);
  EXPECT_EQ(Generation("{\"top_k\":null}")->top_k, 0);
  EXPECT_THAT(std::string(Generation("{\"top_p\":2}").status().message()),
              HasSubstr("key 'top_p' is 2; must be in [1e-06, 1]"));
}

TEST(HfInfo, ReadsTokenIdsAloneAndInLists) {
  const auto ids = [](std::string_view text) {
    const auto json = HfJson::Parse(text, "f");
    return ReadHfTokenIds(json->root(), "eos_token_id", 48);
  };
  EXPECT_THAT(*ids(R"({"eos_token_id":2})"), ElementsAre(2));
  EXPECT_THAT(*ids(R"({"eos_token_id":[2,47]})"), ElementsAre(2, 47));
  EXPECT_THAT(*ids(R"({"eos_token_id":null})"), IsEmpty());
  for (const char* bad : {"48", "-1", "1.5", "\"2\"", "[48]", "[\"a\"]", "[1.5]", "{}"}) {
    EXPECT_FALSE(ids(fmt::format(R"({{"eos_token_id":{}}})", bad)).ok()) << bad;
  }
}

TEST(HfInfo, FindsTheChatTemplate) {
  const TemporaryFolder dir;
  const auto find = [&](std::string_view text) -> absl::StatusOr<std::string> {
    const auto json = HfJson::Parse(text, "tokenizer_config.json");
    return ReadHfChatTemplate(dir.path(), json->root());
  };
  EXPECT_EQ(*find(R"({"chat_template":"{{ a }}"})"), "{{ a }}");
  EXPECT_EQ(*find("{}"), "");
  EXPECT_EQ(*ReadHfChatTemplate(dir.path(), std::nullopt), "");
  EXPECT_EQ(*find(R"({"chat_template":[{"name":"tool_use","template":"t"},
                                        {"name":"default","template":"d"}]})"),
            "d");
  EXPECT_THAT(
      std::string(find(R"({"chat_template":[{"name":"rag","template":"t"}]})").status().message()),
      HasSubstr("without one named 'default'"));
  EXPECT_FALSE(find(R"({"chat_template":7})").ok());
  EXPECT_FALSE(find(R"({"chat_template":["t"]})").ok());
  EXPECT_THAT(std::string(find("{\"chat_template\":\"" + std::string((1 << 20) + 1, 'x') + "\"}")
                              .status()
                              .message()),
              HasSubstr("has 1048577 bytes; at most 1048576"));
  std::ofstream(dir.path() / "chat_template.jinja") << "from its own file";
  EXPECT_EQ(*find(R"({"chat_template":"other"})"), "from its own file");
}

}  // namespace
}  // namespace sluice
