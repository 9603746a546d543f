#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "kernels/philox.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/step.h"

namespace sluice {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Samples rows of logits, one slot a row.
class Sampler {
 public:
  Sampler(const CpuSetting& setting, int32_t max_rows, int32_t vocab)
      : ops_(MakeCpuOps(setting)), vocab_(vocab) {
    EXPECT_TRUE(ops_->AllocateSlots(max_rows, vocab).ok());
  }

  void Init(const SlotView& slot) {
    ops_->BeginStep(BatchView());
    ops_->InitSlot(slot);
    EXPECT_TRUE(ops_->Finish().ok());
  }

  // logits [rows, vocab]; row i uses slots[i] and has num_output_tokens[i].
  std::vector<SampleOut> Sample(std::vector<float> logits, std::span<const int32_t> slots,
                                std::span<const int32_t> num_output_tokens) {
    StepBatch batch;
    for (const int32_t slot : slots) batch.AddRow(1, 0, {}, slot);
    std::vector<SampleOut> out(slots.size());
    const auto rows = static_cast<int32_t>(slots.size());
    ops_->BeginStep(batch.view());
    ops_->Sample({logits.data(), rows, vocab_, vocab_}, num_output_tokens, out);
    EXPECT_TRUE(ops_->Finish().ok());
    return out;
  }

  SampleOut SampleOne(std::span<const float> logits, const SlotView& slot,
                      int32_t num_output_tokens) {
    Init(slot);
    return Sample({logits.begin(), logits.end()}, {{slot.slot}}, {{num_output_tokens}})[0];
  }

