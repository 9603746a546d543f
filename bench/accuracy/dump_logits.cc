// The logits of every position of given texts, for bench/accuracy/perplexity.py: token ids of one
// text a line on stdin, f32 [tokens][vocabulary] for each on stdout. Tokens are computed one by
// one, as in generation.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "executor/model_executor.h"
#include "kernels/cpu/cpu_ops.h"
#include "model/model_file.h"
#include "tests/executor/plan_builder.h"

namespace sluice {
namespace {

constexpr int32_t kBlockTokens = 16, kMaxTokens = 4096;

int Fail(const absl::Status& status) {
  fmt::print(stderr, "{}\n", status.ToString());
  return 1;
}

absl::Status Run(Executor& executor, const std::vector<TokenId>& tokens, StepId& step) {
  for (int32_t i = 0; i < static_cast<int32_t>(tokens.size()); ++i) {
    PlanBuilder plan(++step);
    if (i == 0) plan.InitGreedySlot(0);
    plan.AddRow({.sequence = 1, .slot = 0, .output = RowOutput::kSample},
                {tokens[static_cast<size_t>(i)]}, i, BlocksFor(0, i + 1, kBlockTokens));
    if (absl::Status submitted = executor.Submit(plan.Take()); !submitted.ok()) return submitted;
    if (auto result = executor.Wait(step); !result.ok()) return result.status();
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    fmt::print(stderr, "usage: dump_logits MODEL [threads] < IDS > LOGITS\n");
    return 2;
  }
  auto file = ModelFile::Open(argv[1]);
  if (!file.ok()) return Fail(file.status());
  auto ops = CreateCpuOps({.threads = argc > 2 ? std::atoi(argv[2]) : 0});
  if (!ops.ok()) return Fail(ops.status());
  ModelExecutorOptions options;
  options.limits = {.max_step_tokens = 1,
                    .max_rows = 1,
                    .max_model_len = kMaxTokens,
                    .kv_block_tokens = kBlockTokens,
                    .num_kv_blocks = kMaxTokens / kBlockTokens};
  options.logits_tap = [](const BatchPlan&, Tensor logits) {
    std::fwrite(logits.data, sizeof(float), static_cast<size_t>(logits.cols), stdout);
  };
  auto executor = ModelExecutor::Create(*file, *std::move(ops), std::move(options));
  if (!executor.ok()) return Fail(executor.status());
  StepId step = 0;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::vector<TokenId> tokens;
    for (TokenId token = 0; in >> token;) tokens.push_back(token);
    if (tokens.size() > kMaxTokens) return Fail(absl::InvalidArgumentError("a text is too long"));
    if (absl::Status ran = Run(**executor, tokens, step); !ran.ok()) return Fail(ran);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
