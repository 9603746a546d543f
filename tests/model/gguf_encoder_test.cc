// Encoders in GGUF files: what their metadata may say.
#include "model/gguf_encoder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/model_file.h"
#include "tests/model/test_gguf.h"

namespace sluice {
namespace {

std::string GoldenPath(const std::string& name) {
  const char* root = std::getenv("SLUICE_SOURCE_DIR");
  return fmt::format("{}/tests/golden/gguf/{}.gguf", root != nullptr ? root : ".", name);
}

TEST(GgufEncoder, SaysWhatTheModelDoes) {
  const struct {
    const char* name;
    ModelTask task;
    int32_t dim;
    Pooling pooling;
  } kModels[] = {{"bert-mean", ModelTask::kEmbed, 32, Pooling::kMean},
                 {"bert-cls", ModelTask::kEmbed, 32, Pooling::kFirst},
                 {"bert-score", ModelTask::kScore, 1, Pooling::kMean}};
  for (const auto& model : kModels) {
    const auto file = ModelFile::Open(GoldenPath(model.name));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->info.task, model.task);
    EXPECT_EQ(file->info.vector_dim, model.dim);
    EXPECT_EQ(file->info.max_model_len, 40);
    EXPECT_TRUE(file->info.normalise);
    EXPECT_EQ(file->encoder->config.pooling, model.pooling);
    const TokenizerData& t = file->info.tokenizer;
    EXPECT_EQ(t.tokens[4], "a");
    EXPECT_EQ(t.tokens[30], "##a");
    ASSERT_EQ(t.pair.size(), 5U);
    EXPECT_EQ(t.pair[3].type_id, 1);
  }
}

TEST(GgufEncoder, RefusesInOneSentence) {
  using Change = std::function<void(TestGguf&)>;
  const struct {
    Change change;
    std::string message;
  } kWrong[] = {
      {[](TestGguf& f) { f.SetU32("bert.pooling_type", 0); },
       "key 'bert.pooling_type' is 0; supported: 1 (mean), 2 (cls), 3 (last), 4 (rank)"},
      {[](TestGguf& f) { f.SetU32("bert.pooling_type", 4); },
       "tensor 'cls.weight' is missing: the layer before the classifier was not converted"},
      {[](TestGguf& f) { f.SetBool("bert.attention.causal", 1); },
       "key 'bert.attention.causal' is true"},
      {[](TestGguf& f) { f.SetU32("bert.attention.head_count", 5); },
       "key 'bert.attention.head_count' is 5; it must divide the embedding length 32"},
      {[](TestGguf& f) { f.SetU32("bert.block_count", 3); },
       "tensor 'blk.2.attn_q.weight' is missing"},
      {[](TestGguf& f) { f.SetU32("bert.block_count", 1); },
       "tensor 'blk.1.attn_k.bias' has no place"},
      {[](TestGguf& f) { f.SetU32("bert.embedding_length", 64); },
       "tensor 'token_embd.weight' has shape [32, 60]; it must be [64, 60]"},
      {[](TestGguf& f) { f.Remove("bert.attention.layer_norm_epsilon"); },
       "key 'bert.attention.layer_norm_epsilon' is missing"},
      {[](TestGguf& f) { f.RemoveTensor("token_types.weight"); },
       "tensor 'token_types.weight' is missing"},
      {[](TestGguf& f) { f.SetString("general.architecture", "nomic-bert"); },
       "architecture 'nomic-bert' is not supported; supported: "},
      {[](TestGguf& f) { f.SetU32("tokenizer.ggml.cls_token_id", 60); },
       "key 'tokenizer.ggml.cls_token_id' is 60; must be in [0, 59]"},
  };
  for (const auto& wrong : kWrong) {
    TestGguf made = ReadTestGguf(GoldenPath("bert-mean"));
    wrong.change(made);
    const std::vector<uint8_t> bytes = made.Build();
    auto parsed = GgufFile::Parse(bytes, "wrong");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const auto file = ModelFile::FromGguf(*std::move(parsed));
    ASSERT_FALSE(file.ok()) << wrong.message;
    EXPECT_NE(std::string(file.status().message()).find(wrong.message), std::string::npos)
        << file.status();
  }
}

TEST(GgufPooling, OfADecoderIsReadOrRefused) {
  const auto open = [](uint32_t type) {
    TestGguf file = MakeTestModel();
    file.SetU32("llama.pooling_type", type);
    const std::vector<uint8_t> bytes = file.Build();
    auto model = ModelFile::FromGguf(*GgufFile::Parse(bytes, "f"));
    return model.ok() ? absl::StatusOr<std::optional<Pooling>>(model->pooling) : model.status();
  };
  EXPECT_EQ(*open(0), std::nullopt);
  EXPECT_EQ(*open(1), Pooling::kMean);
  EXPECT_EQ(*open(2), Pooling::kFirst);
  EXPECT_EQ(*open(3), Pooling::kLast);
  EXPECT_EQ(open(4).status().message(),
            "f: key 'llama.pooling_type' is 4; supported for a decoder: 0 (none), 1 (mean), 2 "
            "(cls), 3 (last)");
}

TEST(GgufPooling, ADecoderThatLooksBothWaysIsRefused) {
  TestGguf file = MakeTestModel();
  file.SetBool("llama.attention.causal", 0);
  const std::vector<uint8_t> bytes = file.Build();
  EXPECT_EQ(ModelFile::FromGguf(*GgufFile::Parse(bytes, "f")).status().message(),
            "f: key 'llama.attention.causal' is false; a decoder that looks both ways is not "
            "supported");
}

}  // namespace
}  // namespace sluice