 private:
  std::unique_ptr<Ops> ops_;
  int32_t vocab_;
};

// Logits that are multiples of 1/8, so that ties are frequent.
std::vector<float> TiedLogits(int32_t vocab, uint32_t seed) {
  std::vector<float> logits = RandomFloats(static_cast<size_t>(vocab), seed, 3);
  for (float& x : logits) x = std::nearbyint(x * 8) / 8;
  return logits;
}

// For 2,000 draws of each slot: the token must be where the reference's inverse CDF puts the same
// draw, unless the draw is within `slack` of a boundary between two candidates, and the frequencies
// must pass a chi-square test.
void ExpectDistribution(std::span<const float> logits, SlotView slot, int32_t min_candidates,
                        int32_t max_candidates) {
  constexpr int32_t kDraws = 2000;
  constexpr double kSlack = 1e-6;
  slot.seed = 1234;
  Sampler sampler({BestCpuIsa(), 1}, 1, static_cast<int32_t>(logits.size()));
  const std::vector<reference::Candidate> candidates = reference::Candidates(logits, slot, 1000);
  EXPECT_GE(candidates.size(), static_cast<size_t>(min_candidates));
  EXPECT_LE(candidates.size(), static_cast<size_t>(max_candidates));
  std::map<int32_t, int32_t> counts;
  for (int32_t i = 0; i < kDraws; ++i) {
    const int32_t token = sampler.SampleOne(logits, slot, 1000 + i).token;
    const double draw = SampleDraw(slot.seed, slot.choice, static_cast<uint32_t>(1000 + i));
    if (token != reference::InverseCdf(candidates, draw)) {
      EXPECT_TRUE(token == reference::InverseCdf(candidates, draw - kSlack) ||
                  token == reference::InverseCdf(candidates, draw + kSlack))
          << "draw " << i;
    }
    ++counts[token];
  }
  // Candidates expected fewer than 5 times share a cell.
  double chi_square = 0;
  double rest_expected = 0;
  double rest_seen = 0;
  int cells = 0;
  for (const reference::Candidate& candidate : candidates) {
    const double expected = candidate.probability * kDraws;
    const double seen = counts[candidate.token];
    if (expected < 5) {
      rest_expected += expected;
      rest_seen += seen;
      continue;
    }
    chi_square += (seen - expected) * (seen - expected) / expected;
    ++cells;
  }
  if (rest_expected >= 5) {
    chi_square += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
    ++cells;
  }
  // Wilson and Hilferty's approximation of the 0.999 quantile.
  const double freedom = std::max(cells - 1, 1);
  const double root = 1 - 2 / (9 * freedom) + 3.09 * std::sqrt(2 / (9 * freedom));
  EXPECT_LT(chi_square, freedom * root * root * root) << "seed " << slot.seed;
}

TEST(Sample, FollowsTheReferenceDistribution) {
  const std::vector<float> small = TiedLogits(37, 1);
  const std::vector<float> large = TiedLogits(5003, 2);
  ExpectDistribution(small, {.temperature = 1}, 37, 37);
  ExpectDistribution(small, {.temperature = 0.3F}, 30, 37);
  ExpectDistribution(large, {.temperature = 1}, 5000, 5003);
  ExpectDistribution(large, {.temperature = 5}, 5003, 5003);
  ExpectDistribution(large, {.temperature = 1, .top_k = 1}, 1, 1);
  ExpectDistribution(large, {.temperature = 1, .top_k = 7}, 7, 7);
  ExpectDistribution(large, {.temperature = 2, .top_k = 900}, 900, 900);
  ExpectDistribution(large, {.temperature = 1, .top_p = 0.73F}, 50, 1000);
  ExpectDistribution(large, {.temperature = 3, .top_p = 0.95F}, 1000, 5000);
  ExpectDistribution(large, {.temperature = 1, .top_p = 0}, 1, 1);
  ExpectDistribution(large, {.temperature = 1, .min_p = 0.031F}, 2, 500);
  ExpectDistribution(large, {.temperature = 2, .min_p = 1e-5F}, 1000, 5003);
  ExpectDistribution(large, {.temperature = 1, .min_p = 1}, 1, 8);
  ExpectDistribution(large, {.temperature = 1.5F, .top_p = 0.9F, .min_p = 0.011F, .top_k = 400}, 10,
                     399);
}

TEST(Sample, BiasPenaltiesAndMinTokensFollowTheReferenceDistribution) {
  const std::vector<float> logits = TiedLogits(301, 3);
  const std::vector<std::pair<int32_t, float>> bias = {{3, 6.5F}, {40, -100}, {300, 5}};
  const std::vector<int32_t> prompt = {3, 3, 9, 11, 250};
  const std::vector<int32_t> output = {9, 40, 9, 9, 300};
  const std::vector<int32_t> stop = {3, 17};
  SlotView slot;
  slot.bias = bias.data();
  slot.num_bias = 3;
  ExpectDistribution(logits, slot, 301, 301);
  slot.repetition_penalty = 1.3F;
  slot.prompt_tokens = prompt.data();
  slot.num_prompt_tokens = 5;
  slot.output_tokens = output.data();
  slot.num_output_tokens = 5;
  // Each draw initialises the slot anew, so the history is the same for every one.
  ExpectDistribution(logits, slot, 301, 301);
  slot.presence_penalty = 0.7F;
  slot.frequency_penalty = -1.1F;
  ExpectDistribution(logits, slot, 301, 301);
  slot.stop_tokens = stop.data();
  slot.num_stop_tokens = 2;
  slot.min_tokens = 100'000;
  ExpectDistribution(logits, slot, 301, 301);
}

TEST(Sample, GreedyTakesTheLowestIdAmongEquals) {
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    for (const int32_t vocab : {1, 2, 16, 17, 100, 1003}) {
      Sampler sampler(setting, 1, vocab);
      std::vector<float> logits(static_cast<size_t>(vocab), -3);
      EXPECT_EQ(sampler.SampleOne(logits, {.temperature = 0}, 0).token, 0);
      logits[static_cast<size_t>(vocab - 1)] = 2;
      EXPECT_EQ(sampler.SampleOne(logits, {.temperature = 0}, 0).token, vocab - 1);
      logits[static_cast<size_t>(vocab / 2)] = 2;
      EXPECT_EQ(sampler.SampleOne(logits, {.temperature = 0}, 0).token, vocab / 2);
    }
  }
}

TEST(Sample, CountsGrowWithEverySampledToken) {
  Sampler sampler({BestCpuIsa(), 1}, 2, 8);
  // Each token taken costs it 1: the greedy choice walks down the staircase and comes back.
  const std::vector<float> logits = {3, 2.5F, 2.25F, -9, -9, -9, -9, -9};
  sampler.Init({.slot = 1, .temperature = 0, .frequency_penalty = 1});
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 6; ++i) tokens.push_back(sampler.Sample(logits, {{1}}, {{i}})[0].token);
  EXPECT_EQ(tokens, (std::vector<int32_t>{0, 1, 2, 0, 1, 2}));
  // A slot that is initialised again has forgotten.
  sampler.Init({.slot = 1, .temperature = 0, .presence_penalty = 5});
  EXPECT_EQ(sampler.Sample(logits, {{1}}, {{0}})[0].token, 0);
  EXPECT_EQ(sampler.Sample(logits, {{1}}, {{1}})[0].token, 1);
  // And one that is initialised with its history goes on as if it had never stopped.
  const std::vector<int32_t> history = {0, 1};
  sampler.Init({.slot = 0,
                .temperature = 0,
                .presence_penalty = 5,
                .output_tokens = history.data(),
                .num_output_tokens = 2});
  EXPECT_EQ(sampler.Sample(logits, {{0}}, {{2}})[0].token, 2);
}

