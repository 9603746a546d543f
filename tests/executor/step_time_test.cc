// Against numbers worked out by hand.
#include "executor/step_time.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace sluice {
namespace {

// 2 layers of D = 8: attention 8 * (8 + 2 * 4) + 8 * 8 = 192, FFN 3 * 8 * 16 = 384: 1,152
// parameters in layers, 80 in the head.
ModelShape Small() {
  ModelShape shape;
  shape.config.num_layers = 2;
  shape.config.model_dim = 8;
  shape.config.ffn_dim = 16;
  shape.config.num_q_heads = 2;
  shape.config.num_kv_heads = 1;
  shape.config.head_dim = 4;
  shape.config.vocab_size = 10;
  return shape;
}

// 1,000 bytes and 10,000 FLOPs a second.
DeviceSpec Slow() {
  return {.bandwidth_bytes_per_s = 2000,
          .bandwidth_efficiency = 0.5,
          .flops_per_s = 40000,
          .flops_efficiency = 0.25};
}

BatchPlan Plan(std::vector<std::pair<int32_t, int32_t>> tokens_and_context, size_t num_outputs) {
  BatchPlan plan;
  plan.row_begin = {0};
  for (const auto& [tokens, context] : tokens_and_context) {
    plan.tokens.resize(plan.tokens.size() + static_cast<size_t>(tokens));
    plan.row_begin.push_back(plan.num_tokens());
    plan.context_len.push_back(context);
    const bool outputs = plan.rows.size() < num_outputs;
    plan.rows.push_back({.output = outputs ? RowOutput::kSample : RowOutput::kNone});
  }
  return plan;
}

TEST(StepTime, CountsParametersAndBytes) {
  ModelShape shape = Small();
  EXPECT_EQ(shape.LayerParameters(), 1152);
  EXPECT_EQ(shape.HeadParameters(), 80);
  EXPECT_EQ(shape.WeightBytes(), 2 * (1152 + 2 * 80));
  EXPECT_EQ(shape.KvTokenBytes(), 2 * 2 * 4 * 2);
  shape.tied_head = true;
  shape.weight_bytes_per_parameter = 0.5;
  EXPECT_EQ(shape.WeightBytes(), (1152 + 80) / 2);
}

TEST(StepTime, CountsTheParametersOfKnownModels) {
  ModelShape shape = Small();
  ModelConfig& c = shape.config;
  c = {.model_dim = 4096,
       .ffn_dim = 14336,
       .vocab_size = 128256,
       .num_layers = 32,
       .num_q_heads = 32,
       .num_kv_heads = 8,
       .head_dim = 128};
  // Llama 3.1 8B has 8,030,261,248 parameters, of which 266,240 are norms.
  EXPECT_EQ(shape.WeightBytes(), 2 * (8030261248 - 266240));
  EXPECT_EQ(shape.KvTokenBytes(), 131072);
}

TEST(StepTime, CountsWhatAPlanDoes) {
  const StepWork work = StepWork::Of(Plan({{1, 100}, {4, 4}, {3, 10}}, 2));
  EXPECT_EQ(work.tokens, 8);
  EXPECT_EQ(work.rows, 3);
  EXPECT_EQ(work.outputs, 2);
  EXPECT_EQ(work.context_tokens, 114);
  EXPECT_EQ(work.attended, 100 + (1 + 2 + 3 + 4) + (8 + 9 + 10));
}

TEST(StepTime, DecodeIsBoundByBytes) {
  // Weights 2,304 bytes against 2,304 FLOPs; head 160 against 160; KV (100 + 1) * 32 bytes against
  // 100 * 4 * 2 * 8 FLOPs.
  const auto time = StepTimeModel::Of(Slow(), Small()).TimeOf(StepWork::Of(Plan({{1, 100}}, 1)));
  EXPECT_EQ(time, absl::Milliseconds(2304 + 160 + 3232));
}

TEST(StepTime, AttentionOverLongContextsIsBoundByFlopsWhereTheyCostMore) {
  DeviceSpec device = Slow();
  device.flops_per_s /= 10;  // 1,000 a second
  const auto time = StepTimeModel::Of(device, Small()).TimeOf(StepWork::Of(Plan({{1, 100}}, 1)));
  EXPECT_EQ(time, absl::Milliseconds(2304 + 160 + 6400));
}

TEST(StepTime, PrefillIsBoundByFlops) {
  // 40 tokens: 2 * 1,152 * 40 FLOPs; no row gives output; KV (40 + 40) * 32 bytes against 820 * 64
  // FLOPs.
  const auto time = StepTimeModel::Of(Slow(), Small()).TimeOf(StepWork::Of(Plan({{40, 40}}, 0)));
  EXPECT_EQ(time, absl::Microseconds(9216000 + 5248000));
}

TEST(StepTime, OverheadsAdd) {
  DeviceSpec device = Slow();
  device.step_s = 1;
  device.layer_s = 0.25;
  device.token_s = 0.125;
  device.row_s = 4;
  const StepWork work = StepWork::Of(Plan({{1, 100}}, 1));
  const auto bare = StepTimeModel::Of(Slow(), Small()).TimeOf(work);
  EXPECT_EQ(StepTimeModel::Of(device, Small()).TimeOf(work) - bare,
            absl::Seconds(1 + 2 * 0.25 + 0.125 + 4));
}

TEST(StepTime, Fp8ProductsRunAtTheirOwnRateWhereThereIsOne) {
  ModelShape shape = Small();
  shape.fp8_products = true;
  DeviceSpec device = Slow();
  const StepWork work = StepWork::Of(Plan({{40, 40}}, 0));
  EXPECT_EQ(StepTimeModel::Of(device, shape).TimeOf(work), absl::Microseconds(9216000 + 5248000));
  device.fp8_flops_per_s = 2 * device.flops_per_s;
  EXPECT_EQ(StepTimeModel::Of(device, shape).TimeOf(work), absl::Microseconds(4608000 + 5248000));
}

TEST(StepTime, OneTokenReadsItsExpertsAndManyTokensAll) {
  ModelShape shape = Small();
  shape.config.moe = {.num_experts = 4, .num_used = 1, .ffn_dim = 16};
  // Layers: 192 for attention, 32 for the router, 4 experts of 384.
  EXPECT_EQ(shape.LayerParameters(), 2 * (192 + 32 + 4 * 384));
  EXPECT_EQ(shape.ActiveParameters(), 2 * (192 + 32 + 384));
  DeviceSpec device = Slow();
  device.flops_per_s = 1e12;
  const StepTimeModel model = StepTimeModel::Of(device, shape);
  const auto one = model.TimeOf({.tokens = 1, .rows = 1});
  const auto many = model.TimeOf({.tokens = 1000, .rows = 1});
  EXPECT_NEAR(absl::ToDoubleSeconds(one), 2 * 2 * 608 / 1000.0 + 0.032, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(many), 2 * 2 * 1760 / 1000.0 + 32, 1e-6);
}

TEST(StepTime, AttentionMayReachLessOfThePeak) {
  DeviceSpec device = Slow();
  const StepTimeModel as_products = StepTimeModel::Of(device, Small());
  device.attention_efficiency = 0.05;  // a fifth of the products'
  const StepTimeModel slower = StepTimeModel::Of(device, Small());
  EXPECT_DOUBLE_EQ(slower.attended_s, 5 * as_products.attended_s);
  EXPECT_EQ(slower.token_products_s, as_products.token_products_s);
}

}  // namespace
}  // namespace sluice
