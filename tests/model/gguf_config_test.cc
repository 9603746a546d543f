// What a GGUF file's metadata says about each family, beyond what model_file_test checks of llama.
#include "model/gguf_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/gguf.h"
#include "model/gguf_tokenizer.h"
#include "tests/model/test_gguf.h"

namespace sluice {
namespace {

// A test model that calls itself `architecture`.
TestGguf FamilyFile(const std::string& architecture, uint32_t num_layers) {
  TestGguf file = MakeTestModel({.num_layers = num_layers});
  for (TestMetadata& entry : file.metadata) {
    if (entry.key.starts_with("llama.")) entry.key = architecture + entry.key.substr(5);
  }
  file.SetString("general.architecture", architecture);
  return file;
}

absl::StatusOr<ModelConfig> Read(const TestGguf& file) {
  const std::vector<uint8_t> bytes = file.Build();
  const auto gguf = GgufFile::Parse(bytes, "tiny");
  if (!gguf.ok()) return gguf.status();
  return ReadGgufConfig(**gguf);
}

TEST(GgufConfig, OnlyLlamaRotatesNeighbouringPairs) {
  for (const char* name :
       {"llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3"}) {
    const auto c = Read(FamilyFile(name, 1));
    ASSERT_TRUE(c.ok()) << c.status();
    EXPECT_EQ(c->rope.interleaved, std::string(name) == "llama") << name;
    const bool gemma = std::string(name).starts_with("gemma");
    EXPECT_EQ(c->activation, gemma ? Activation::kGeluTanh : Activation::kSilu) << name;
    EXPECT_EQ(c->embedding_scale, gemma ? std::sqrt(32.0F) : 1) << name;
    EXPECT_TRUE(c->windows.empty());
    EXPECT_FALSE(c->window_rope.has_value());
  }
}

TEST(GgufConfig, GemmasWindowsAndCapsAreRead) {
  TestGguf two = FamilyFile("gemma2", 4);
  two.SetU32("gemma2.attention.sliding_window", 64);
  two.SetF32("gemma2.attn_logit_softcapping", 50);
  two.SetF32("gemma2.final_logit_softcapping", 30);
  const auto c2 = Read(two);
  ASSERT_TRUE(c2.ok()) << c2.status();
  EXPECT_EQ(c2->windows, (std::vector<int32_t>{64, 0, 64, 0}));
  EXPECT_EQ(c2->attention_softcap, 50);
  EXPECT_EQ(c2->final_softcap, 30);
  EXPECT_FALSE(c2->window_rope.has_value());

  TestGguf three = FamilyFile("gemma3", 7);
  three.SetU32("gemma3.attention.sliding_window", 512);
  three.SetF32("gemma3.rope.freq_base", 1e6F);
  three.SetString("gemma3.rope.scaling.type", "linear");
  three.SetF32("gemma3.rope.scaling.factor", 8);
  const auto c3 = Read(three);
  ASSERT_TRUE(c3.ok()) << c3.status();
  EXPECT_EQ(c3->windows, (std::vector<int32_t>{512, 512, 512, 512, 512, 0, 512}));
  EXPECT_EQ(c3->rope.theta, 1e6);
  EXPECT_EQ(c3->rope.position_scale, 0.125);
  ASSERT_TRUE(c3->window_rope.has_value());
  EXPECT_EQ(c3->window_rope->theta, 10000);
  EXPECT_EQ(c3->window_rope->position_scale, 1);
}

TEST(GgufConfig, AFilesOwnWindowPatternGoesBeforeTheFamilys) {
  TestGguf file = FamilyFile("gemma3", 4);
  file.SetU32("gemma3.attention.sliding_window", 16);
  file.SetU32("gemma3.attention.sliding_window_pattern", 3);
  EXPECT_EQ(Read(file)->windows, (std::vector<int32_t>{16, 16, 0, 16}));
  const std::string flags = ByteWriter()
                                .Add(static_cast<uint32_t>(GgufType::kBool))
                                .Add<uint64_t>(4)
                                .Add<uint32_t>(0x01000001)
                                .str();
  file.Set("gemma3.attention.sliding_window_pattern", GgufType::kArray, flags);
  EXPECT_EQ(Read(file)->windows, (std::vector<int32_t>{16, 0, 0, 16}));
  file.SetU32("gemma3.block_count", 5);
  EXPECT_EQ(Read(file).status().message(),
            "tiny: key 'gemma3.attention.sliding_window_pattern' is not an array of 5 bools");
}

TEST(GgufConfig, LargeGemmasScaleAttentionByTheirWidth) {
  EXPECT_EQ(Read(FamilyFile("gemma2", 46))->attention_scale, 1 / std::sqrt(32.0F / 4));
  TestGguf wide = FamilyFile("gemma3", 62);
  wide.SetU32("gemma3.attention.key_length", 4);
  wide.SetU32("gemma3.attention.value_length", 4);
  EXPECT_EQ(Read(wide)->attention_scale, 1 / std::sqrt(32.0F / 4));
  wide.SetU32("gemma3.block_count", 61);
  EXPECT_EQ(Read(wide)->attention_scale, 0.5F);
}

TEST(GgufConfig, MixturesAreReadAndTheirFamilysRuleIsTheDefault) {
  for (const char* name : {"llama", "qwen2moe", "qwen3moe"}) {
    TestGguf file = FamilyFile(name, 1);
    const std::string prefix = std::string(name) + ".";
    file.SetU32(prefix + "expert_count", 60);
    file.SetU32(prefix + "expert_used_count", 4);
    file.SetU32(prefix + "expert_feed_forward_length", 24);
    file.SetU32(prefix + "expert_shared_feed_forward_length", 40);
    const auto c = Read(file);
    ASSERT_TRUE(c.ok()) << c.status();
    EXPECT_EQ(c->moe.num_experts, 60);
    EXPECT_EQ(c->moe.num_used, 4);
    EXPECT_EQ(c->moe.ffn_dim, 24);
    EXPECT_EQ(c->moe.shared_ffn_dim, 40);
    EXPECT_EQ(c->moe.renormalise, std::string(name) != "qwen2moe");
  }
}

TEST(GgufConfig, YarnAndLongropeBecomeDivisorsAndMagnitude) {
  TestGguf yarn = FamilyFile("qwen3", 1);
  yarn.SetString("qwen3.rope.scaling.type", "yarn");
  yarn.SetF32("qwen3.rope.scaling.factor", 4);
  yarn.SetU32("qwen3.rope.scaling.original_context_length", 128);
  const auto c = Read(yarn);
  ASSERT_TRUE(c.ok()) << c.status();
  ASSERT_EQ(c->rope.divisors.size(), 4U);
  EXPECT_EQ(c->rope.divisors.front(), 1);
  EXPECT_EQ(c->rope.divisors.back(), 4);
  EXPECT_NEAR(c->rope.magnitude, 0.1 * std::log(4) + 1, 1e-12);

  TestGguf longrope = FamilyFile("phi3", 1);
  const auto divisors = [](float x) { return ByteWriter().Add(x).Add(x).Add(x).Add(x).str(); };
  longrope.tensors.push_back({"rope_factors_short.weight", {4}, 0, divisors(1.5F), std::nullopt});
  longrope.tensors.push_back({"rope_factors_long.weight", {4}, 0, divisors(3), std::nullopt});
  longrope.SetU32("phi3.rope.scaling.original_context_length", 128);
  const auto p = Read(longrope);
  ASSERT_TRUE(p.ok()) << p.status();
  EXPECT_EQ(p->rope.divisors, std::vector<float>(4, 1.5F));
  EXPECT_EQ(p->rope.long_divisors, std::vector<float>(4, 3));
  EXPECT_EQ(p->rope.original_context, 128);
  EXPECT_NEAR(p->rope.magnitude, std::sqrt(1 + std::log(4) / std::log(128)), 1e-12);
}

TEST(GgufTokenizer, SomeFamiliesBeginTextsWithBosUnlessToldOtherwise) {
  TestGguf file = MakeTestModel();
  for (const auto& [name, begins] :
       {std::pair("llama-bpe", true), {"tekken", true}, {"qwen2", false}, {"gpt-2", false}}) {
    file.SetString("tokenizer.ggml.model", "gpt2");
    file.SetString("tokenizer.ggml.pre", name);
    file.Remove("tokenizer.ggml.add_bos_token");
    std::vector<uint8_t> bytes = file.Build();
    EXPECT_EQ(ReadGgufTokenizer(**GgufFile::Parse(bytes, "f"), 48)->add_bos, begins) << name;
    file.SetBool("tokenizer.ggml.add_bos_token", begins ? 0 : 1);
    bytes = file.Build();
    EXPECT_EQ(ReadGgufTokenizer(**GgufFile::Parse(bytes, "f"), 48)->add_bos, !begins) << name;
  }
}

}  // namespace
}  // namespace sluice