TEST(Sample, RepetitionPenaltyShrinksPositiveAndGrowsNegativeLogits) {
  Sampler sampler({BestCpuIsa(), 1}, 1, 4);
  const std::vector<int32_t> prompt = {0, 2};
  SlotView slot{.temperature = 0,
                .repetition_penalty = 2,
                .prompt_tokens = prompt.data(),
                .num_prompt_tokens = 2};
  EXPECT_EQ(sampler.SampleOne(std::vector<float>{3, 2, -9, -9}, slot, 0).token, 1);
  EXPECT_EQ(sampler.SampleOne(std::vector<float>{-9, -9, -1, -1.5F}, slot, 0).token, 3);
}

TEST(Sample, StopTokensWaitForMinTokens) {
  const std::vector<int32_t> stop = {2, 5};
  const std::vector<float> logits = {0, 1, 9, 3, 2, 8};
  for (const float temperature : {0.0F, 1.0F}) {
    Sampler sampler({BestCpuIsa(), 1}, 1, 6);
    SlotView slot{.temperature = temperature,
                  .top_k = 1,
                  .min_tokens = 4,
                  .stop_tokens = stop.data(),
                  .num_stop_tokens = 2};
    EXPECT_EQ(sampler.SampleOne(logits, slot, 0).token, 3);
    EXPECT_EQ(sampler.SampleOne(logits, slot, 3).token, 3);
    EXPECT_EQ(sampler.SampleOne(logits, slot, 4).token, 2);
  }
}

TEST(Sample, NanAndInfinitiesNeverCrashNorWin) {
  const std::vector<int32_t> stop = {0, 1};
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    Sampler sampler(setting, 1, 20);
    for (const float temperature : {0.0F, 1e-30F, 1.0F, 1e30F}) {
      SlotView slot{.temperature = temperature, .num_logprobs = 3};
      std::vector<float> logits(20, kNan);
      EXPECT_EQ(sampler.SampleOne(logits, slot, 0).token, 0);
      logits.assign(20, -kInfinity);
      EXPECT_EQ(sampler.SampleOne(logits, slot, 0).token, 0);
      slot.stop_tokens = stop.data();
      slot.num_stop_tokens = 2;
      slot.min_tokens = 1;
      EXPECT_EQ(sampler.SampleOne(logits, slot, 0).token, 2);
      logits[7] = -5;
      logits[8] = kNan;
      const SampleOut one = sampler.SampleOne(logits, slot, 0);
      EXPECT_EQ(one.token, 7);
      EXPECT_NEAR(one.logprob, 0, 1e-6);
      EXPECT_EQ(one.top_tokens[0], 7);
      EXPECT_EQ(one.top_logprobs[1], -9999);
      logits[9] = kInfinity;
      EXPECT_EQ(sampler.SampleOne(logits, slot, 0).token, 9);
    }
  }
}

TEST(Sample, LogprobsAreOfTheRawLogits) {
  constexpr int32_t kVocab = 1009;
  const std::vector<float> logits = TiedLogits(kVocab, 4);
  const std::vector<double> expected = reference::LogSoftmax(logits);
  std::vector<int32_t> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const std::vector<std::pair<int32_t, float>> bias = {{order[30], 100}};
  std::vector<float> of_first_setting;
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    Sampler sampler(setting, 1, kVocab);
    std::vector<float> logprobs;
    for (const int32_t num_logprobs : {-1, 0, 1, 5, 20}) {
      const SlotView slot{
          .temperature = 0.5F, .num_logprobs = num_logprobs, .bias = bias.data(), .num_bias = 1};
      const SampleOut out = sampler.SampleOne(logits, slot, 0);
      EXPECT_EQ(out.token, order[30]);
      EXPECT_EQ(out.num_top, std::max(num_logprobs, 0));
      if (num_logprobs >= 0) {
        EXPECT_NEAR(out.logprob, expected[static_cast<size_t>(out.token)], 2e-6);
      }
      for (int32_t i = 0; i < out.num_top; ++i) {
        EXPECT_EQ(out.top_tokens[i], order[static_cast<size_t>(i)]);
        EXPECT_NEAR(out.top_logprobs[i],
                    expected[static_cast<size_t>(order[static_cast<size_t>(i)])], 2e-6);
        logprobs.push_back(out.top_logprobs[i]);
      }
    }
    if (of_first_setting.empty()) of_first_setting = logprobs;
    EXPECT_EQ(logprobs, of_first_setting) << "every form has the same bits";
  }
  Sampler tiny({BestCpuIsa(), 1}, 1, 2);
  EXPECT_EQ(tiny.SampleOne(std::vector<float>{1, 2}, {.num_logprobs = 20}, 0).num_top, 2);
}

