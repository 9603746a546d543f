// Promise 3 through the scheduler: preemption, prefix hits and neighbours leave a sequence's logit
// bytes and tokens as they are when it runs alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "scheduler/scheduler.h"
#include "tests/executor/truncated_model.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 16, kMaxLen = 512;

// What a sequence was sampled from at each context length, and its tokens.
struct Trace {
  std::map<int32_t, std::vector<float>> logits;
  std::vector<TokenId> tokens;
  int32_t num_cached_tokens = 0;
};

class Server {
 public:
  Server(const ModelFile& model, int32_t num_blocks, bool prefix_cache, int32_t max_step_tokens)
      : scheduler_({.max_rows = 32,
                    .max_step_tokens = max_step_tokens,
                    .kv_block_tokens = kBlockTokens,
                    .num_kv_blocks = num_blocks,
                    .max_model_len = kMaxLen,
                    .prefix_cache = prefix_cache}) {
    ModelExecutorOptions options;
    options.limits = {max_step_tokens, 32, kMaxLen, kBlockTokens, num_blocks};
    options.logits_tap = [this](const BatchPlan& plan, Tensor logits) { Record(plan, logits); };
    executor_ = MakeExecutor(model, {.threads = 1}, std::move(options));
  }

  void Add(SequenceId id, std::vector<TokenId> prompt, const SamplingParams& sampling,
           int32_t max_output_tokens) {
    SequenceSpec spec;
    spec.id = id;
    spec.sampling = std::make_shared<SamplingParams>(sampling);
    spec.prompt_tokens = std::move(prompt);
    spec.max_output_tokens = max_output_tokens;
    ASSERT_TRUE(scheduler_.Add(std::move(spec)).ok());
  }

  void RunToTheEnd() {
    while (scheduler_.HasSequences()) {
      ScheduleResult scheduled = scheduler_.Schedule(absl::UnixEpoch());
      ASSERT_FALSE(scheduled.plan.empty());
      const StepId step = scheduled.plan.step;
      ASSERT_TRUE(executor_->Submit(std::move(scheduled.plan)).ok());
      const auto result = executor_->Wait(step);
      ASSERT_TRUE(result.ok()) << result.status();
      for (const SequenceUpdate& update : scheduler_.Apply(*result)) {
        Trace& trace = traces_[update.sequence];
        for (const SampledToken& token : update.tokens) trace.tokens.push_back(token.token);
        trace.num_cached_tokens = std::max(trace.num_cached_tokens, update.num_cached_tokens);
      }
    }
  }

  [[nodiscard]] const Trace& trace(SequenceId id) const { return traces_.at(id); }
  [[nodiscard]] SchedulerStats stats() const { return scheduler_.stats(); }

 private:
  void Record(const BatchPlan& plan, Tensor logits) {
    int32_t output = 0;
    for (int32_t r = 0; r < plan.num_rows(); ++r) {
      if (plan.rows[r].output != RowOutput::kSample) continue;
      const float* row = logits.row(output++);
      traces_[plan.rows[r].sequence].logits[plan.context_len[r]].assign(row, row + logits.cols);
    }
  }

  Scheduler scheduler_;
  std::unique_ptr<ModelExecutor> executor_;
  std::map<SequenceId, Trace> traces_;
};

std::vector<TokenId> Prompt(uint32_t sequence, uint32_t size) {
  std::vector<TokenId> tokens;
  for (uint32_t p = 0; p < size; ++p)
    tokens.push_back(static_cast<TokenId>((sequence * 977 + p * 3571 + 5) % 49000));
  return tokens;
}

// Every other sequence is greedy, the others sample with penalties: their slot must be rebuilt
// after a preemption.
SamplingParams SamplingOf(SequenceId id) {
  if (id % 2 == 0) return {.temperature = 0};
  return {.temperature = 1,
          .top_p = 0.9F,
          .repetition_penalty = 1.2F,
          .frequency_penalty = 0.3F,
          .seed = 40 + id};
}

