#include "model/convert.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "model/quantise.h"
#include "tests/model/test_gguf.h"
#include "tests/model/test_hf_folder.h"
#include "tokenizer/pre_tokenizer.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A folder opened without the tokenizer of its own: the tokens are made here.
absl::StatusOr<ModelFile> OpenFolder(const std::filesystem::path& path) {
  ModelFile model;
  auto folder = HfFolder::Open(path);
  if (!folder.ok()) return folder.status();
  model.folder = *std::move(folder);
  model.config = model.folder->config().config;
  auto weights = FindWeights(model.folder->tensors(), model.config);
  if (!weights.ok()) return weights.status();
  model.weights = *std::move(weights);
  model.info.name = "tiny";
  TokenizerData& t = model.info.tokenizer;
  t.model = "gpt2";
  t.pre_tokenizer = "smollm";
  for (int i = 0; i < 48; ++i) t.tokens.push_back(fmt::format("t{}", i));
  t.types.assign(48, TokenType::kNormal);
  t.types[2] = TokenType::kControl;
  t.merges = {"t 1", "t 2"};
  t.bos = 1;
  t.eos = 2;
  t.add_bos = true;
  model.info.eos_ids = {7, 2, 9};
  model.info.chat_template = "{{ bos_token }}";
  model.info.generation.temperature = 0.5F;
  model.info.generation.top_k = 20;
  return model;
}

std::vector<uint8_t> Bytes(const ModelTensor& tensor) {
  return {tensor.data, tensor.data + tensor.num_bytes};
}

size_t FilesIn(const std::filesystem::path& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(Convert, EveryClassReadsBackAsItWas) {
  for (const char* class_name :
       {"LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "GemmaForCausalLM",
        "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration",
        "Phi3ForCausalLM"}) {
    const TemporaryFolder dir;
    MakeTestHfFolder(class_name, "BF16").Write(dir.path());
    const auto model = OpenFolder(dir.path());
    ASSERT_TRUE(model.ok()) << class_name << ": " << model.status();
    const std::string path = dir.path() / "out.gguf";
    const absl::Status made = ConvertToGguf(*model, path, {});
    ASSERT_TRUE(made.ok()) << class_name << ": " << made;
    EXPECT_EQ(FilesIn(dir.path()), 3U) << "nothing but config, tensors and the new file";
    const auto back = ModelFile::Open(path);
    ASSERT_TRUE(back.ok()) << class_name << ": " << back.status();
    EXPECT_EQ(back->weights.head.data == nullptr, model->weights.head.data == nullptr);
    for (const ModelTensor& tensor : back->tensors().tensors) {
      const ModelTensor* source = model->tensors().Find(tensor.name);
      if (source == nullptr) continue;  // experts: below
      const bool reordered = model->config.architecture == "llama" &&
                             (tensor.name.find(".attn_q.") != std::string_view::npos ||
                              tensor.name.find(".attn_k.") != std::string_view::npos);
      EXPECT_EQ(tensor.dtype, source->dtype) << tensor.name;
      EXPECT_EQ(Bytes(tensor) == Bytes(*source), !reordered) << class_name << " " << tensor.name;
    }
  }
}

TEST(Convert, ExpertsStandTogetherInTheirOrder) {
  const TemporaryFolder dir;
  MakeTestHfFolder("MixtralForCausalLM", "BF16").Write(dir.path());
  const auto model = OpenFolder(dir.path());
  const std::string path = dir.path() / "out.gguf";
  ASSERT_TRUE(ConvertToGguf(*model, path, {}).ok());
  const auto back = ModelFile::Open(path);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->tensors().Find("blk.1.ffn_down_exps.weight")->ShapeString(), "[64, 32, 4]");
  for (size_t e = 0; e < 4; ++e) {
    for (const auto experts :
         {&LayerViews::gate_experts, &LayerViews::up_experts, &LayerViews::down_experts}) {
      const WeightView& a = (model->weights.layers[1].*experts)[e];
      const WeightView& b = (back->weights.layers[1].*experts)[e];
      EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.rows * a.row_bytes())), 0) << e;
    }
  }
}

