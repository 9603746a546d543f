#include "model/model_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "model/inspect.h"
#include "tests/model/real_model.h"
#include "tests/model/test_gguf.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

absl::StatusOr<ModelFile> Load(const std::vector<uint8_t>& bytes) {
  auto gguf = GgufFile::Parse(bytes, "dir/tiny.gguf");
  if (!gguf.ok()) return gguf.status();
  return ModelFile::FromGguf(*std::move(gguf));
}

TEST(ModelFile, ReadsSizesFromMetadataAndTensors) {
  const std::vector<uint8_t> bytes = MakeTestModel().Build();
  const auto model = Load(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& c = model->config;
  EXPECT_EQ(c.model_dim, 32);
  EXPECT_EQ(c.ffn_dim, 64);
  EXPECT_EQ(c.vocab_size, 48);
  EXPECT_EQ(c.num_layers, 2);
  EXPECT_EQ(c.num_q_heads, 4);
  EXPECT_EQ(c.num_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.rope.dim, 8);
  EXPECT_EQ(c.max_context, 512);
  EXPECT_EQ(c.qkv_cols(), 64);
  EXPECT_TRUE(c.rope.interleaved);
  EXPECT_FLOAT_EQ(c.attention_scale, 1 / std::sqrt(8.0F));
  EXPECT_EQ(model->weights.head.data, nullptr);
  EXPECT_EQ(model->weights.layers[1].down.rows, 32);
  EXPECT_EQ(model->weights.layers[1].down.cols, 64);
  EXPECT_EQ(model->info.name, "tiny");
  EXPECT_EQ(model->info.tokenizer.tokens[47], "t47");
  EXPECT_THAT(model->info.eos_ids, ElementsAre(2));
}

TEST(ModelFile, ReadsOptionalParts) {
  TestGguf file = MakeTestModel({.tied_head = false, .biases = true, .head_norms = true});
  file.SetString("llama.rope.scaling.type", "linear");
  file.SetF32("llama.rope.scaling.factor", 4);
  file.SetU32("llama.rope.dimension_count", 4);
  file.SetU32("tokenizer.ggml.eot_token_id", 5);
  file.SetString("tokenizer.chat_template", "{{ x }}");
  file.SetF32("general.sampling.temp", 0.25F);
  file.SetU32("general.sampling.top_k", 40);
  file.tensors.push_back(
      {"rope_freqs.weight", {2}, 0, ByteWriter().Add(1.0F).Add(8.0F).str(), std::nullopt});
  const std::vector<uint8_t> bytes = file.Build();
  const auto model = Load(bytes);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->config.rope.position_scale, 0.25);
  EXPECT_EQ(model->config.rope.dim, 4);
  EXPECT_NE(model->weights.head.data, nullptr);
  EXPECT_EQ(model->config.rope.divisors, (std::vector<float>{1, 8}));
  EXPECT_NE(model->weights.layers[0].k_bias.data, nullptr);
  EXPECT_NE(model->weights.layers[0].q_norm.data, nullptr);
  EXPECT_THAT(model->info.eos_ids, ElementsAre(2, 5));
  EXPECT_EQ(model->info.chat_template, "{{ x }}");
  EXPECT_EQ(model->info.generation.temperature, 0.25F);
  EXPECT_EQ(model->info.generation.top_k, 40);
}

TEST(ModelFile, HashChangesWithMetadataAndSize) {
  const auto hash = [](const TestGguf& file) {
    const std::vector<uint8_t> bytes = file.Build();
    return Load(bytes)->info.hash;
  };
  const TestGguf file = MakeTestModel();
  TestGguf other_key = file, longer = file;
  other_key.SetF32("llama.rope.freq_base", 10001);
  longer.tensors.back().data += std::string(64, '\0');
  EXPECT_EQ(hash(file), hash(MakeTestModel()));
  EXPECT_EQ(hash(file).size(), 32U);
  EXPECT_NE(hash(file), hash(other_key));
  EXPECT_NE(hash(file), hash(longer));
}

struct Hostile {
  const char* name;
  std::function<void(TestGguf&)> spoil;
  const char* message;
};

