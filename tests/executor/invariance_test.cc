// Promise 3 on the real model's weights: the logit bytes of a sequence do not depend on its
// neighbours, on how its prompt was cut into chunks, on threads or on the instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "executor/model_executor.h"
#include "kernels/cpu/isa.h"
#include "tests/executor/plan_builder.h"
#include "tests/executor/truncated_model.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 16, kMaxRows = 129;
constexpr int32_t kNeighbourBlocks = 3, kMaxPrompt = 544;
constexpr SequenceId kTarget = 1000;

using Logits = std::vector<float>;

bool SameBytes(const Logits& a, const Logits& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Any fixed tokens will do; these differ by sequence and position.
TokenId TokenAt(uint32_t sequence, uint32_t position) {
  return static_cast<TokenId>((sequence * 7919 + position * 104729 + 13) % 49152);
}

std::vector<TokenId> Tokens(uint32_t sequence, int32_t begin, int32_t end) {
  std::vector<TokenId> tokens;
  for (int32_t p = begin; p < end; ++p)
    tokens.push_back(TokenAt(sequence, static_cast<uint32_t>(p)));
  return tokens;
}

// One executor with a target sequence of prompt_size tokens and up to 128 neighbours.
class Bench {
 public:
  Bench(const ModelFile& model, const CpuOpsOptions& cpu) {
    ModelExecutorOptions options;
    const int32_t blocks = kMaxRows * kNeighbourBlocks + kMaxPrompt / kBlockTokens;
    options.limits = {kMaxPrompt + 4 * kMaxRows, kMaxRows, kMaxPrompt, kBlockTokens, blocks};
    options.logits_tap = [this](const BatchPlan& plan, Tensor logits) {
      int32_t output = 0;
      for (const Row& row : plan.rows) {
        if (row.output != RowOutput::kSample) continue;
        if (row.sequence == kTarget)
          logits_.assign(logits.row(output), logits.row(output) + logits.cols);
        ++output;
      }
    };
    executor_ = MakeExecutor(model, cpu, std::move(options));
  }

  // The target's tokens [begin, end) among num_rows - 1 neighbours. Returns the logits after its
  // last token.
  Logits Step(int32_t begin, int32_t end, int32_t num_rows) {
    PlanBuilder plan(++step_);
    // The target stands in the middle; its slot and place change with the number of rows.
    for (int32_t r = 0; r < num_rows; ++r) {
      if (r == num_rows / 2) {
        plan.InitGreedySlot(r).AddRow(
            {.sequence = kTarget, .slot = r, .output = RowOutput::kSample},
            Tokens(kTarget, begin, end), begin,
            BlocksFor(kMaxRows * kNeighbourBlocks, end, kBlockTokens));
      } else {
        AddNeighbour(r, plan);
      }
    }
    EXPECT_TRUE(executor_->Submit(plan.Take()).ok());
    const auto result = executor_->Wait(step_);
    EXPECT_TRUE(result.ok()) << result.status();
    return logits_;
  }

  // Computes the target's first `size` tokens, alone, in chunks.
  void Prefill(int32_t size, int32_t chunk) {
    for (int32_t begin = 0; begin < size; begin += chunk)
      Step(begin, std::min(begin + chunk, size), 1);
  }

 private:
  // Rows of 1 to 3 new tokens on 0 to 40 cached ones; most sample.
  void AddNeighbour(int32_t r, PlanBuilder& plan) const {
    const int32_t num_new = 1 + (r % 5 == 0 ? 2 : 0), num_cached = r * 11 % 41;
    const RowOutput output = r % 7 == 3 ? RowOutput::kNone : RowOutput::kSample;
    plan.InitGreedySlot(r).AddRow(
        {.sequence = static_cast<SequenceId>(r), .slot = r, .output = output},
        Tokens(static_cast<uint32_t>(r), num_cached, num_cached + num_new), num_cached,
        BlocksFor(r * kNeighbourBlocks, num_cached + num_new, kBlockTokens));
  }

  std::unique_ptr<ModelExecutor> executor_;
  StepId step_ = 0;
  Logits logits_;
};

TEST(Invariance, LogitBytesDoNotDependOnRowsChunksOrThreads) {
  const ModelFile model = OpenTruncatedModel(2);
  constexpr int32_t kPrompt = 530;  // three attention partitions, chunks of 512 with a rest
  Logits after_prompt, after_next;
  {
    Bench alone(model, {.threads = 1});
    after_prompt = alone.Step(0, kPrompt, 1);
    after_next = alone.Step(kPrompt, kPrompt + 1, 1);
  }
  ASSERT_FALSE(SameBytes(after_prompt, after_next));
  for (const int32_t threads : {1, 2}) {
    Bench bench(model, {.threads = threads});
    for (const int32_t chunk : {1, 3, 16, 17, 512}) {
      const int32_t last_begin = (kPrompt - 1) / chunk * chunk;
      bench.Prefill(last_begin, chunk);
      // The last chunk again and again, on the same cached tokens, among more and more rows.
      for (const int32_t rows : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 129}) {
        const std::string where = "threads " + std::to_string(threads) + ", chunk " +
                                  std::to_string(chunk) + ", rows " + std::to_string(rows);
        ASSERT_TRUE(SameBytes(bench.Step(last_begin, kPrompt, rows), after_prompt)) << where;
        ASSERT_TRUE(SameBytes(bench.Step(kPrompt, kPrompt + 1, rows), after_next))
            << where << ", next token";
      }
      // A whole chunk, not only the rest, among rows.
      const int32_t begin = std::max(kPrompt - chunk, 0);
      for (const int32_t rows : {2, 17, 129}) {
        ASSERT_TRUE(SameBytes(bench.Step(begin, kPrompt, rows), after_prompt))
            << "whole chunk " << chunk << ", rows " << rows << ", threads " << threads;
      }
    }
  }
}

TEST(Invariance, LogitBytesAreTheSameInEveryIsaForm) {
  const ModelFile model = OpenTruncatedModel(1);
  constexpr int32_t kPrompt = 273;  // two attention partitions
  Logits first;
  std::string forms;
  for (const CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (!CpuSupports(isa)) continue;  // this CPU cannot run it
    forms += std::string(CpuIsaName(isa)) + " ";
    Bench bench(model, {.isa = isa, .threads = 1});
    const Logits whole = bench.Step(0, kPrompt, 1);
    if (first.empty()) first = whole;
    ASSERT_TRUE(SameBytes(whole, first)) << CpuIsaName(isa);
    ASSERT_TRUE(SameBytes(bench.Step(kPrompt - 1, kPrompt, 9), first)) << CpuIsaName(isa);
  }
  std::printf("forms compared: %s\n", forms.c_str());
}

}  // namespace
}  // namespace sluice
