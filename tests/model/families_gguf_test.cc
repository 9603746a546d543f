// Every family through a GGUF file: what `model convert` makes of a golden folder computes what the
// folder does, as it stands and rounded: the same bits, where the file says the same numbers.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "model/convert.h"
#include "model/model_file.h"
#include "model/transformer.h"
#include "tests/model/logit_golden.h"
#include "tests/model/run_step.h"
#include "tests/model/simple_ops.h"
#include "tests/model/test_hf_folder.h"

namespace sluice {
namespace {

// Without the folder's tokenizer, which the goldens do not have: as many tokens as there are rows.
ModelFile OpenGolden(const std::string& path) {
  ModelFile model;
  auto folder = HfFolder::Open(path);
  SLUICE_CHECK(folder.ok(), "{}", std::string(folder.status().message()));
  model.folder = *std::move(folder);
  model.config = model.folder->config().config;
  model.weights = *FindWeights(model.folder->tensors(), model.config);
  TokenizerData& t = model.info.tokenizer;
  t.model = "gpt2";
  t.pre_tokenizer = "gpt-2";
  for (int32_t i = 0; i < model.config.vocab_size; ++i) t.tokens.push_back(fmt::format("t{}", i));
  t.types.assign(t.tokens.size(), TokenType::kNormal);
  return model;
}

// Not llama, whose q and k have other elements side by side, so that q . k is summed in another
// order; nor longrope, whose magnitude is a float in the file.
bool SameBits(const ModelConfig& config) {
  return config.architecture != "llama" && config.rope.long_divisors.empty();
}

class FamiliesAsGguf : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<std::vector<float>> Logits(const ModelFile& model, LoadOptions load) const {
    const auto ops = CreateCpuOps({.threads = 1});
    const auto transformer =
        Transformer::Create(model.config, model.weights, {512, 16, 128, 16, 128}, **ops, load);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    StepRow row;
    row.tokens = golden_.tokens;
    row.tokens.resize(static_cast<size_t>(golden_.positions.back()) + 1);
    for (int32_t p = 0; p < static_cast<int32_t>(row.tokens.size()); p += 16) {
      row.blocks.push_back(p / 16);
    }
    return RunStep(**transformer, **ops, {row});
  }

  const std::string path_ = GoldenFolder(std::string("families/") + GetParam());
  const LogitGolden golden_ = ReadLogitGolden(path_ + "/golden.bin");
};

TEST_P(FamiliesAsGguf, ComputeWhatTheirFolderDoes) {
  const ModelFile folder = OpenGolden(path_);
  const TemporaryFolder dir;
  const std::string out = dir.path() / "out.gguf";
  for (const std::optional<DType> type : {std::optional<DType>(), std::optional(DType::kQ8_0)}) {
    const absl::Status made = ConvertToGguf(folder, out, {.quantise = type});
    ASSERT_TRUE(made.ok()) << made;
    const auto gguf = ModelFile::Open(out);
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    const auto wanted = Logits(folder, {.quantise = type}), got = Logits(*gguf, {});
    if (SameBits(folder.config)) {
      EXPECT_EQ(got, wanted);
    } else {
      EXPECT_LE(RelativeError({.logits = wanted}, got),
                0x1p-14);  // a half that rounds the other way
    }
    if (type.has_value()) continue;
    SimpleOps ops;
    const auto logits = LogitsInOneBatch(golden_, gguf->config, gguf->weights, ops);
    EXPECT_LE(RelativeError(golden_, logits), 256 * 0x1p-24);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, FamiliesAsGguf,
                         ::testing::Values("llama", "llama_linear", "llama3", "mistral", "mixtral",
                                           "qwen2", "qwen2moe", "qwen3", "qwen3_yarn", "qwen3moe",
                                           "gemma", "gemma2", "gemma3", "phi3", "phi3_longrope"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sluice
