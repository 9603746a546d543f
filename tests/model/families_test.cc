// Every decoder family: a tiny random model of tests/golden/families against the logits that
// transformers computed from it in float32 (tests/golden/make_families.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "model/hf_folder.h"
#include "model/transformer.h"
#include "model/weight_views.h"
#include "tests/model/run_step.h"
#include "tests/model/simple_ops.h"

namespace sluice {
namespace {

struct Golden {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<std::vector<float>> logits;  // after each of `positions`
};

Golden ReadGolden(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  size_t at = 0;
  const auto read = [&](void* out, size_t size) {
    if (at + size > bytes.size()) FAIL() << path << " is too short";
    std::memcpy(out, bytes.data() + at, size);
    at += size;
  };
  char magic[4] = {};
  uint32_t version = 0, num_tokens = 0, num_positions = 0, vocab = 0;
  read(magic, 4);
  read(&version, 4);
  EXPECT_EQ(std::string(magic, 4), "SLFG");
  EXPECT_EQ(version, 1U);
  Golden golden;
  read(&num_tokens, 4);
  golden.tokens.resize(num_tokens);
  read(golden.tokens.data(), num_tokens * 4);
  read(&num_positions, 4);
  read(&vocab, 4);
  for (uint32_t i = 0; i < num_positions; ++i) {
    read(&golden.positions.emplace_back(), 4);
    golden.logits.emplace_back(vocab);
    read(golden.logits.back().data(), vocab * 4);
  }
  return golden;
}

class Families : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const char* source = std::getenv("SLUICE_SOURCE_DIR");
    ASSERT_NE(source, nullptr) << "SLUICE_SOURCE_DIR must name the root of the sources";
    const std::string path = std::string(source) + "/tests/golden/families/" + GetParam();
    auto folder = HfFolder::Open(path);
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = *std::move(folder);
    const auto views = FindWeights(folder_->tensors(), folder_->config().config);
    ASSERT_TRUE(views.ok()) << views.status();
    views_ = *views;
    golden_ = ReadGolden(path + "/golden.bin");
    ASSERT_FALSE(golden_.positions.empty());
  }

  std::unique_ptr<Transformer> Make(Ops& ops) {
    auto made = Transformer::Create(folder_->config().config, views_, {512, 16, 128, 16, 128}, ops);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  // Logits of golden_.positions: the sequence cut behind each of them, all in one step.
  std::vector<std::vector<float>> InOneBatch(Ops& ops, bool states = false) {
    std::vector<StepRow> rows;
    int32_t block = 0;
    for (const int32_t position : golden_.positions) {
      StepRow& row = rows.emplace_back();
      row.tokens.assign(golden_.tokens.begin(), golden_.tokens.begin() + position + 1);
      for (int32_t p = 0; p <= position; p += 16) row.blocks.push_back(block++);
    }
    return RunStep(*Make(ops), ops, rows, states);
  }

  // The same from one sequence that grows by the tokens up to the next position.
  std::vector<std::vector<float>> InChunks(Ops& ops) {
    const auto transformer = Make(ops);
    std::vector<std::vector<float>> out;
    int32_t done = 0;
    for (const int32_t position : golden_.positions) {
      StepRow row;
      row.tokens.assign(golden_.tokens.begin() + done, golden_.tokens.begin() + position + 1);
      row.num_cached = done;
      for (int32_t p = 0; p <= position; p += 16) row.blocks.push_back(40 - p / 16);
      out.push_back(RunStep(*transformer, ops, {row})[0]);
      done = position + 1;
    }
    return out;
  }

  // The largest error over the deviation of the golden logits.
  double RelativeError(const std::vector<std::vector<float>>& logits) const {
    double worst = 0, squares = 0, count = 0;
    EXPECT_EQ(logits.size(), golden_.logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
      EXPECT_EQ(logits[i].size(), golden_.logits[i].size());
      for (size_t t = 0; t < logits[i].size(); ++t) {
        const double wanted = golden_.logits[i][t];
        const double error = std::abs(logits[i][t] - wanted);
        worst = error <= worst ? worst : error;  // NaN stays
        squares += wanted * wanted;
        ++count;
      }
    }
    return worst / std::sqrt(squares / count);
  }

  std::unique_ptr<HfFolder> folder_;
  WeightViews views_;
  Golden golden_;
};

// Both sides compute in float32 or better from the same bfloat16 weights: what differs is the order
// of sums of up to 64 terms, a dozen one after the other.
TEST_P(Families, OverTextbookOpsEqualsTransformersInFloat32) {
  SimpleOps ops;
  const double error = RelativeError(InOneBatch(ops));
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LE(error, 256 * 0x1p-24);
}

// The backend keeps keys and values as halfs, rounded by up to 2^-12 of their value. Scores are
// sums of such errors, two or three layers add theirs, and this is the worst of 1,800 logits.
TEST_P(Families, OverTheCpuBackendIsWithinHalfPrecisionKeysAndValues) {
  const auto ops = CreateCpuOps({.threads = 1});
  ASSERT_TRUE(ops.ok()) << ops.status();
  const double error = RelativeError(InOneBatch(**ops));
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LE(error, 16 * 0x1p-12);
}

// What an embedding model of the family gives: its product with the head's weights, by a plain
// loop, is the golden logits.
TEST_P(Families, StatesTimesTheHeadAreTheLogits) {
  if (folder_->config().config.final_softcap > 0) return;  // the golden is behind the cap
  SimpleOps ops;
  const WeightView& head = views_.head.data != nullptr ? views_.head : views_.token_embd;
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
  EXPECT_LE(RelativeError(logits), 256 * 0x1p-24);
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

INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         ::testing::Values("llama", "llama_linear", "llama3", "mistral", "mixtral",
                                           "qwen2", "qwen2moe", "qwen3", "qwen3_yarn", "qwen3moe",
                                           "gemma", "gemma2", "gemma3", "phi3", "phi3_longrope"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sluice