TEST(Convert, RotatingRowsOfLlamaStandInPairs) {
  const TemporaryFolder dir;
  MakeTestHfFolder("LlamaForCausalLM").Write(dir.path());
  const auto model = OpenFolder(dir.path());
  const std::string path = dir.path() / "out.gguf";
  ASSERT_TRUE(ConvertToGguf(*model, path, {}).ok());
  const auto back = ModelFile::Open(path);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(back->config.rope.interleaved);
  constexpr int64_t kFrom[] = {0, 4, 1, 5, 2, 6, 3, 7};  // in a head of 8
  for (const auto part : {&LayerViews::q, &LayerViews::k}) {
    const WeightView& a = model->weights.layers[0].*part;
    const WeightView& b = back->weights.layers[0].*part;
    for (int64_t row = 0; row < a.rows; ++row) {
      const int64_t from = row / 8 * 8 + kFrom[row % 8];
      EXPECT_EQ(std::memcmp(static_cast<const char*>(b.data) + row * b.row_bytes(),
                            static_cast<const char*>(a.data) + from * a.row_bytes(),
                            static_cast<size_t>(a.row_bytes())),
                0)
          << row;
    }
  }
}

TEST(Convert, CarriesTokensTemplateAndSampling) {
  const TemporaryFolder dir;
  MakeTestHfFolder("Qwen2ForCausalLM").Write(dir.path());
  const auto model = OpenFolder(dir.path());
  const std::string path = dir.path() / "out.gguf";
  ASSERT_TRUE(ConvertToGguf(*model, path, {}).ok());
  const auto back = ModelFile::Open(path);
  ASSERT_TRUE(back.ok()) << back.status();
  const TokenizerData& t = back->info.tokenizer;
  EXPECT_EQ(t.tokens, model->info.tokenizer.tokens);
  EXPECT_EQ(t.types, model->info.tokenizer.types);
  EXPECT_EQ(t.merges, model->info.tokenizer.merges);
  EXPECT_EQ(t.bos, 1);
  EXPECT_EQ(t.eos, 2);
  EXPECT_THAT(back->info.eos_ids, ElementsAre(2, 7, 9));
  EXPECT_EQ(back->info.chat_template, "{{ bos_token }}");
  EXPECT_EQ(back->info.generation.temperature, 0.5F);
  EXPECT_EQ(back->info.generation.top_k, 20);
}

TEST(Convert, CarriesEveryKindOfRotation) {
  const std::pair<const char*, const char*> kScalings[] = {
      {"LlamaForCausalLM", R"({"type":"linear","factor":2.5})"},
      {"LlamaForCausalLM", R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
        "high_freq_factor":4.0,"original_max_position_embeddings":64})"},
      {"Qwen2ForCausalLM",
       R"({"type":"yarn","factor":4.0,"original_max_position_embeddings":512})"},
      {"Qwen2ForCausalLM", R"({"type":"yarn","factor":4.0,"attention_factor":1.5,"beta_fast":16,
        "original_max_position_embeddings":128})"},
      {"Phi3ForCausalLM", R"({"type":"longrope","original_max_position_embeddings":128,
        "short_factor":[1,1,1,1.5],"long_factor":[1,2,4,8]})"},
      {"Gemma3ForCausalLM", R"({"rope_type":"linear","factor":8.0})"}};
  for (const auto& [class_name, scaling] : kScalings) {
    const TemporaryFolder dir;
    TestHfFolder folder = MakeTestHfFolder(class_name);
    folder.Set("rope_scaling", scaling);
    folder.Write(dir.path());
    const auto model = OpenFolder(dir.path());
    ASSERT_TRUE(model.ok()) << model.status();
    const absl::Status made = ConvertToGguf(*model, dir.path() / "out.gguf", {});
    EXPECT_TRUE(made.ok()) << scaling << ": " << made;  // it compares what it reads back
  }
}

PreTokenizerStep Step(PreTokenizerStep::Kind kind, const char* pattern = "") {
  PreTokenizerStep step;
  step.kind = kind;
  step.pattern = pattern;
  return step;
}

