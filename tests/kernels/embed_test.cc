#include <gtest/gtest.h>

#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"
#include "tests/kernels/weight_bytes.h"

namespace sluice {
namespace {

constexpr int32_t kVocab = 50;

class EmbedOf : public testing::TestWithParam<DType> {};

TEST_P(EmbedOf, IsTheDequantisedRowRoundedOnce) {
  const DType dtype = GetParam();
  const int32_t cols = GetDTypeInfo(dtype).block_elements == 1 ? 37 : 768;
  const std::vector<uint8_t> bytes = RandomWeightBytes(dtype, kVocab, cols, 3);
  const WeightView table{dtype, kVocab, cols, bytes.data()};
  const std::vector<int32_t> tokens = {0, 49, 7, 7, 31};
  const std::vector<double> expected = reference::Embed({table}, tokens);
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const auto ops = MakeCpuOps(setting);
    StepBatch batch;
    batch.AddRow(static_cast<int32_t>(tokens.size()), 0, {});
    batch.SetTokens(tokens);
    Matrix out(static_cast<int32_t>(tokens.size()), cols);
    ops->BeginStep(batch.view());
    ops->Embed({table}, 1, out.view());
    ASSERT_TRUE(ops->Finish().ok());
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(out.data[i], static_cast<float>(expected[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, EmbedOf,
                         testing::Values(DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0,
                                         DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ2K, DType::kQ3K, DType::kQ4K, DType::kQ5K,
                                         DType::kQ6K, DType::kIq4Nl),
                         [](const auto& info) {
                           return std::string(GetDTypeInfo(info.param).name);
                         });

TEST(Embed, ScaleMultipliesEveryValueAfterItIsRounded) {
  const std::vector<float> values = RandomFloats(kVocab * 40, 1);
  const WeightView table{DType::kF32, kVocab, 40, values.data()};
  const std::vector<int32_t> tokens = {7, 0, 7};
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    const auto ops = MakeCpuOps(setting);
    StepBatch batch;
    batch.AddRow(3, 0, {});
    batch.SetTokens(tokens);
    Matrix out(3, 40);
    ops->BeginStep(batch.view());
    ops->Embed({table}, 25.3F, out.view());
    ASSERT_TRUE(ops->Finish().ok());
    const std::vector<double> expected = reference::Embed({table}, tokens, 25.3F);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(out.data[i], static_cast<float>(expected[i])) << i;
  }
}

TEST(Embed, MinusOneIsTheTokenLastSampledInTheRowsSlot) {
  const std::vector<float> table_values = RandomFloats(kVocab * 4, 1);
  const WeightView table{DType::kF32, kVocab, 4, table_values.data()};
  const auto ops = MakeCpuOps({BestCpuIsa(), 2});
  ASSERT_TRUE(ops->AllocateSlots(3, kVocab).ok());
  StepBatch batch;
  batch.AddRow(1, 0, {}, 2);
  batch.AddRow(1, 0, {}, 0);
  const SlotView greedy{.slot = 2, .temperature = 0};
  SlotView other = greedy;
  other.slot = 0;
  Matrix logits(2, kVocab);
  logits.row(0)[17] = 5;
  logits.row(1)[33] = 5;
  const std::vector<int32_t> num_output_tokens = {0, 0};
  std::vector<SampleOut> sampled(2);
  ops->BeginStep(batch.view());
  ops->InitSlot(greedy);
  ops->InitSlot(other);
  ops->Sample(logits.view(), num_output_tokens, sampled);
  ASSERT_TRUE(ops->Finish().ok());
  EXPECT_EQ(sampled[0].token, 17);
  EXPECT_EQ(sampled[1].token, 33);

  StepBatch next;
  next.AddRow(1, 1, {}, 0);
  next.AddRow(1, 1, {}, 2);
  next.SetTokens(std::vector<int32_t>{-1, -1});
  Matrix out(2, 4);
  ops->BeginStep(next.view());
  ops->Embed({table}, 1, out.view());
  ASSERT_TRUE(ops->Finish().ok());
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(out.data[i], table_values[33 * 4 + i]);
    EXPECT_EQ(out.data[4 + i], table_values[17 * 4 + i]);
  }
}

TEST(Embed, ATokenOutsideTheTableFailsTheStep) {
  const std::vector<float> table_values(kVocab * 4);
  const WeightView table{DType::kF32, kVocab, 4, table_values.data()};
  const auto ops = MakeCpuOps({BestCpuIsa(), 1});
  StepBatch batch;
  batch.AddRow(1, 0, {});
  batch.SetTokens(std::vector<int32_t>{kVocab});
  Matrix out(1, 4);
  ops->BeginStep(batch.view());
  ops->Embed({table}, 1, out.view());
  EXPECT_EQ(ops->Finish().message(), "token id is 50; the embedding table has 50 rows");
}

TEST(GatherOutputs, TakesTheLastTokenOfEachOutputRow) {
  const auto ops = MakeCpuOps({BestCpuIsa(), 2});
  StepBatch batch;
  batch.AddRow(3, 0, {});
  batch.AddRow(2, 0, {}, 0, false);
  batch.AddRow(1, 9, {});
  Matrix x(6, 21, 1);
  Matrix out(2, 21);
  ops->BeginStep(batch.view());
  ops->GatherOutputs(x.view(), out.view());
  ASSERT_TRUE(ops->Finish().ok());
  EXPECT_TRUE(std::equal(out.row(0).begin(), out.row(0).end(), x.row(2).begin()));
  EXPECT_TRUE(std::equal(out.row(1).begin(), out.row(1).end(), x.row(5).begin()));
}

}  // namespace
}  // namespace sluice