// The slots of the next test: every kind of filter, with and without penalties.
std::vector<SlotView> ManySlots(int32_t count, std::span<const int32_t> history) {
  std::vector<SlotView> slots;
  for (int32_t i = 0; i < count; ++i) {
    SlotView slot;
    slot.slot = i;
    slot.seed = static_cast<uint64_t>(i) * 77 + 1;
    slot.choice = static_cast<uint32_t>(i % 3);
    slot.temperature = static_cast<float>(i % 5) * 0.6F;
    slot.top_k = i % 4 == 1 ? 50 * i : 0;
    slot.top_p = i % 3 == 1 ? 0.9F : 1;
    slot.min_p = i % 7 == 2 ? 0.01F : 0;
    slot.num_logprobs = i % 4 - 1;
    slot.repetition_penalty = i % 2 == 0 ? 1.2F : 1;
    slot.prompt_tokens = history.data();
    slot.num_prompt_tokens = static_cast<int32_t>(history.size());
    slots.push_back(slot);
  }
  return slots;
}

TEST(Sample, ResultsDoNotDependOnFormThreadsOrNeighbours) {
  constexpr int32_t kVocab = 49152;
  constexpr int32_t kRows = 16;
  const std::vector<int32_t> history = {5, 600, 7000, 49151};
  const std::vector<SlotView> slots = ManySlots(kRows, history);
  std::vector<float> logits;
  std::vector<int32_t> indexes(kRows);
  std::iota(indexes.begin(), indexes.end(), 0);
  const std::vector<int32_t> num_output_tokens(kRows, 3);
  for (int32_t i = 0; i < kRows; ++i) {
    const std::vector<float> row = TiedLogits(kVocab, static_cast<uint32_t>(i));
    logits.insert(logits.end(), row.begin(), row.end());
  }
  std::vector<SampleOut> first;
  const auto expect_equal = [](const SampleOut& a, const SampleOut& b) {
    EXPECT_EQ(a.token, b.token);
    EXPECT_EQ(a.logprob, b.logprob);
    EXPECT_TRUE(
        std::equal(a.top_logprobs, a.top_logprobs + std::max(a.num_top, 0), b.top_logprobs));
  };
  for (const CpuSetting& setting : CpuSettings()) {
    SCOPED_TRACE(ToString(setting));
    Sampler sampler(setting, kRows, kVocab);
    for (const SlotView& slot : slots) sampler.Init(slot);
    const std::vector<SampleOut> out = sampler.Sample(logits, indexes, num_output_tokens);
    if (first.empty()) first = out;
    for (size_t i = 0; i < kRows; ++i) expect_equal(out[i], first[i]);
  }
  Sampler sampler({BestCpuIsa(), 1}, kRows, kVocab);
  for (size_t i = 0; i < kRows; ++i) {
    const auto row = std::span(logits).subspan(i * kVocab, kVocab);
    expect_equal(sampler.SampleOne(row, slots[i], 3), first[i]);
  }
}

TEST(Sample, SlotsAndTokensOutOfRangeAreNotFollowed) {
  const auto ops = MakeCpuOps({BestCpuIsa(), 1});
  EXPECT_EQ(ops->AllocateSlots(0, 10).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ops->AllocateSlots(1, (1 << 18) + 1).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(ops->AllocateSlots(2, 10).ok());
  ops->BeginStep(BatchView());
  ops->InitSlot({.slot = 2});
  EXPECT_EQ(ops->Finish().code(), absl::StatusCode::kOutOfRange);
  const std::vector<int32_t> wild = {-1, 10, 1 << 30};
  const std::vector<std::pair<int32_t, float>> bias = {{-5, 1}, {10, 100}};
  ops->BeginStep(BatchView());
  ops->InitSlot({.presence_penalty = 1,
                 .stop_tokens = wild.data(),
                 .num_stop_tokens = 3,
                 .bias = bias.data(),
                 .num_bias = 2,
                 .prompt_tokens = wild.data(),
                 .num_prompt_tokens = 3,
                 .output_tokens = wild.data(),
                 .num_output_tokens = 3});
  EXPECT_TRUE(ops->Finish().ok());
}

}  // namespace
}  // namespace sluice