TEST(Convert, NamesTheWayWordsAreCut) {
  using Kind = PreTokenizerStep::Kind;
  PreTokenizerStep digits = Step(Kind::kDigits), bytes = Step(Kind::kByteLevel);
  digits.single = true;
  PreTokenizerStep only_bytes = bytes;
  only_bytes.use_regex = false;
  const PreTokenizerStep llama3 = Step(
      Kind::kRegex,
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  const std::pair<std::vector<PreTokenizerStep>, const char*> kSteps[] = {
      {{bytes}, "gpt-2"},
      {{digits, bytes}, "smollm"},
      {{llama3, only_bytes}, "smaug-bpe"},  // llama-bpe takes whole words first
      {{Step(Kind::kRegex, R"(\S+)"), only_bytes}, ""},
      {{digits}, ""}};
  for (const auto& [steps, name] : kSteps) {
    const TemporaryFolder dir;
    MakeTestHfFolder("Qwen2ForCausalLM").Write(dir.path());
    auto model = OpenFolder(dir.path());
    model->info.tokenizer.pre_tokenizer = "";
    model->info.tokenizer.pre_tokenizer_steps = steps;
    model->info.tokenizer.has_stages = true;
    const absl::Status made =
        ConvertToGguf(*model, dir.path() / "out.gguf", {.pre_tokenizer_name = NameOfPreTokenizer});
    if (std::string_view(name).empty()) {
      EXPECT_EQ(made.code(), absl::StatusCode::kUnimplemented);
      EXPECT_THAT(std::string(made.message()),
                  HasSubstr("no name for the way this tokenizer cuts"));
      continue;
    }
    ASSERT_TRUE(made.ok()) << made;
    const auto back = GgufFile::Open(dir.path() / "out.gguf");
    EXPECT_EQ((*back)->GetString("tokenizer.ggml.pre").value(), name);
  }
}

TEST(Convert, TokensOfCharactersGetScoresFromTheirMerges) {
  const TemporaryFolder dir;
  MakeTestHfFolder("LlamaForCausalLM").Write(dir.path());
  auto model = OpenFolder(dir.path());
  TokenizerData& t = model->info.tokenizer;
  t.model = "llama";
  t.merges = {"t1 0", "t 1"};  // of t10 and t1
  ASSERT_TRUE(ConvertToGguf(*model, dir.path() / "out.gguf", {}).ok());
  const auto back = GgufFile::Open(dir.path() / "out.gguf");
  const auto scores = (*back)->GetFloats("tokenizer.ggml.scores", 48);
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_EQ((*scores)[10], -1);
  EXPECT_EQ((*scores)[1], -2);
  EXPECT_EQ((*scores)[20], -3);
}

TEST(Convert, CarriesAnyPatternOfWindows) {
  const TemporaryFolder dir;
  TestHfFolder folder = MakeTestHfFolder("Gemma2ForCausalLM");
  folder.Set("layer_types", R"(["full_attention","sliding_attention"])");  // the wrong way round
  folder.Write(dir.path());
  const auto model = OpenFolder(dir.path());
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::Status made = ConvertToGguf(*model, dir.path() / "out.gguf", {});
  ASSERT_TRUE(made.ok()) << made;
  const auto back = ModelFile::Open(dir.path() / "out.gguf");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->config.windows, model->config.windows);
}

TEST(Convert, WhatGgufCannotSayIsRefusedAndLeavesNothing) {
  const TemporaryFolder dir;
  MakeTestHfFolder("Gemma2ForCausalLM").Write(dir.path());
  auto model = OpenFolder(dir.path());
  ASSERT_TRUE(model.ok()) << model.status();
  model->config.embedding_scale = 3;
  const absl::Status made = ConvertToGguf(*model, dir.path() / "out.gguf", {});
  EXPECT_EQ(made.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(made.message()), HasSubstr("no keys for this model's embedding scale"));
  EXPECT_EQ(FilesIn(dir.path()), 2U);
}

TEST(Convert, RefusesAPlaceThatIsNotThere) {
  const TemporaryFolder dir;
  MakeTestHfFolder("LlamaForCausalLM").Write(dir.path());
  const auto model = OpenFolder(dir.path());
  const absl::Status made = ConvertToGguf(*model, dir.path() / "none" / "out.gguf", {});
  EXPECT_EQ(made.code(), absl::StatusCode::kNotFound) << made;
  EXPECT_THAT(std::string(made.message()), HasSubstr("cannot create"));
}

