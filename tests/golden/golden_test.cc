// The real model on the CPU backend against transformers in float32 on the same dequantised
// weights. What differs: our activations are rounded to int8 for each quantised product and keys
// and values to f16.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <vector>

#include "absl/strings/str_join.h"
#include "base/check.h"
#include "executor/model_executor.h"
#include "kernels/cpu/cpu_ops.h"
#include "model/model_file.h"
#include "tests/executor/plan_builder.h"
#include "tests/golden/golden_files.h"
#include "tests/model/real_model.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 16, kMaxTokens = 1536, kMaxRows = 32, kNumBlocks = 256;
// Where the oracle's best two logits are nearer than this, rounding may swap them: three standard
// deviations of the difference of two logits whose error is kRmsLogitError each (measured,
// docs/performance.md).
constexpr double kRmsLogitError = 0.12;
constexpr double kMaxGapToDiffer = 3 * 1.4142 * kRmsLogitError;

// Feeds each sequence its given tokens one at a time, all sequences in one step, and shows every
// row of logits.
class TeacherForcing {
 public:
  using Sink = std::function<void(size_t sequence, size_t position, const float* logits)>;

  explicit TeacherForcing(const std::string& path) {
    auto model = ModelFile::Open(path);
    SLUICE_CHECK(model.ok(), "{}", model.status().ToString());
    model_ = *std::move(model);
    auto ops = CreateCpuOps({.threads = 1});
    SLUICE_CHECK(ops.ok(), "{}", ops.status().ToString());
    ModelExecutorOptions options;
    options.limits = {kMaxTokens, kMaxRows, kMaxTokens, kBlockTokens, kNumBlocks};
    options.logits_tap = [this](const BatchPlan& plan, Tensor logits) {
      for (int32_t i = 0; i < logits.rows; ++i) {
        sink_(plan.rows[i].sequence, plan.context_len[i] - 1, logits.row(i));
      }
    };
    auto executor = ModelExecutor::Create(model_, *std::move(ops), std::move(options));
    SLUICE_CHECK(executor.ok(), "{}", executor.status().ToString());
    executor_ = *std::move(executor);
  }

  // The first num_together[s] tokens of sequence s are computed in one step, the others one by one.
  void Run(const std::vector<std::vector<TokenId>>& sequences,
           const std::vector<size_t>& num_together, Sink sink) {
    sink_ = std::move(sink);
    std::vector<size_t> done(sequences.size(), 0);
    std::vector<BlockId> first_block = {0};
    for (const auto& tokens : sequences) {
      const auto size = static_cast<int32_t>(tokens.size());
      first_block.push_back(first_block.back() + (size + kBlockTokens - 1) / kBlockTokens);
    }
    ASSERT_LE(first_block.back(), kNumBlocks);
    for (StepId step = 1;; ++step) {
      PlanBuilder plan(step);
      bool any = false;
      for (size_t s = 0; s < sequences.size(); ++s) {
        const size_t end =
            std::min(done[s] == 0 ? num_together[s] : done[s] + 1, sequences[s].size());
        if (done[s] == end) continue;
        any = true;
        const auto begin = sequences[s].begin();
        const std::vector<TokenId> tokens(begin + static_cast<std::ptrdiff_t>(done[s]),
                                          begin + static_cast<std::ptrdiff_t>(end));
        const auto slot = static_cast<int32_t>(s);
        if (done[s] == 0) plan.InitGreedySlot(slot);
        plan.AddRow({.sequence = s, .slot = slot, .output = RowOutput::kSample}, tokens,
                    static_cast<int32_t>(done[s]),
                    BlocksFor(first_block[s], static_cast<int32_t>(end), kBlockTokens));
        done[s] = end;
      }
      if (!any) return;
      ASSERT_TRUE(executor_->Submit(plan.Take()).ok());
      const auto result = executor_->Wait(step);
      ASSERT_TRUE(result.ok()) << result.status();
    }
  }

  [[nodiscard]] int32_t vocab_size() const { return model_.config.vocab_size; }

 private:
  ModelFile model_;
  std::unique_ptr<ModelExecutor> executor_;
  Sink sink_;
};

TEST(Greedy, EqualsTheOracleForEightPrompts) {
  const std::vector<GreedyGolden> goldens = ReadGreedyGoldens();
  ASSERT_EQ(goldens.size(), 8U);
  TeacherForcing model(RealModelPath());
  std::vector<std::vector<TokenId>> sequences;
  std::vector<size_t> prompt_sizes;
  for (const GreedyGolden& golden : goldens) {
    sequences.push_back(golden.prompt);
    sequences.back().insert(sequences.back().end(), golden.output.begin(), golden.output.end() - 1);
    prompt_sizes.push_back(golden.prompt.size());
  }
  int num_equal = 0, num_close = 0;
  // The oracle's tokens are fed on after a difference, so that every position is compared.
  model.Run(sequences, prompt_sizes, [&](size_t s, size_t position, const float* logits) {
    const size_t i = position + 1 - prompt_sizes[s];
    const auto token =
        static_cast<TokenId>(std::max_element(logits, logits + model.vocab_size()) - logits);
    if (token == goldens[s].output[i]) {
      ++num_equal;
      return;
    }
    ++num_close;
    std::printf(
        "prompt %zu, output %zu: ours %d, oracle %d; the oracle's top-2 gap there is %.4f, ours "
        "%.4f\n",
        s, i, token, goldens[s].output[i], goldens[s].gaps[i],
        logits[token] - logits[goldens[s].output[i]]);
    EXPECT_LE(goldens[s].gaps[i], kMaxGapToDiffer) << "beyond what rounding explains";
  });
  std::printf("%d of %d greedy tokens equal\n", num_equal, num_equal + num_close);
  EXPECT_EQ(num_equal + num_close, 8 * 64);
  EXPECT_GE(num_equal, 492) << "less than 96 % of the tokens";
}

