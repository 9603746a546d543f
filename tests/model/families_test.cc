// Every decoder family: a tiny random model of tests/golden/families against the logits that
// transformers computed from it in float32 (tests/golden/make_families.py).
#include <gtest/gtest.h>

#include <bit>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "tests/model/logit_golden.h"
#include "tests/model/simple_ops.h"
#include "tests/model/test_hf_folder.h"

namespace sluice {
namespace {

class Families : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<std::vector<float>> InOneBatch(Ops& ops, bool states = false) {
    return LogitsInOneBatch(golden_, ops, states);
  }
  std::vector<std::vector<float>> InChunks(Ops& ops) { return LogitsInChunks(golden_, ops); }
  double Error(const std::vector<std::vector<float>>& logits) const {
    return RelativeError(golden_.logits, logits);
  }

  const GoldenModel golden_ = OpenGoldenModel(std::string("families/") + GetParam());
};

// Both sides compute in float32 or better from the same bfloat16 weights: what differs is the order
// of sums of up to 64 terms, a dozen one after the other.
TEST_P(Families, OverTextbookOpsEqualsTransformersInFloat32) {
  SimpleOps ops;
  const double error = Error(InOneBatch(ops));
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LE(error, 256 * 0x1p-24);
}

// The backend keeps keys and values as halfs. Over textbook operations that do the same only
// float32's rounding differs, and here and there a key or value that lies between two halfs and
// goes the other way, by 2^-11 of its value.
TEST_P(Families, OverTheCpuBackendIsOverTextbookOpsWithHalfPrecisionKeysAndValues) {
  const auto ops = CreateCpuOps({.threads = 1});
  ASSERT_TRUE(ops.ok()) << ops.status();
  const std::vector<std::vector<float>> logits = InOneBatch(**ops);
  RecordProperty("relative_error", std::to_string(Error(logits)));
  SimpleOps halfs(/*kv_halfs=*/true);
  LogitGolden rounded = golden_.logits;
  rounded.logits = InOneBatch(halfs);
  const double error = RelativeError(rounded, logits);
  EXPECT_LE(error, 0x1p-11);
}

// What an embedding model of the family gives: its product with the head's weights, by a plain
// loop, is the golden logits.
TEST_P(Families, StatesTimesTheHeadAreTheLogits) {
  if (golden_.config().final_softcap > 0) return;  // the golden is behind the cap
  SimpleOps ops;
  const WeightView& head =
      golden_.views.head.data != nullptr ? golden_.views.head : golden_.views.token_embd;
  ASSERT_EQ(head.dtype, DType::kBF16);
  const auto* weights = static_cast<const uint16_t*>(head.data);
  std::vector<std::vector<float>> logits;
  for (const std::vector<float>& state : InOneBatch(ops, true)) {
    std::vector<float>& out = logits.emplace_back();
    ASSERT_EQ(state.size(), static_cast<size_t>(head.cols));
    for (int64_t v = 0; v < head.rows; ++v) {
      double sum = 0;
      for (int64_t d = 0; d < head.cols; ++d) {
        const uint32_t bits = uint32_t{weights[v * head.cols + d]} << 16;
        sum += double{std::bit_cast<float>(bits)} * state[static_cast<size_t>(d)];
      }
      out.push_back(static_cast<float>(sum));
    }
  }
  EXPECT_LE(Error(logits), 256 * 0x1p-24);
}

TEST_P(Families, LogitBitsDoNotDependOnChunksThreadsOrForm) {
  const auto one = CreateCpuOps({.threads = 1});
  ASSERT_TRUE(one.ok()) << one.status();
  const std::vector<std::vector<float>> expected = InOneBatch(**one);
  for (const CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (!CpuSupports(isa)) continue;
    SCOPED_TRACE(CpuIsaName(isa));
    const auto ops = CreateCpuOps({.isa = isa, .threads = 2});
    ASSERT_TRUE(ops.ok()) << ops.status();
    EXPECT_EQ(InChunks(**ops), expected);
  }
}

// A golden folder as the text part of a model for images and text, in the older and the newer
// naming, with the head tied and on its own.
TEST(NestedFamilies, Gemma3GivesTheSameLogits) {
  const std::string source = GoldenFolder("families/gemma3");
  const auto plain = HfFolder::Open(source);
  const auto file = SafetensorsFile::Open(source + "/model.safetensors");
  const LogitGolden golden = ReadLogitGolden(source + "/golden.bin");
  ASSERT_TRUE(plain.ok() && file.ok()) << plain.status() << file.status();
  TestHfFolder folder;
  std::ifstream config(source + "/config.json");
  folder.config.assign(std::istreambuf_iterator<char>(config), {});
  for (const SafetensorsTensor& t : file->tensors()) {
    folder.tensors.tensors.push_back(
        {std::string(t.name),
         std::string(SafetensorsTypeName(t.type)),
         std::vector<int64_t>(t.dims, t.dims + t.num_dims),
         std::string(reinterpret_cast<const char*>(t.data), static_cast<size_t>(t.num_bytes)),
         {}});
  }
  SimpleOps ops;
  const auto logits_of = [&](const HfFolder& f) {
    const auto views = FindWeights(f.tensors(), f.config().config);
    EXPECT_TRUE(views.ok()) << views.status();
    return LogitsInOneBatch(golden, f.config().config, *views, ops);
  };
  const std::vector<std::vector<float>> expected = logits_of(**plain);
  for (const bool tied : {true, false}) {
    for (const auto& [prefix, head] :
         {std::pair("language_model.model.", "language_model.lm_head."),
          {"model.language_model.", "lm_head."}}) {
      TestHfFolder nested = folder;
      if (!tied) {
        nested.tensors.tensors.push_back(folder.tensors.Tensor("model.embed_tokens.weight"));
        nested.tensors.tensors.back().name = "lm_head.weight";
        nested.Set("tie_word_embeddings", "false");
      }
      nested.Nest("Gemma3ForConditionalGeneration", prefix, head);
      const TemporaryFolder dir;
      nested.Write(dir.path());
      const auto opened = HfFolder::Open(dir.path());
      ASSERT_TRUE(opened.ok()) << prefix << ": " << opened.status();
      EXPECT_EQ(FindWeights((*opened)->tensors(), (*opened)->config().config)->head.data == nullptr,
                tied);
      EXPECT_EQ(logits_of(**opened), expected) << prefix;
    }
  }
  EXPECT_LE(RelativeError(golden, expected), 256 * 0x1p-24);
}

INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         ::testing::Values("llama", "llama_linear", "llama3", "mistral", "mixtral",
                                           "qwen2", "qwen2moe", "qwen3", "qwen3_yarn", "qwen3moe",
                                           "gemma", "gemma2", "gemma3", "phi3", "phi3_longrope"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sluice