void Resize(TestGguf& f, const char* name, std::vector<uint64_t> dims) {
  uint64_t size = 4;
  for (const uint64_t dim : dims) size *= dim;
  f.Tensor(name).dims = std::move(dims);
  f.Tensor(name).data.resize(size);
}

const Hostile kHostile[] = {
    {"NoArchitecture", [](TestGguf& f) { f.Remove("general.architecture"); },
     "key 'general.architecture' is missing"},
    {"UnknownArchitecture", [](TestGguf& f) { f.SetString("general.architecture", "mamba"); },
     "architecture 'mamba' is not supported; supported: llama, qwen2, qwen2moe, qwen3, qwen3moe, "
     "gemma, gemma2, gemma3, phi3"},
    {"ArchitectureOfWrongType", [](TestGguf& f) { f.SetU32("general.architecture", 1); },
     "a string is needed"},
    {"SplitModel", [](TestGguf& f) { f.SetU32("split.count", 3); }, "one of 3 parts"},
    {"ExpertsWithoutTheirChoice", [](TestGguf& f) { f.SetU32("llama.expert_count", 8); },
     "'llama.expert_used_count' is missing"},
    {"ScaledExperts",
     [](TestGguf& f) {
       f.SetU32("llama.expert_count", 4);
       f.SetU32("llama.expert_used_count", 2);
       f.SetF32("llama.expert_weights_scale", 2.5F);
     },
     "key 'llama.expert_weights_scale' is 2.5; supported: 1"},
    {"ExpertsBySigmoid",
     [](TestGguf& f) {
       f.SetU32("llama.expert_count", 4);
       f.SetU32("llama.expert_used_count", 2);
       f.SetU32("llama.expert_gating_func", 2);
     },
     "key 'llama.expert_gating_func' is 2; supported: 1 (softmax)"},
    {"OneExpert", [](TestGguf& f) { f.SetU32("llama.expert_count", 1); },
     "'llama.expert_count' is 1; a mixture has at least 2"},
    {"MoreExpertsUsedThanThere",
     [](TestGguf& f) {
       f.SetU32("llama.expert_count", 8);
       f.SetU32("llama.expert_used_count", 9);
     },
     "'llama.expert_used_count' is 9; must be in [1, 8]"},
    {"SoftcapNegative", [](TestGguf& f) { f.SetF32("llama.attn_logit_softcapping", -1); },
     "is -1; must be in [0, 1000000]"},
    {"WindowNegative",
     [](TestGguf& f) {
       f.Set("llama.attention.sliding_window", GgufType::kInt32, ByteWriter().Add(-1).str());
     },
     "'llama.attention.sliding_window' is -1"},
    {"YarnWithoutFactor", [](TestGguf& f) { f.SetString("llama.rope.scaling.type", "yarn"); },
     "'llama.rope.scaling.factor' is missing"},
    {"LongRopeWithoutShortDivisors",
     [](TestGguf& f) {
       f.tensors.push_back(
           {"rope_factors_long.weight", {4}, 0, std::string(16, '\x40'), std::nullopt});
     },
     "one of the tensors 'rope_factors_short.weight' and 'rope_factors_long.weight' is missing"},
    {"NoEmbeddingLength", [](TestGguf& f) { f.Remove("llama.embedding_length"); },
     "key 'llama.embedding_length' is missing"},
    {"EmbeddingLengthZero", [](TestGguf& f) { f.SetU32("llama.embedding_length", 0); },
     "'llama.embedding_length' is 0; must be in [1, 65536]"},
    {"EmbeddingLengthFloat", [](TestGguf& f) { f.SetF32("llama.embedding_length", 32); },
     "has type float32; an integer is needed"},
    {"EmbeddingLengthOfAnotherModel", [](TestGguf& f) { f.SetU32("llama.embedding_length", 64); },
     "has shape [32, 48]; the metadata asks for [64, 48]"},
    {"NoFeedForwardLength", [](TestGguf& f) { f.Remove("llama.feed_forward_length"); },
     "'llama.feed_forward_length' is missing"},
    {"FeedForwardLengthWrong", [](TestGguf& f) { f.SetU32("llama.feed_forward_length", 96); },
     "'blk.0.ffn_gate.weight' has shape [32, 64]; the metadata asks for [32, 96]"},
    {"NoLayers", [](TestGguf& f) { f.SetU32("llama.block_count", 0); },
     "is 0; must be in [1, 1024]"},
    {"LayersHuge", [](TestGguf& f) { f.SetU32("llama.block_count", ~0U); },
     "is 4294967295; must be in [1, 1024]"},
    {"MoreLayersThanTensors", [](TestGguf& f) { f.SetU32("llama.block_count", 3); },
     "tensor 'blk.2.attn_norm.weight' is missing"},
    {"FewerLayersThanTensors", [](TestGguf& f) { f.SetU32("llama.block_count", 1); },
     "tensor 'blk.1.attn_k.weight' has no place"},
    {"ContextZero", [](TestGguf& f) { f.SetU32("llama.context_length", 0); },
     "'llama.context_length' is 0"},
    {"ContextHuge", [](TestGguf& f) { f.SetU32("llama.context_length", 1U << 31); },
     "must be in [1, 16777216]"},
    {"HeadsZero", [](TestGguf& f) { f.SetU32("llama.attention.head_count", 0); },
     "'llama.attention.head_count' is 0"},
    {"HeadsDoNotDivide",
     [](TestGguf& f) {
       f.SetU32("llama.attention.head_count", 5);
       f.SetU32("llama.attention.head_count_kv", 5);
     },
     "is 5; it must divide the embedding length 32"},
    {"KvHeadsDoNotDivide", [](TestGguf& f) { f.SetU32("llama.attention.head_count_kv", 3); },
     "is 3; it must divide the 4 query heads"},
    {"MoreKvHeadsThanHeads", [](TestGguf& f) { f.SetU32("llama.attention.head_count_kv", 8); },
     "is 8; must be in [1, 4]"},
    {"KvHeadsAsArray", [](TestGguf& f) { f.SetI32s("llama.attention.head_count_kv", {2, 2}); },
     "has type array; an integer is needed"},
    {"HeadDimOdd", [](TestGguf& f) { f.SetU32("llama.attention.key_length", 7); }, "heads of 7"},
    {"HeadDimOne",
     [](TestGguf& f) {
       f.SetU32("llama.attention.head_count", 32);
       f.SetU32("llama.attention.head_count_kv", 1);
     },
     "heads of 1"},
    {"HeadDimHuge", [](TestGguf& f) { f.SetU32("llama.attention.key_length", 1 << 20); },
     "must be in [2, 256]"},
    {"ValueDimDiffers", [](TestGguf& f) { f.SetU32("llama.attention.value_length", 16); },
     "heads of 8 and values of 16"},
    {"EpsilonMissing", [](TestGguf& f) { f.Remove("llama.attention.layer_norm_rms_epsilon"); },
     "epsilon' is missing"},
    {"EpsilonZero", [](TestGguf& f) { f.SetF32("llama.attention.layer_norm_rms_epsilon", 0); },
     "is 0; must be in"},
    {"EpsilonNan",
     [](TestGguf& f) { f.SetF32("llama.attention.layer_norm_rms_epsilon", std::nanf("")); },
     "is nan; must be in"},
    {"EpsilonInfinite",
     [](TestGguf& f) { f.SetF32("llama.attention.layer_norm_rms_epsilon", INFINITY); },
     "is inf; must be in"},
    {"RopeThetaNegative", [](TestGguf& f) { f.SetF32("llama.rope.freq_base", -1); },
     "'llama.rope.freq_base' is -1"},
    {"RopeDimOdd", [](TestGguf& f) { f.SetU32("llama.rope.dimension_count", 3); },
     "is 3; must be even"},
    {"RopeDimBeyondTheHead", [](TestGguf& f) { f.SetU32("llama.rope.dimension_count", 10); },
     "is 10; must be in [2, 8]"},
    {"RopeScalingUnknown", [](TestGguf& f) { f.SetString("llama.rope.scaling.type", "ntk"); },
     "is 'ntk'; supported: none, linear, yarn, longrope"},
    {"RopeScalingWithoutFactor",
     [](TestGguf& f) { f.SetString("llama.rope.scaling.type", "linear"); },
     "'llama.rope.scaling.factor' is missing"},
    {"VocabSizeDiffers", [](TestGguf& f) { f.SetU32("llama.vocab_size", 49); },
     "is 49; 'token_embd.weight' has 48 rows"},
    {"NoEmbedding", [](TestGguf& f) { f.RemoveTensor("token_embd.weight"); },
     "tensor 'token_embd.weight' is missing"},
    {"EmbeddingWithThreeDimensions",
     [](TestGguf& f) { f.Tensor("token_embd.weight").dims = {32, 24, 2}; }, "token_embd.weight"},
    {"NoOutputNorm", [](TestGguf& f) { f.RemoveTensor("output_norm.weight"); },
     "tensor 'output_norm.weight' is missing"},
    {"NoDown", [](TestGguf& f) { f.RemoveTensor("blk.1.ffn_down.weight"); },
     "tensor 'blk.1.ffn_down.weight' is missing"},
    {"QueryTransposed", [](TestGguf& f) { Resize(f, "blk.0.attn_q.weight", {16, 64}); },
     "'blk.0.attn_q.weight' has shape [16, 64]"},
    {"NormWithTwoDimensions",
     [](TestGguf& f) { f.Tensor("blk.0.attn_norm.weight").dims = {32, 1}; },
     "'blk.0.attn_norm.weight' has shape [32, 1]; the metadata asks for [32]"},
    {"KeyTooShort", [](TestGguf& f) { Resize(f, "blk.1.attn_k.weight", {32, 8}); },
     "'blk.1.attn_k.weight' has shape [32, 8]"},
    {"ExtraTensor",
     [](TestGguf& f) {
       f.tensors.push_back(
           {"blk.0.ffn_gate_inp.weight", {4}, 0, std::string(16, '\0'), std::nullopt});
     },
     "tensor 'blk.0.ffn_gate_inp.weight' has no place"},
    {"OneBiasOfThree",
     [](TestGguf& f) {
       f.tensors.push_back({"blk.0.attn_q.bias", {32}, 0, std::string(128, '\0'), std::nullopt});
     },
     "1 of the 3 q, k and v biases of layer 0"},
    {"RopeFreqsOfWrongSize",
     [](TestGguf& f) {
       f.tensors.push_back({"rope_freqs.weight", {8}, 0, std::string(32, '\0'), std::nullopt});
     },
     "'rope_freqs.weight' has shape [8]"},
    {"RopeFreqsOfWrongType",
     [](TestGguf& f) {
       f.tensors.push_back({"rope_freqs.weight", {4}, 1, std::string(8, '\0'), std::nullopt});
     },
     "has type F16; F32 is needed"},
    {"RopeFreqsOfZero",
     [](TestGguf& f) {
       f.tensors.push_back({"rope_freqs.weight", {4}, 0, std::string(16, '\0'), std::nullopt});
     },
     "has 0 at element 0; must be in [1e-6, 1e6]"},
    {"NoTokenizer", [](TestGguf& f) { f.Remove("tokenizer.ggml.model"); },
     "'tokenizer.ggml.model' is missing"},
    {"NoTokens", [](TestGguf& f) { f.Remove("tokenizer.ggml.tokens"); },
     "'tokenizer.ggml.tokens' is missing"},
    {"TokensOfAnotherModel", [](TestGguf& f) { f.SetStrings("tokenizer.ggml.tokens", {"a", "b"}); },
     "has 2 tokens; 'token_embd.weight' has 48 rows"},
    {"TokenTypesTooFew", [](TestGguf& f) { f.SetI32s("tokenizer.ggml.token_type", {1}); },
     "has 1 elements for 48 tokens"},
    {"TokenTypeSeven",
     [](TestGguf& f) {
       std::vector<int32_t> t(48, 1);
       t[5] = 7;
       f.SetI32s("tokenizer.ggml.token_type", t);
     },
     "has 7 at element 5"},
    {"TokenTypeNegative",
     [](TestGguf& f) {
       std::vector<int32_t> t(48, 1);
       t[5] = -1;
       f.SetI32s("tokenizer.ggml.token_type", t);
     },
     "has -1 at element 5"},
    {"EosBeyondTheVocabulary", [](TestGguf& f) { f.SetU32("tokenizer.ggml.eos_token_id", 48); },
     "'tokenizer.ggml.eos_token_id' is 48; must be in [0, 47]"},
    {"BosHuge", [](TestGguf& f) { f.SetU32("tokenizer.ggml.bos_token_id", ~0U); },
     "is 4294967295; must be in [0, 47]"},
    {"MergesOfWrongType", [](TestGguf& f) { f.SetI32s("tokenizer.ggml.merges", {1}); },
     "strings are needed"},
    {"TemplateOfWrongType", [](TestGguf& f) { f.SetU32("tokenizer.chat_template", 1); },
     "a string is needed"},
    {"TemplateTooLong",
     [](TestGguf& f) { f.SetString("tokenizer.chat_template", std::string((1 << 20) + 1, 'x')); },
     "has 1048577 bytes; at most 1048576"},
    {"TemperatureNan", [](TestGguf& f) { f.SetF32("general.sampling.temp", std::nanf("")); },
     "is nan; must be in [0, 100]"},
};

class ModelFileHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(ModelFileHostile, IsRefusedInOneSentence) {
  TestGguf file = MakeTestModel();
  GetParam().spoil(file);
  const std::vector<uint8_t> bytes = file.Build();
  const auto model = Load(bytes);
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(
      std::string(model.status().message()),
      AllOf(StartsWith("dir/tiny.gguf: "), HasSubstr(GetParam().message), Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(Files, ModelFileHostile, ::testing::ValuesIn(kHostile),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ModelFile, RealModelIsWhatItsMakersSay) {
  const auto model = ModelFile::Open(RealModelPath());
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& c = model->config;
  EXPECT_EQ(c.model_dim, 576);
  EXPECT_EQ(c.ffn_dim, 1536);
  EXPECT_EQ(c.vocab_size, 49152);
  EXPECT_EQ(c.num_layers, 30);
  EXPECT_EQ(c.num_q_heads, 9);
  EXPECT_EQ(c.num_kv_heads, 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.max_context, 8192);
  EXPECT_EQ(c.rope.theta, 100000);
  EXPECT_EQ(model->weights.head.data, nullptr);
  EXPECT_EQ(model->info.tokenizer.merges.size(), 48900U);
  EXPECT_EQ(model->info.tokenizer.tokens[2], "<|im_end|>");
  EXPECT_EQ(model->info.tokenizer.types[2], TokenType::kControl);
  EXPECT_THAT(model->info.eos_ids, ElementsAre(2));
  EXPECT_THAT(model->info.chat_template, StartsWith("{% for message in messages %}"));
}

TEST(Inspect, ShowsWhatIsInTheRealModel) {
  const auto model = ModelFile::Open(RealModelPath());
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string text = InspectModel(*model, 512, 32);
  for (const char* part :
       {"architecture     llama", "layers           30", "9 query, 3 KV, 64 elements each",
        "Q4_1           210", "Q8_0           1", "F32            61",
        "gpt2, pre-tokenizer smollm, 49152 tokens, 48900 merges", "eos            2 '<|im_end|>'",
        "head tied to the embedding", "KV 22.5 KiB a token"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Inspect, EscapesTextFromTheFile) {
  TestGguf file = MakeTestModel();
  file.SetString("general.name", "evil\x1b[2J\nname");
  file.SetString("tokenizer.chat_template", "first \x07 line\nsecond");
  const std::vector<uint8_t> bytes = file.Build();
  const auto model = Load(bytes);
  ASSERT_TRUE(model.ok());
  const std::string text = InspectModel(*model, 512, 32);
  EXPECT_THAT(text,
              AllOf(HasSubstr("evil\\x1b[2J\\x0aname"), HasSubstr("first \\x07 line"),
                    Not(HasSubstr("second")), Not(HasSubstr("\x1b")), Not(HasSubstr("\x07"))));
}

}  // namespace
}  // namespace sluice
