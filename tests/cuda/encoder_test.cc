// Tiny BERT encoders over the CUDA backend against the vectors and scores that transformers
// computed in float32 (tests/golden/make_embeddings.py), all texts in one step, two steps in
// flight.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/encoder_executor.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/simt/runtime.h"
#include "model/model_file.h"
#include "tests/model/logit_golden.h"

namespace sluice {
namespace {

class CudaEncoders : public ::testing::TestWithParam<const char*> {};

TEST_P(CudaEncoders, GiveTheVectorsOfTransformers) {
  simt::SetDevices({simt::DeviceModel{}});
  const std::string folder = GoldenFolder(std::string("families/") + GetParam());
  const auto file = ModelFile::Open(folder);
  ASSERT_TRUE(file.ok()) << file.status();
  auto ops = CreateCudaOps({});
  ASSERT_TRUE(ops.ok()) << ops.status();
  auto executor =
      EncoderExecutor::Create(file->encoder->config, file->encoder->weights, *std::move(ops),
                              {.limits = {.max_step_tokens = 128, .max_rows = 8}, .load = {}});
  ASSERT_TRUE(executor.ok()) << executor.status();

  std::ifstream in(folder + "/expected.json");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const boost::json::value parsed = boost::json::parse(text);
  BatchPlan plan;
  std::vector<std::vector<float>> expected;
  for (const auto& entry : parsed.as_array()) {
    const auto row = static_cast<int32_t>(plan.rows.size());
    plan.row_begin.push_back(plan.num_tokens());
    plan.block_begin.push_back(0);
    int32_t length = 0;
    for (const auto& token : entry.at("tokens").as_array()) {
      plan.tokens.push_back(token.to_number<TokenId>());
      plan.positions.push_back(length++);
    }
    plan.context_len.push_back(length);
    plan.rows.push_back({.sequence = static_cast<SequenceId>(row) + 1,
                         .slot = row,
                         .output = RowOutput::kPooled,
                         .second_begin = entry.at("second_begin").to_number<int32_t>()});
    std::vector<float>& vector = expected.emplace_back();
    for (const auto& value : entry.at("vector").as_array())
      vector.push_back(value.to_number<float>());
  }
  plan.row_begin.push_back(plan.num_tokens());
  plan.block_begin.push_back(0);
  for (StepId step = 1; step <= 2; ++step) {
    plan.step = step;
    ASSERT_TRUE((*executor)->Submit(plan).ok());
  }
  std::vector<std::vector<float>> first;
  for (StepId step = 1; step <= 2; ++step) {
    const auto result = (*executor)->Wait(step);
    ASSERT_TRUE(result.ok()) << result.status();
    for (size_t r = 0; r < expected.size(); ++r) {
      const std::vector<float>& got = result->rows[r].pooled;
      ASSERT_EQ(got.size(), expected[r].size());
      float top = 0.5F;  // scores are sums of terms about that large
      for (const float value : expected[r]) top = std::max(top, std::fabs(value));
      // f16 activations, values and weights of attention over two layers.
      for (size_t i = 0; i < got.size(); ++i)
        EXPECT_NEAR(got[i], expected[r][i], top * 0x1p-7) << r << ", " << i;
      if (step == 1) first.push_back(got);
      EXPECT_EQ(got, first[r]);
    }
  }
  EXPECT_TRUE(simt::TakeFindings().empty());
}

INSTANTIATE_TEST_SUITE_P(Golden, CudaEncoders,
                         ::testing::Values("bert-mean", "bert-cls", "bert-score"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace sluice
