#include "tests/model/logit_golden.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/check.h"
#include "model/transformer.h"
#include "tests/model/run_step.h"

namespace sluice {
namespace {

std::unique_ptr<Transformer> Make(const ModelConfig& config, const WeightViews& weights, Ops& ops,
                                  KvType kv_type) {
  auto made = Transformer::Create(config, weights, {512, 16, 128, 16, 128, kv_type}, ops);
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

}  // namespace

LogitGolden ReadLogitGolden(const std::string& path) {
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
  LogitGolden golden;
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

std::vector<std::vector<float>> LogitsInOneBatch(const LogitGolden& golden,
                                                 const ModelConfig& config,
                                                 const WeightViews& weights, Ops& ops, bool states,
                                                 KvType kv_type) {
  std::vector<StepRow> rows;
  int32_t block = 0;
  for (const int32_t position : golden.positions) {
    StepRow& row = rows.emplace_back();
    row.tokens.assign(golden.tokens.begin(), golden.tokens.begin() + position + 1);
    for (int32_t p = 0; p <= position; p += 16) row.blocks.push_back(block++);
  }
  return RunStep(*Make(config, weights, ops, kv_type), ops, rows, states);
}

std::vector<std::vector<float>> LogitsInChunks(const LogitGolden& golden, const ModelConfig& config,
                                               const WeightViews& weights, Ops& ops,
                                               KvType kv_type) {
  const auto transformer = Make(config, weights, ops, kv_type);
  std::vector<std::vector<float>> out;
  int32_t done = 0;
  for (const int32_t position : golden.positions) {
    StepRow row;
    row.tokens.assign(golden.tokens.begin() + done, golden.tokens.begin() + position + 1);
    row.num_cached = done;
    for (int32_t p = 0; p <= position; p += 16) row.blocks.push_back(40 - p / 16);
    out.push_back(RunStep(*transformer, ops, {row})[0]);
    done = position + 1;
  }
  return out;
}

double RelativeError(const LogitGolden& golden, const std::vector<std::vector<float>>& logits) {
  double worst = 0, squares = 0, count = 0;
  EXPECT_EQ(logits.size(), golden.logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    EXPECT_EQ(logits[i].size(), golden.logits[i].size());
    for (size_t t = 0; t < logits[i].size(); ++t) {
      const double wanted = golden.logits[i][t];
      const double error = std::abs(logits[i][t] - wanted);
      worst = error <= worst ? worst : error;  // NaN stays
      squares += wanted * wanted;
      ++count;
    }
  }
  return worst / std::sqrt(squares / count);
}

std::string GoldenFolder(const std::string& name) {
  const char* source = std::getenv("SLUICE_SOURCE_DIR");
  EXPECT_NE(source, nullptr) << "SLUICE_SOURCE_DIR must name the root of the sources";
  return source == nullptr ? std::string() : std::string(source) + "/tests/golden/" + name;
}

GoldenModel OpenGoldenModel(const std::string& name, bool keep_fp8) {
  GoldenModel model{.path = GoldenFolder(name), .folder = nullptr, .views = {}, .logits = {}};
  auto folder = HfFolder::Open(model.path, keep_fp8);
  SLUICE_CHECK(folder.ok(), "{}: {}", model.path, folder.status().ToString());
  model.folder = *std::move(folder);
  const auto views = FindWeights(model.folder->tensors(), model.config());
  SLUICE_CHECK(views.ok(), "{}: {}", model.path, views.status().ToString());
  model.views = *views;
  model.logits = ReadLogitGolden(model.path + "/golden.bin");
  SLUICE_CHECK(!model.logits.positions.empty(), "{}: golden.bin is empty", model.path);
  return model;
}

}  // namespace sluice
