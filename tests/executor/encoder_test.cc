// Encoders against the vectors that transformers computed in float32 (tests/golden/
// make_embeddings.py), alone and batched.
#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "executor/encoder_executor.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/isa.h"
#include "model/convert.h"
#include "model/model_file.h"
#include "model/safetensors.h"
#include "tests/model/real_model.h"

namespace sluice {
namespace {

struct Case {
  std::vector<TokenId> tokens;
  int32_t second_begin = 0;
  std::vector<float> expected;
};

std::string Folder(const std::string& name) {
  const char* root = std::getenv("SLUICE_SOURCE_DIR");
  return std::string(root != nullptr ? root : ".") + "/tests/golden/families/" + name;
}

std::vector<Case> ReadCases(const std::string& folder) {
  std::ifstream file(folder + "/expected.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<Case> cases;
  const boost::json::value parsed = boost::json::parse(text);
  for (const auto& entry : parsed.as_array()) {
    Case& c = cases.emplace_back();
    for (const auto& token : entry.at("tokens").as_array())
      c.tokens.push_back(token.to_number<TokenId>());
    c.second_begin = entry.at("second_begin").to_number<int32_t>();
    for (const auto& value : entry.at("vector").as_array())
      c.expected.push_back(value.to_number<float>());
  }
  return cases;
}

BatchPlan PlanOf(StepId step, const std::vector<Case>& cases, size_t begin, size_t end) {
  BatchPlan plan;
  plan.step = step;
  for (size_t i = begin; i < end; ++i) {
    const Case& c = cases[i];
    plan.row_begin.push_back(plan.num_tokens());
    plan.block_begin.push_back(0);
    const auto length = static_cast<int32_t>(c.tokens.size());
    for (int32_t t = 0; t < length; ++t) plan.positions.push_back(t);
    plan.tokens.insert(plan.tokens.end(), c.tokens.begin(), c.tokens.end());
    plan.context_len.push_back(length);
    plan.rows.push_back({.sequence = i + 1,
                         .slot = static_cast<int32_t>(i - begin),
                         .output = RowOutput::kPooled,
                         .second_begin = c.second_begin});
  }
  plan.row_begin.push_back(plan.num_tokens());
  plan.block_begin.push_back(0);
  return plan;
}

class EncoderRun {
 public:
  EncoderRun(const ModelFile& file, CpuIsa isa, int32_t threads, LoadOptions load = {}) {
    auto executor = EncoderExecutor::Create(
        file.encoder->config, file.encoder->weights,
        *CreateCpuOps({.isa = isa, .threads = threads}),
        {.limits = {.max_step_tokens = 128, .max_rows = 8}, .load = std::move(load)});
    EXPECT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
  }
  std::vector<std::vector<float>> Step(const std::vector<Case>& cases, size_t begin, size_t end) {
    const StepId step = ++step_;
    EXPECT_TRUE(executor_->Submit(PlanOf(step, cases, begin, end)).ok());
    auto result = executor_->Wait(step);
    EXPECT_TRUE(result.ok()) << result.status();
    std::vector<std::vector<float>> vectors;
    for (RowResult& row : result->rows) vectors.push_back(std::move(row.pooled));
    return vectors;
  }

 private:
  std::unique_ptr<EncoderExecutor> executor_;
  StepId step_ = 0;
};

std::vector<std::pair<CpuIsa, int32_t>> Settings() {
  std::vector<std::pair<CpuIsa, int32_t>> settings;
  for (const CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (!ParseCpuIsa(CpuIsaName(isa)).ok()) continue;
    for (const int32_t threads : {1, 2}) settings.emplace_back(isa, threads);
  }
  return settings;
}

// A model as a folder and as a GGUF file with rounded matrices (tests/golden/make_gguf.py).
struct TinyModel {
  std::string name;
  bool gguf = false;
  double max_error = 0;
};

class TinyBert : public testing::TestWithParam<TinyModel> {};

TEST_P(TinyBert, GivesTheVectorsOfTransformersWhateverTheBatchFormAndThreads) {
  const std::string folder = Folder(GetParam().name);
  auto file =
      ModelFile::Open(GetParam().gguf ? Folder("../gguf/" + GetParam().name + ".gguf") : folder);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->encoder.has_value());
  const std::vector<Case> cases = ReadCases(folder);
  ASSERT_EQ(cases.size(), 7U);
  std::vector<std::vector<float>> first;
  for (const auto& [isa, threads] : Settings()) {
    SCOPED_TRACE(std::string(CpuIsaName(isa)) + " " + std::to_string(threads));
    EncoderRun run(*file, isa, threads);
    const auto together = run.Step(cases, 0, cases.size());
    if (first.empty()) first = together;
    EXPECT_EQ(together, first);
    for (size_t i = 0; i < cases.size(); ++i)
      EXPECT_EQ(run.Step(cases, i, i + 1).at(0), first[i]) << i;
    EXPECT_EQ(run.Step(cases, 2, 5)[1], first[3]);
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    ASSERT_EQ(first[i].size(), cases[i].expected.size());
    double dot = 0, a = 0, b = 0, worst = 0;
    for (size_t d = 0; d < first[i].size(); ++d) {
      dot += double{first[i][d]} * cases[i].expected[d];
      a += double{first[i][d]} * first[i][d];
      b += double{cases[i].expected[d]} * cases[i].expected[d];
      worst = std::max(worst, std::abs(double{first[i][d]} - cases[i].expected[d]));
    }
    EXPECT_LT(worst, GetParam().max_error) << i;
    EXPECT_GT(dot / std::sqrt(a * b), 1 - 1e-4) << i;
  }
}

// Keys and values are rounded to f16: 2^-11 of values of about 1, twice. Weights in f16 are as
// exact as that, those in bf16 an eighth.
INSTANTIATE_TEST_SUITE_P(
    Models, TinyBert,
    testing::Values(TinyModel{"bert-mean", false, 4e-3}, TinyModel{"bert-cls", false, 4e-3},
                    TinyModel{"bert-score", false, 4e-3}, TinyModel{"bert-mean", true, 8e-3},
                    TinyModel{"bert-cls", true, 3.2e-2}, TinyModel{"bert-score", true, 4e-3}),
    [](const auto& info) { return info.param.name.substr(5) + (info.param.gguf ? "Gguf" : ""); });

std::vector<Case> SomeTexts(int32_t vocab_size) {
  std::vector<Case> cases;
  for (int32_t i = 1; i <= 6; ++i) {
    Case& c = cases.emplace_back();
    for (int32_t t = 0; t < 3 * i; ++t) c.tokens.push_back((t * 7919 + i * 104729) % vocab_size);
  }
  return cases;
}

class ConvertedEncoder : public testing::TestWithParam<std::string> {};

TEST_P(ConvertedEncoder, GivesTheBitsOfItsFolderAndOfRoundingAtLoad) {
  const std::string path =
      GetParam() == "MiniLm" ? CachedModelPath("all-MiniLM-L6-v2") : Folder("bert-" + GetParam());
  const auto folder = ModelFile::Open(path);
  ASSERT_TRUE(folder.ok()) << folder.status();
  const std::string out = testing::TempDir() + "encoder-" + GetParam() + ".gguf";
  for (const std::optional<DType> type : {std::optional<DType>(), std::optional(DType::kQ8_0)}) {
    const absl::Status made = ConvertToGguf(*folder, out, {.quantise = type});
    ASSERT_TRUE(made.ok()) << made;
    const auto gguf = ModelFile::Open(out);
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    EXPECT_EQ(gguf->encoder->config, folder->encoder->config);
    EXPECT_EQ(gguf->info.max_model_len, folder->info.max_model_len);
    EXPECT_EQ(gguf->info.task, folder->info.task);
    EXPECT_EQ(gguf->info.normalise, folder->info.normalise);
    const std::vector<Case> cases = SomeTexts(folder->config.vocab_size);
    EncoderRun a(*folder, CpuIsa::kAvx2, 2, {.quantise = type});
    EncoderRun b(*gguf, CpuIsa::kAvx2, 2);
    EXPECT_EQ(a.Step(cases, 0, cases.size()), b.Step(cases, 0, cases.size()));
  }
  std::filesystem::remove(out);
}

INSTANTIATE_TEST_SUITE_P(Folders, ConvertedEncoder,
                         testing::Values("mean", "cls", "score", "MiniLm"),
                         [](const auto& info) { return info.param; });

TEST(BertFolder, SaysWhatTheModelDoes) {
  const auto mean = ModelFile::Open(Folder("bert-mean"));
  ASSERT_TRUE(mean.ok()) << mean.status();
  EXPECT_EQ(mean->info.task, ModelTask::kEmbed);
  EXPECT_EQ(mean->info.vector_dim, 32);
  EXPECT_EQ(mean->info.max_model_len, 40);
  EXPECT_FALSE(mean->info.normalise);  // its modules.json has no Normalize
  EXPECT_EQ(mean->encoder->config.pooling, Pooling::kMean);
  const auto cls = ModelFile::Open(Folder("bert-cls"));
  ASSERT_TRUE(cls.ok()) << cls.status();
  EXPECT_TRUE(cls->info.normalise);
  EXPECT_EQ(cls->encoder->config.pooling, Pooling::kFirst);
  const auto score = ModelFile::Open(Folder("bert-score"));
  ASSERT_TRUE(score.ok()) << score.status();
  EXPECT_EQ(score->info.task, ModelTask::kScore);
  EXPECT_EQ(score->info.vector_dim, 1);
}

// A safetensors file of some of another's tensors.
void WriteShard(const std::filesystem::path& path, std::span<const SafetensorsTensor> tensors) {
  std::string header, data;
  for (const SafetensorsTensor& tensor : tensors) {
    std::string shape;
    for (int d = 0; d < tensor.num_dims; ++d) {
      shape += (d == 0 ? "" : ",") + std::to_string(tensor.dims[d]);
    }
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.num_bytes));
    header += (header.empty() ? "{\"" : ",\"") + std::string(tensor.name) +
              R"(":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[)" +
              std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t size = header.size();
  std::ofstream(path, std::ios::binary)
      << std::string(reinterpret_cast<const char*>(&size), sizeof(size)) << header << data;
}

TEST(BertFolder, InShardsIsTheSameModel) {
  const std::filesystem::path folder = testing::TempDir() + "bert-shards";
  std::filesystem::remove_all(folder);
  std::filesystem::copy(Folder("bert-mean"), folder, std::filesystem::copy_options::recursive);
  const auto file = SafetensorsFile::Open((folder / "model.safetensors").string());
  ASSERT_TRUE(file.ok()) << file.status();
  const std::span<const SafetensorsTensor> all = file->tensors();
  std::string map;
  for (size_t i = 0; i < all.size(); ++i) {
    map += (i == 0 ? "\"" : ",\"") + std::string(all[i].name) + "\":\"" + (i < 10 ? "a" : "b") +
           ".safetensors\"";
  }
  WriteShard(folder / "a.safetensors", all.first(10));
  WriteShard(folder / "b.safetensors", all.subspan(10));
  std::ofstream(folder / "model.safetensors.index.json") << "{\"weight_map\":{" << map << "}}";
  std::filesystem::remove(folder / "model.safetensors");
  const auto shards = ModelFile::Open(folder.string());
  ASSERT_TRUE(shards.ok()) << shards.status();
  const auto whole = ModelFile::Open(Folder("bert-mean"));
  const std::vector<Case> cases = SomeTexts(60);
  EncoderRun a(*shards, CpuIsa::kScalar, 1), b(*whole, CpuIsa::kScalar, 1);
  EXPECT_EQ(a.Step(cases, 0, cases.size()), b.Step(cases, 0, cases.size()));
  std::filesystem::remove_all(folder);
}

TEST(BertFolder, RefusesInOneSentence) {
  const struct {
    std::string file, from, to, message;
  } kWrong[] = {
      {"config.json", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"",
       "key 'hidden_act' is 'relu'; supported: 'gelu'"},
      {"config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5",
       "key 'num_attention_heads' is 5; it must divide the hidden size 32"},
      {"config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
       "tensor 'blk.2.attn_q.weight' is missing"},
      {"config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
       "tensor 'blk.1.attn_k.bias' has no place"},
      {"config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 63",
       "tensor 'blk.0.ffn_up.weight' has shape [32, 64]; it must be [32, 63]"},
      {"1_Pooling/config.json", "\"pooling_mode_mean_tokens\": true",
       "\"pooling_mode_mean_tokens\": false", "supported poolings are"},
  };
  for (const auto& wrong : kWrong) {
    const std::filesystem::path folder = testing::TempDir() + "bert-wrong";
    std::filesystem::remove_all(folder);
    std::filesystem::copy(Folder("bert-mean"), folder, std::filesystem::copy_options::recursive);
    std::ifstream in(folder / wrong.file);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    const size_t at = text.find(wrong.from);
    ASSERT_NE(at, std::string::npos) << wrong.from;
    text.replace(at, wrong.from.size(), wrong.to);
    std::ofstream(folder / wrong.file) << text;
    const auto file = ModelFile::Open(folder.string());
    ASSERT_FALSE(file.ok()) << wrong.message;
    EXPECT_NE(std::string(file.status().message()).find(wrong.message), std::string::npos)
        << file.status();
    std::filesystem::remove_all(folder);
  }
}

}  // namespace
}  // namespace sluice