void ExpectSame(const Trace& got, const Trace& want, SequenceId id) {
  EXPECT_EQ(got.tokens, want.tokens) << "sequence " << id;
  for (const auto& [context, logits] : want.logits) {
    const auto it = got.logits.find(context);
    ASSERT_TRUE(it != got.logits.end() && it->second == logits)
        << "sequence " << id << ", context " << context;
  }
}

class Recompute : public ::testing::Test {
 protected:
  Recompute() : model_(OpenTruncatedModel(1)) {}

  Trace Alone(SequenceId id, uint32_t prompt_size, int32_t num_output) {
    Server server(model_, kMaxLen / kBlockTokens, false, 512);
    server.Add(id, Prompt(static_cast<uint32_t>(id), prompt_size), SamplingOf(id), num_output);
    server.RunToTheEnd();
    return server.trace(id);
  }

  ModelFile model_;
};

TEST_F(Recompute, PreemptionDoesNotChangeLogitsOrTokens) {
  constexpr int32_t kNumOutput = 40;
  const std::vector<uint32_t> prompt_sizes = {20, 70, 33, 5, 48, 64};
  // 6 sequences need about 31 blocks at their ends; 16 are there. Chunks of at most 50 tokens.
  for (const bool prefix_cache : {false, true}) {
    Server server(model_, 16, prefix_cache, 50);
    for (size_t i = 0; i < prompt_sizes.size(); ++i) {
      server.Add(i + 1, Prompt(static_cast<uint32_t>(i + 1), prompt_sizes[i]), SamplingOf(i + 1),
                 kNumOutput);
    }
    server.RunToTheEnd();
    EXPECT_GT(server.stats().num_preemptions, 0);
    for (size_t i = 0; i < prompt_sizes.size(); ++i) {
      ASSERT_EQ(server.trace(i + 1).tokens.size(), static_cast<size_t>(kNumOutput));
      ExpectSame(server.trace(i + 1), Alone(i + 1, prompt_sizes[i], kNumOutput), i + 1);
    }
  }
}

TEST_F(Recompute, PrefixHitsDoNotChangeLogitsOrTokens) {
  Server server(model_, 128, true, 512);
  const std::vector<TokenId> prompt = Prompt(1, 300);
  server.Add(1, prompt, SamplingOf(2), 20);
  server.RunToTheEnd();
  server.Add(2, prompt, SamplingOf(2), 20);
  server.RunToTheEnd();
  EXPECT_EQ(server.trace(1).num_cached_tokens, 0);
  EXPECT_EQ(server.trace(2).num_cached_tokens, 288);  // whole blocks before the last prompt token
  ExpectSame(server.trace(2), server.trace(1), 2);
  // A prompt that shares only its first 100 tokens, beside two that share all.
  std::vector<TokenId> other = prompt;
  for (size_t i = 100; i < other.size(); ++i) other[i] += 1;
  server.Add(3, other, SamplingOf(2), 20);
  server.Add(4, prompt, SamplingOf(2), 20);
  server.Add(5, prompt, SamplingOf(5), 20);
  server.RunToTheEnd();
  EXPECT_EQ(server.trace(3).num_cached_tokens, 96);
  ExpectSame(server.trace(4), server.trace(1), 4);
  Server fresh(model_, 128, false, 512);
  fresh.Add(3, other, SamplingOf(2), 20);
  fresh.RunToTheEnd();
  ExpectSame(server.trace(3), fresh.trace(3), 3);
  fresh.Add(5, prompt, SamplingOf(5), 20);
  fresh.RunToTheEnd();
  ExpectSame(server.trace(5), fresh.trace(5), 5);
}

TEST_F(Recompute, ThirtyOneNeighboursDoNotChangeLogitsOrTokens) {
  Server server(model_, 300, true, 128);
  for (SequenceId id = 1; id <= 32; ++id) {
    server.Add(id, Prompt(static_cast<uint32_t>(id), static_cast<uint32_t>(10 + id * 3)),
               SamplingOf(id), 24);
  }
  server.RunToTheEnd();
  for (const SequenceId id : {1, 2, 17, 32}) {
    ExpectSame(server.trace(id), Alone(id, static_cast<uint32_t>(10 + id * 3), 24), id);
  }
}

}  // namespace
}  // namespace sluice