// What tests/cuda_model, which has no CPU kernel, compares the CUDA backend with. Where this fails
// because the CPU backend has changed, the lines it prints are the file's new ones.
TEST(Greedy, OfTheCpuBackendIsAsItsFileSays) {
  const std::vector<GreedyGolden> goldens = ReadGreedyGoldens("cpu_greedy.txt");
  TeacherForcing model(RealModelPath());
  std::vector<std::vector<TokenId>> sequences;
  std::vector<size_t> prompt_sizes;
  for (const GreedyGolden& golden : goldens) {
    sequences.push_back(golden.prompt);
    sequences.back().insert(sequences.back().end(), golden.output.begin(), golden.output.end() - 1);
    prompt_sizes.push_back(golden.prompt.size());
  }
  std::vector<GreedyGolden> found(goldens.size());
  model.Run(sequences, prompt_sizes, [&](size_t s, size_t, const float* logits) {
    const float* const end = logits + model.vocab_size();
    const float* const best = std::max_element(logits, end);
    const float second =
        std::max(*std::max_element(logits, best), *std::max_element(best + 1, end));
    found[s].output.push_back(static_cast<TokenId>(best - logits));
    found[s].gaps.push_back(*best - second);
  });
  for (size_t s = 0; s < goldens.size(); ++s) {
    EXPECT_EQ(found[s].output, goldens[s].output)
        << "output " << absl::StrJoin(found[s].output, " ");
    EXPECT_THAT(found[s].gaps, testing::Pointwise(testing::FloatNear(1e-4F), goldens[s].gaps))
        << "gap " << absl::StrJoin(found[s].gaps, " ");
  }
}

double LogSumExp(const float* logits, int32_t size) {
  const double max = *std::max_element(logits, logits + size);
  double sum = 0;
  for (int32_t i = 0; i < size; ++i) sum += std::exp(logits[i] - max);
  return max + std::log(sum);
}

// KL(oracle || ours) over the oracle's best tokens and one bucket for all others: a lower bound of
// the full KL.
double TruncatedKl(const std::vector<std::pair<TokenId, float>>& top, const float* logits,
                   double log_sum) {
  double kl = 0, p_rest = 1, q_rest = 1;
  for (const auto& [token, log_p] : top) {
    const double log_q = logits[token] - log_sum;
    kl += std::exp(log_p) * (log_p - log_q);
    p_rest -= std::exp(log_p);
    q_rest -= std::exp(log_q);
  }
  return p_rest > 1e-9 && q_rest > 1e-9 ? kl + p_rest * std::log(p_rest / q_rest) : kl;
}

struct TeacherCase {
  const char* name;
  const char* golden;
  std::string path;  // of the model
  size_t num_positions;
};

class TeacherForced : public ::testing::TestWithParam<TeacherCase> {};

TEST_P(TeacherForced, DistributionsAreTheOraclesWithinRounding) {
  const std::vector<TeacherSegment> segments = ReadTeacherSegments(GetParam().golden);
  std::vector<std::vector<TokenId>> sequences;
  // Segments sampled from one prompt begin alike: what repeats the segment before is not counted
  // again.
  std::vector<size_t> num_repeated(segments.size(), 0);
  size_t num_positions = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    const std::vector<TokenId>& tokens = segments[s].tokens;
    if (s > 0) {
      const auto [end, unused] = std::ranges::mismatch(tokens, segments[s - 1].tokens);
      num_repeated[s] = static_cast<size_t>(end - tokens.begin());
    }
    num_positions += tokens.size() - num_repeated[s];
    sequences.push_back(tokens);
  }
  ASSERT_GE(num_positions, GetParam().num_positions);
  TeacherForcing model(GetParam().path);
  std::vector<double> kl(segments.size());
  std::vector<size_t> num_same(segments.size());
  const int32_t vocab = model.vocab_size();
  model.Run(sequences, std::vector<size_t>(sequences.size(), 1),
            [&](size_t s, size_t position, const float* logits) {
              if (position < num_repeated[s]) return;
              const auto& top = segments[s].top[position];
              kl[s] += TruncatedKl(top, logits, LogSumExp(logits, vocab));
              num_same[s] +=
                  std::max_element(logits, logits + vocab) - logits == top[0].first ? 1 : 0;
            });
  double all_kl = 0;
  size_t all_same = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    const auto size = static_cast<double>(segments[s].tokens.size() - num_repeated[s]);
    std::printf("segment %zu: %.0f positions, mean KL >= %.3e, top-1 agreement %.2f %%\n", s, size,
                kl[s] / size, 100 * static_cast<double>(num_same[s]) / size);
    all_kl += kl[s];
    all_same += num_same[s];
  }
  const double mean_kl = all_kl / static_cast<double>(num_positions);
  const double agreement = static_cast<double>(all_same) / static_cast<double>(num_positions);
  std::printf("all: mean KL >= %.3e, top-1 agreement %.2f %%\n", mean_kl, 100 * agreement);
  EXPECT_LE(mean_kl, 4e-3);
  EXPECT_GE(agreement, 0.96);
}

INSTANTIATE_TEST_SUITE_P(
    Models, TeacherForced,
    ::testing::Values(TeacherCase{"SmolLM2", "teacher.bin", RealModelPath(), 2000},
                      TeacherCase{"Gemma3", "gemma3/teacher.bin", Gemma3Path(), 1200}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sluice