TEST(Convert, RoundsMatricesTheHeadAndNothingElse) {
  const TemporaryFolder dir;
  MakeTestHfFolder("Qwen3MoeForCausalLM", "BF16").Write(dir.path());
  const auto model = OpenFolder(dir.path());
  const std::string path = dir.path() / "out.gguf";
  int64_t done = 0, all = -1;
  ASSERT_TRUE(ConvertToGguf(*model, path,
                            {.quantise = DType::kQ4_0,
                             .threads = 3,
                             .progress =
                                 [&](int64_t now, int64_t total) {
                                   EXPECT_GT(now, done);
                                   done = now;
                                   all = total;
                                 }})
                  .ok());
  EXPECT_EQ(done, all);
  const auto back = ModelFile::Open(path);
  ASSERT_TRUE(back.ok()) << back.status();
  const std::pair<const char*, DType> kTypes[] = {
      {"token_embd.weight", DType::kBF16},         {"output.weight", DType::kQ8_0},
      {"blk.0.attn_q.weight", DType::kQ4_0},       {"blk.1.ffn_up_exps.weight", DType::kQ4_0},
      {"blk.0.ffn_gate_inp.weight", DType::kBF16}, {"blk.0.attn_norm.weight", DType::kF32}};
  for (const auto& [name, type] : kTypes) {
    EXPECT_EQ(back->tensors().Find(name)->dtype, type) << name;
  }
  const WeightView& source = model->weights.layers[0].q;
  const WeightView& made = back->weights.layers[0].q;
  std::vector<uint8_t> expected(static_cast<size_t>(made.rows * made.row_bytes()));
  ASSERT_TRUE(QuantiseRows(source, DType::kQ4_0, 1, expected.data()).ok());
  EXPECT_EQ(std::memcmp(made.data, expected.data(), expected.size()), 0);
}

TEST(Convert, AnEmbeddingThatIsAlsoTheHeadBecomesQ80) {
  const TemporaryFolder dir;
  MakeTestHfFolder("GemmaForCausalLM", "BF16").Write(dir.path());
  const auto model = OpenFolder(dir.path());
  const std::string path = dir.path() / "out.gguf";
  ASSERT_TRUE(ConvertToGguf(*model, path, {.quantise = DType::kQ4_1}).ok());
  const auto back = ModelFile::Open(path);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->weights.token_embd.dtype, DType::kQ8_0);
  EXPECT_EQ(back->weights.layers[0].down.dtype, DType::kQ4_1);
}

TEST(Convert, AGgufFileKeepsItsKeysAndBytes) {
  const TemporaryFolder dir;
  TestGguf file = MakeTestModel({.tied_head = false, .biases = true});
  file.SetString("general.name", "a name");
  file.SetU32("general.alignment", 32);
  const std::vector<uint8_t> bytes = file.Build();
  const std::string in = dir.path() / "in.gguf", out = dir.path() / "out.gguf";
  std::ofstream(in, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  const auto model = ModelFile::Open(in);
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_TRUE(ConvertToGguf(*model, out, {}).ok());
  const auto back = ModelFile::Open(out);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->gguf->metadata().size() + 1, model->gguf->metadata().size());  // the alignment
  for (const GgufMetadata& entry : back->gguf->metadata()) {
    const GgufValue* source = model->gguf->Find(entry.key);
    ASSERT_NE(source, nullptr) << entry.key;
    EXPECT_EQ(source->bytes, entry.value.bytes) << entry.key;
  }
  ASSERT_EQ(back->tensors().tensors.size(), model->tensors().tensors.size());
  for (const ModelTensor& tensor : back->tensors().tensors) {
    EXPECT_EQ(Bytes(tensor), Bytes(*model->tensors().Find(tensor.name))) << tensor.name;
  }
  // Again, rounded: the same file name, which it replaces.
  ASSERT_TRUE(ConvertToGguf(*model, out, {.quantise = DType::kQ8_0}).ok());
  const auto rounded = ModelFile::Open(out);
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  EXPECT_EQ(rounded->weights.layers[0].q.dtype, DType::kQ8_0);
  EXPECT_EQ(rounded->weights.layers[0].q_bias.dtype, DType::kF32);
  EXPECT_EQ(rounded->gguf->GetInt("general.file_type", 0, 99).value(), 7);
}

}  // namespace
}  // namespace sluice
